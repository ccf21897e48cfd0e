"""Answers requests by the version that each belongs to, or by the fallback of that version.

`canary.py` decides which version a user gets, `policies.py` asks it for slates, `circuit_breaker.py` leaves a server alone
that is down, and `fallback.py` says what answers then. Every request carries the popularity of this second.
"""
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

from tfrec.client import deadline
from tfrec.client.client import Client
from tfrec.client.request_errors import InputNotServed, LabelNotServed, RequestFailed
from tfrec.client.results import Explanation, Recommendation
from tfrec.config import GatewayConfig
from tfrec.gateway.grouping import answer_by_group
from tfrec.gateway.metrics import Metrics
from tfrec.gateway.popularity_by_label import PopularityByLabel
from tfrec.gateway.routing.canary import Canary, Route
from tfrec.gateway.routing.circuit_breaker import CircuitBreaker
from tfrec.gateway.routing.fallback import ANSWERS, is_outage, other_route, slate_without_model
from tfrec.gateway.routing.policies import ask_for_slates, history_inputs_of
from tfrec.gateway.routing.slate_request import SlateAnswer, SlateRequest

log = logging.getLogger(__name__)

_WARN_SECONDS = 10.0  # between two log lines about one fallback: an outage has many requests
_CLOCK_SKEW = 0.01  # seconds that gRPC's clock may be ahead

S = TypeVar("S")
T = TypeVar("T")
Ask = Callable[[Route, Sequence[S]], list[T]]  # asks one version about a batch


@contextmanager
def _within_the_call() -> Iterator[None]:
    """Raise `CallEnded` for a timeout that is the end of the caller's own time, not a fault of the model server."""
    try:
        yield
    except RequestFailed as error:
        if error.code == "DEADLINE_EXCEEDED":
            deadline.check(within=_CLOCK_SKEW)
        raise


class Router:
    """Routes requests to the versions of one model server. Safe to share between threads.

    Args:
        client: of the model server.
        config: labels, shares, batch size and the exploring policy.
        popularity: live popularity of each label.
        metrics: counts answers and fallbacks.
        clock: monotonic seconds.
        wall: seconds since 1970. Popularity and epsilon follow this clock, never the time that a request claims.
    """

    def __init__(
        self, client: Client, config: GatewayConfig, *, popularity: PopularityByLabel, metrics: Metrics,
        clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._config = config
        self._popularity = popularity
        self._metrics = metrics
        self._breaker = CircuitBreaker(call_seconds=config.model_timeout_seconds, metrics=metrics, clock=clock)
        self._canary = Canary(config, clock=clock)
        self._clock = clock
        self._wall = wall
        self._warned: dict[str, float] = {}

    @_within_the_call()
    def recommend(self, requests: Sequence[SlateRequest], *, popular: bool = True) -> list[SlateAnswer]:
        """Return a slate for each request.

        Args:
            requests: of any users, in any number.
            popular: whether the most popular items answer while the model server does not. Those that have words of a query do.

        Raises:
            RequestFailed: nothing could answer, or the model server refused the request.
        """
        routes = [self._canary.route(one) for one in requests]
        answers = self._in_batches(routes, requests, partial(self._slates, popular=popular))
        for answer in answers:
            self._metrics.answers.labels(answer.label, answer.version, answer.policy).inc()
            if not answer.items:
                self._metrics.empty.labels(answer.label, answer.version).inc()
        return answers

    @_within_the_call()
    def similar(self, items: Sequence[str], *, k: int, label: str = "") -> list[Recommendation]:
        """Return the `k` nearest items to each of `items`, by the stable version unless a label is named."""

        def ask(route: Route, some: Sequence[str]) -> list[Recommendation]:
            return self._client.similar(some, k=k, label=route.label)

        route = Route(label or self._config.stable_label, explore=False, is_named=bool(label))
        return self._in_batches([route] * len(items), items, partial(self._first_answer, ask))

    @_within_the_call()
    def explain(self, requests: Sequence[SlateRequest], items: Sequence[str]) -> list[Explanation]:
        """Explain the score of each item for the request beside it, by the version that would answer that request."""

        def ask(route: Route, some: Sequence[tuple[SlateRequest, str]]) -> list[Explanation]:
            inputs = history_inputs_of([one for one, _ in some], self._popularity.override(route.label, self._wall()))
            return self._client.explain(item=[item for _, item in some], label=route.label, **inputs)

        routes = [self._canary.route(one)._replace(explore=False) for one in requests]
        pairs = list(zip(requests, items, strict=True))
        return self._in_batches(routes, pairs, partial(self._first_answer, ask, timeout_counts=False))

    def _in_batches(self, routes: Sequence[Route], asked: Sequence[S], ask: Ask[S, T]) -> list[T]:
        """Answers in the order of `asked`, by calls of `ask` for one route and at most `model_batch` entries each."""

        def in_parts(route: Route, some: Sequence[S]) -> list[T]:
            answers: list[T] = []
            for start in range(0, len(some), self._config.model_batch):
                deadline.check()
                answers += ask(route, some[start : start + self._config.model_batch])
            return answers

        return answer_by_group(routes, asked, in_parts)

    def _slates(self, route: Route, requests: Sequence[SlateRequest], *, popular: bool) -> list[SlateAnswer]:
        try:
            answers = self._first_answer(self._ask_for_slates, route, requests)
        except RequestFailed as error:
            if not is_outage(error):
                raise
            stable = self._popularity.stable
            slates = [slate_without_model(one, stable, now=self._wall(), popular=popular) for one in requests]
            answers = [one for one in slates if one is not None]
            if len(answers) < len(requests):
                raise
            for answer in answers:
                self._warn(answer.policy, "%s: %s", ANSWERS[answer.policy], error)
                self._metrics.fallbacks.labels(answer.policy).inc()
            return answers
        self._popularity.answered(answers[0].label, answers[0].version)
        return answers

    def _ask_for_slates(self, route: Route, requests: Sequence[SlateRequest]) -> list[SlateAnswer]:
        now = self._wall()
        prior = self._popularity.override(route.label, now)
        ask = partial(ask_for_slates, self._client, self._config, route, prior=prior, now=int(now))
        try:
            return ask(requests)
        except InputNotServed as error:
            boosting = sum(bool(one.boosts) for one in requests)
            if not boosting:
                raise
            # an older version: better an answer without boosts than none
            answers = [replace(answer, is_boosted=False) for answer in ask([one.unboosted for one in requests])]
            self._warn("unboosted", "boosts of rules do not hold: %s", error)
            self._metrics.unboosted.inc(boosting)
            return answers

    def _first_answer(self, ask: Ask[S, T], route: Route, some: Sequence[S], *, timeout_counts: bool = True) -> list[T]:
        """The answers by `route`, or by the first of its fallbacks that answers."""
        while True:
            try:
                answers = self._breaker.call(partial(ask, route, some), timeout_counts=timeout_counts)
            except RequestFailed as error:
                other = other_route(route, error, self._config)
                if other is None:
                    raise
                if other.fallback_to == "stable" and isinstance(error, LabelNotServed):
                    self._canary.set_missing(route.label)
                self._warn(other.fallback_to, "%s; its users get %s", other.fallback, other.fallback_to)
                route = other
            else:
                if route.fallback_to:
                    self._metrics.fallbacks.labels(route.fallback_to).inc(len(some))
                return answers

    def _warn(self, fallback_to: str, text: str, *words: object) -> None:
        """Log a fallback, unless it was logged a moment ago."""
        now = self._clock()
        if now - self._warned.get(fallback_to, -_WARN_SECONDS) >= _WARN_SECONDS:
            self._warned[fallback_to] = now
            log.warning(text, *words)

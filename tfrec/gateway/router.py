"""Who answers: the stable version, the canary for a share of the users, and the counts alone when no model does.

Questions in, answers out that say where they come from. A user is always asked of the same label: their keyed hash decides.
What a version answers has the popularity of this second in it (`live_popularity.py`), and the same counts answer when the model
server is down.
"""
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from tfrec.client import deadline
from tfrec.client.client import Client, Explanation, LabelNotServed, Recommendation, RequestFailed, SignatureNotServed
from tfrec.client.inputs import UNKNOWN_AGE, HistoryInputs, RecommendInputs
from tfrec.config import GatewayConfig
from tfrec.gateway.first_seen import FirstSeen
from tfrec.gateway.history import PastEvent
from tfrec.gateway.live_popularity import LivePopularity
from tfrec.gateway.metrics import Metrics
from tfrec.models.popularity_prior import Override

log = logging.getLogger(__name__)

UNKNOWN_TIME = -1
_NOT_EXPLORING = "this version does not explore"
GREEDY, POPULARITY = "greedy", "popularity"
_STABLE, _NEWEST = "stable", "newest"  # with the two above, what a fallback goes to
_FRESH_ITEMS = 200  # whose popularity goes along with every request: about 4 kB
_FAILURES = 3  # calls in a row without an answer, after which the model server counts as down
_DOWN_SECONDS = 1.0  # until it is asked again
_MISSING_SECONDS = 5.0  # until a canary that was not served is asked again
_SAY_SECONDS = 10.0  # between two log lines of one kind
_TICK = 0.01  # seconds that gRPC's clock may be ahead

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """A question as it goes to a model."""

    user: str  # pseudonym
    time: int
    query: str
    k: int
    history: Sequence[PastEvent]  # oldest first
    exclude: Sequence[str]
    allow_tags: Sequence[str]
    deny_tags: Sequence[str]
    label: str  # that the caller named; "": none
    explore: bool
    seed: int  # of what is drawn


@dataclass(frozen=True)
class Answer:
    """What is shown, best first, and where it comes from."""

    items: Sequence[str]
    scores: Sequence[float]
    version: int  # 0: no model
    label: str
    policy: str
    log_propensities: Sequence[float | None]  # None: nobody knows it
    fallback: str | None = None  # why it is not what it should be
    live: Override | None = None  # the popularity that was sent along, where propensities depend on it


class _Way(NamedTuple):
    """Whom to ask and for what, whether the caller named it, and where it is not what it should be, why and what it is."""

    label: str
    explore: bool
    named: bool = False
    instead: str | None = None
    to: str = ""


@contextmanager
def _in_time() -> Iterator[None]:
    """A question that ended with the time of its call is no word about the model server: `CallEnded` then."""
    try:
        yield
    except RequestFailed as error:
        if error.code == "DEADLINE_EXCEEDED":
            deadline.check(within=_TICK)
        raise


class Models:
    """Safe to share between threads.

    Args:
        version_dir: the directory of a version; of the one that will answer, when it is not known yet (None).
        clock: seconds that only grow.
        wall: seconds since 1970. By it the counts roll on and epsilon falls: the time that a request claims is its own affair.
    """

    def __init__(
        self, client: Client, config: GatewayConfig, *, metrics: Metrics, version_dir: Callable[[int | None], Path | None],
        fresh_items: int = _FRESH_ITEMS, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._wall = wall
        self._versions: dict[str, int] = {}  # that answered last, by label
        labels = {config.stable_label, config.canary_label} if config.canary_share else {config.stable_label}
        self._first_seen = FirstSeen()
        self._fresh = {
            label: LivePopularity(partial(self._version_dir, label, version_dir), limit=fresh_items, users=config.live_users,
                             first_seen=self._first_seen) for label in labels
        }
        stable = self._fresh[config.stable_label]
        metrics.damped.labels("few").set_function(lambda: stable.damped().held)
        metrics.damped.labels("newcomers").set_function(lambda: stable.damped().newcomers)
        self._failures = 0  # in a row
        self._down_until = self._missing_until = 0.0
        self._last: RequestFailed | None = None
        self._said: dict[str, float] = {}

    def meet(self, users: Collection[str], since: Collection[int]) -> None:
        """Know users since these seconds."""
        self._first_seen.fill(users, since)

    def observe(self, users: Collection[str], items: Collection[str], times: Collection[int]) -> None:
        """Count items as chosen by these users at these seconds."""
        for fresh in self._fresh.values():
            fresh.observe(users, items, times)

    @_in_time()
    def recommend(self, asked: Sequence[Question], *, popular: bool = True) -> list[Answer]:
        """An answer for each, by few calls of the models.

        Args:
            popular: answer by the counts alone when the model server does not.

        Raises:
            RequestFailed: nobody answered, or the model server refused the question.
        """
        places: dict[_Way, list[int]] = {}
        for place, one in enumerate(asked):
            places.setdefault(self._way(one), []).append(place)
        answers: dict[int, Answer] = {}
        for way, mine in places.items():
            for start in range(0, len(mine), self._config.model_batch):
                deadline.check()
                some = mine[start : start + self._config.model_batch]
                answers |= zip(some, self._by(way, [asked[i] for i in some], popular=popular), strict=True)
        for answer in answers.values():
            self._metrics.answers.labels(answer.label, answer.version, answer.policy).inc()
            if not answer.items:
                self._metrics.empty.labels(answer.label, answer.version).inc()
        return [answers[place] for place in range(len(asked))]

    @_in_time()
    def similar(self, items: Sequence[str], *, k: int, label: str = "") -> list[Recommendation]:
        """The `k` items nearest to each; by the stable version unless a label is named."""
        way = _Way(label or self._config.stable_label, explore=False, named=bool(label))

        def ask(way: _Way, some: Sequence[str]) -> list[Recommendation]:
            return self._client.similar(some, k=k, label=way.label)

        found: list[Recommendation] = []
        for start in range(0, len(items), self._config.model_batch):
            deadline.check()
            found += self._first_that_answers(way, ask, items[start : start + self._config.model_batch])[1]
        return found

    @_in_time()
    def explain(self, asked: Sequence[Question], items: Sequence[str]) -> list[Explanation]:
        """Why each item has the score that it has for the question beside it, by the version that would answer that."""

        def ask(way: _Way, some: Sequence[int]) -> list[Explanation]:
            known = self._known(way.label, [asked[place] for place in some])
            return self._client.explain(item=[items[place] for place in some], label=way.label, **known)

        answers: dict[int, Explanation] = {}
        ways = [self._way(one)._replace(explore=False) for one in asked]
        for way in dict.fromkeys(ways):
            mine = [place for place, own in enumerate(ways) if own == way]
            for start in range(0, len(mine), self._config.model_batch):
                deadline.check()
                some = mine[start : start + self._config.model_batch]
                answers |= zip(some, self._first_that_answers(way, ask, some, vital=False)[1], strict=True)
        return [answers[place] for place in range(len(asked))]

    def _version_dir(self, label: str, version_dir: Callable[[int | None], Path | None]) -> Path | None:
        return version_dir(self._versions.get(label))

    def _way(self, one: Question) -> _Way:
        """Whom to ask. A pseudonym is a keyed hash, evenly spread, that a caller cannot choose: it splits the users."""
        if one.label:
            return _Way(one.label, one.explore, named=True)
        if int(one.user[:8], 16) >= self._config.canary_share * 2**32:
            return _Way(self._config.stable_label, one.explore)
        if self._clock() < self._missing_until:
            return _Way(self._config.stable_label, one.explore, instead=_not_served(self._config.canary_label), to=_STABLE)
        return _Way(self._config.canary_label, one.explore)

    def _by(self, way: _Way, asked: Sequence[Question], *, popular: bool) -> list[Answer]:
        try:
            way, found = self._first_that_answers(way, self._ask, asked)
        except RequestFailed as error:
            if not popular or (isinstance(error, LabelNotServed) and way.named) or not (error.down or error.code == "NOT_FOUND"):
                raise
            answers = [one for one in map(self._counted, asked) if one is not None]
            if len(answers) < len(asked):
                raise
            self._say("popularity answers: %s", error)
            self._metrics.fallbacks.labels(POPULARITY).inc(len(asked))
            return answers
        self._versions[way.label] = found[0][0].version
        policy = _named(self._config, self._epsilon()) if way.explore else GREEDY
        return [Answer(one.items, one.scores, one.version, way.label, policy, log_pi, way.instead, live)
                for one, log_pi, live in found]

    def _first_that_answers(
        self, way: _Way, ask: Callable[[_Way, Sequence[S]], list[T]], some: Sequence[S], *, vital: bool = True
    ) -> tuple[_Way, list[T]]:
        """The answer for `some` by this way, or by the first of those that stand in for it; and which it was."""
        while True:
            try:
                found = self._call(partial(ask, way, some), vital=vital)
            except RequestFailed as error:
                other = self._instead(way, error)
                if other is None:
                    raise
                self._say("%s; its users get %s", other.instead, other.to)
                way = other
            else:
                if way.to:
                    self._metrics.fallbacks.labels(way.to).inc(len(some))
                return way, found

    def _instead(self, way: _Way, error: RequestFailed) -> _Way | None:
        """Who answers when this way fails: greedy where a version does not explore, stable for the canary, and the newest version
        while the configured labels are not served, as between the two steps of a change. None: nobody."""
        stable = self._config.stable_label
        if way.explore and isinstance(error, SignatureNotServed):  # a version from before there was exploration
            return way._replace(explore=False, instead=_NOT_EXPLORING, to=GREEDY)
        if way.named or error.down or not way.label:
            return None
        missing = isinstance(error, LabelNotServed)
        if way.label != stable:  # it is the canary that failed
            if missing:
                self._missing_until = self._clock() + _MISSING_SECONDS
            why = _not_served(way.label) if missing else f"{way.label} failed: {error.code}"
            return _Way(stable, way.explore, instead=why, to=_STABLE)
        return _Way("", way.explore, instead=_not_served(stable), to=_NEWEST) if missing else None

    def _counted(self, one: Question) -> Answer | None:
        """The most popular items for someone; None when nothing is counted, or for tags, of which the counts know nothing."""
        if one.allow_tags or one.deny_tags:
            return None
        hidden = set(one.exclude)
        best = self._fresh[self._config.stable_label].popular(self._wall(), one.k + len(hidden))
        if best is None:
            return None
        places = [place for place, item in enumerate(best.ids) if item not in hidden][: one.k]
        # no propensity: an outage chose this policy
        return Answer([best.ids[place] for place in places], best.log_p[places].tolist(), 0, "", POPULARITY, [None] * len(places),
                      "the model server does not answer")

    def _known(self, label: str, asked: Sequence[Question]) -> HistoryInputs:
        fresh = self._fresh.get(label)  # the counts roll on from a version that is known; another label may name any
        return HistoryInputs(
            history=[[event.item for event in one.history] for one in asked],
            history_action=[[event.action for event in one.history] for one in asked],
            history_age_s=[[_age(event, one.time) for event in one.history] for one in asked],
            prior=None if fresh is None else [fresh.override(self._wall())] * len(asked),
            query=[one.query for one in asked],
        )

    def _ask(
        self, way: _Way, asked: Sequence[Question]
    ) -> list[tuple[Recommendation, Sequence[float | None], Override | None]]:
        known = self._known(way.label, asked)
        wanted = RecommendInputs(
            **known,
            exclude=[one.exclude for one in asked],
            allow_tags=[one.allow_tags for one in asked],
            deny_tags=[one.deny_tags for one in asked],
            k=[one.k for one in asked],
        )
        if way.explore:
            sent = known.get("prior") if _is_drawn(self._config) else None
            live: Sequence[Override | None] = sent or [None] * len(asked)
            found = self._exploring_answers(wanted, asked, label=way.label)
            return [(one, log_pi, beside) for (one, log_pi), beside in zip(found, live, strict=True)]
        # each place had one item that could be there, so its probability is 1
        return [(one, [0.0] * len(one.items), None) for one in self._client.recommend(**wanted, label=way.label)]

    def _exploring_answers(
        self, wanted: RecommendInputs, asked: Sequence[Question], *, label: str
    ) -> list[tuple[Recommendation, Sequence[float | None]]]:
        config, seed = self._config, [one.seed for one in asked]
        if _is_drawn(config):
            drawn = self._client.explore(**wanted, label=label, seed=seed, temperature=config.temperature,
                                         epsilon=self._epsilon())
            return [(one, [min(0.0, log_pi) for log_pi in one.log_propensities]) for one in drawn]  # rounding may lift a 0
        if config.policy == "thompson":
            found = self._client.thompson(**wanted, label=label, seed=seed, alpha=config.alpha)
        else:
            found = self._client.linucb(**wanted, label=label, alpha=config.alpha)
        return [(one, [None] * len(one.items)) for one in found]  # nobody can say it exactly (`bandits.py`)

    def _call(self, ask: Callable[[], list[T]], *, vital: bool = True) -> list[T]:
        """The answer of the model server.

        While it counts as down, its last failure at once; then one call asks again, and the others are still told the failure
        until that one knows. What is not `vital`, or had less than the usual time, is no sign that the server is down.
        """
        now, had = self._clock(), deadline.allowed(self._config.model_timeout_seconds)
        if self._last is not None and self._failures >= _FAILURES:
            if now < self._down_until:
                raise RequestFailed(str(self._last), code=self._last.code)
            self._down_until = now + had
        began = time.perf_counter()
        try:
            found = ask()
        except RequestFailed as error:
            self._metrics.model_errors.labels(error.code).inc()
            if not error.down:
                self._failures = 0
            elif error.code != "DEADLINE_EXCEEDED" or (vital and had >= self._config.model_timeout_seconds):
                self._failures += 1
                if self._failures >= _FAILURES:
                    self._last, self._down_until = error, self._clock() + _DOWN_SECONDS
            elif self._failures >= _FAILURES:  # it asked for the others, and had no time for the answer
                self._down_until = self._clock()
            raise
        self._failures = 0
        self._metrics.model_seconds.observe(time.perf_counter() - began)
        return found

    def _epsilon(self) -> float:
        return self._config.epsilon_at(int(self._wall()))

    def _say(self, text: str, *words: object) -> None:
        """A warning, once in a while: an outage has many requests."""
        now = self._clock()
        if now - self._said.get(text, -_SAY_SECONDS) >= _SAY_SECONDS:
            self._said[text] = now
            log.warning(text, *words)


def _not_served(label: str) -> str:
    return f"{label} is not served"


def _is_drawn(config: GatewayConfig) -> bool:
    """Whether the policy that explores knows its propensities."""
    return config.policy == "plackett_luce"


def _named(config: GatewayConfig, epsilon: float) -> str:
    """The exploring policy, as it stands in the log."""
    if _is_drawn(config):
        return f"{config.policy}(temperature={config.temperature:g}, epsilon={epsilon:g})"
    return f"{config.policy}(alpha={config.alpha:g})"


def _age(event: PastEvent, now: int) -> int:
    return UNKNOWN_AGE if event.time == UNKNOWN_TIME else max(0, now - event.time)

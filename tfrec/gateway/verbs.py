"""The verbs of the gateway, for lists of bodies: recommend, search, similar, explain and outcomes.

A slate is logged before it is answered, and an outcome before it is acknowledged. Users are pseudonyms from the first line on,
in memory and on disk.
"""
import logging
import math
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import pyarrow as pa

from tfrec.config import FeaturesConfig
from tfrec.data.behaviour.first_seen import first_seen
from tfrec.data.behaviour.newest_outcomes import first_positives, newest_outcomes
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.data.records import Context, Impression, Outcome, ServedContext, Shown
from tfrec.gateway.arms.answering import answer_by_arms, of_application, under
from tfrec.gateway.arms.assigned import UNASSIGNED, Assigned, Chosen, Experiments
from tfrec.gateway.dedupe import Deduplicator
from tfrec.gateway.fleet.peers import NoPeers, Peers, Recorded
from tfrec.gateway.grouping import answer_by_group
from tfrec.gateway.history import UserHistories
from tfrec.gateway.http.declared_features import DeclaredFeatures
from tfrec.gateway.http.refusal import RequestRefused
from tfrec.gateway.http.schemas import (
    Answered,
    Asked,
    EventWeight,
    ExplainAnswer,
    ExplainRequest,
    OutcomeAnswer,
    OutcomeRequest,
    PreviewRequest,
    RecommendAnswer,
    RecommendRequest,
    SearchRequest,
    SimilarAnswer,
    SimilarRequest,
    TokenWeight,
)
from tfrec.gateway.metrics import Metrics
from tfrec.gateway.popularity_by_label import PopularityByLabel
from tfrec.gateway.routing.known_columns import KnownColumns
from tfrec.gateway.routing.router import Router
from tfrec.gateway.routing.slate_request import SlateAnswer, SlateRequest
from tfrec.gateway.rules.applying import placed
from tfrec.gateway.rules.rules_file import RulesFile
from tfrec.gateway.seen_items import excluded_items, known_history

log = logging.getLogger(__name__)


class Gateway:
    """Answers bodies and keeps records. Safe to share between threads.

    Args:
        writer: of the log.
        router: asks the model server.
        popularity: counts what users choose.
        histories: remembers what each user does.
        pseudonyms: names users in memory and on disk.
        metrics: counts outcomes and records.
        peers: the other gateways of the run; none by default.
        features: what models read of person and moment; by default nothing.
        columns: knows the numeric columns of each version; none by default.
        rules: of the business; none by default.
        heads: actions that the second stage predicts; none by default.
        explore: whether recommendations explore if the request does not say.
        experiments: that run; none by default.
        kept_query: what the log keeps of a query; by default all of it.
        clock: seconds since 1970.
    """

    def __init__(
        self, writer: LogWriter, router: Router, *, popularity: PopularityByLabel, histories: UserHistories,
        pseudonyms: Pseudonyms, metrics: Metrics, peers: Peers | None = None, features: DeclaredFeatures | None = None,
        columns: KnownColumns | None = None, rules: RulesFile | None = None, heads: Sequence[str] = (), explore: bool = False,
        experiments: Experiments | None = None, kept_query: Callable[[str], str] = str, clock: Callable[[], float] = time.time,
    ) -> None:
        self._writer = writer
        self._router = router
        self._popularity = popularity
        self._histories = histories
        self._pseudonyms = pseudonyms
        self._metrics = metrics
        self._dedupe = Deduplicator()
        self._peers = peers or NoPeers()
        self._features = features or DeclaredFeatures(FeaturesConfig())
        self._columns = columns or KnownColumns(lambda _: None)
        self._rules = rules or RulesFile(None, version_dir=lambda: None, metrics=metrics)
        self._heads = tuple(heads)
        self._explore, self._kept_query = explore, kept_query
        self._experiments = experiments
        self._clock = clock
        metrics.log_behind(writer.behind)
        metrics.log_set_aside.set_function(writer.set_aside)
        metrics.peers_gone.set_function(lambda: float(bool(self._peers.problem())))

    def remember(self, feedback: FeedbackLog) -> None:
        """Take up the newest outcomes of the log at the start, before any other.

        Raises:
            DataError: the log cannot be read.
        """
        now, outcomes = int(self._clock()), newest_outcomes(feedback)
        self._dedupe.fill(self._histories.fill(outcomes))
        known = first_seen(outcomes, now=now)
        first = first_positives(outcomes, self._histories.rule, most=self._popularity.stable.remembered)
        log.info("%d outcomes of the log are remembered", outcomes.num_rows)
        del outcomes  # the histories hold what is needed of it
        pa.default_memory_pool().release_unused()
        self._popularity.fill(first, known, now=now)

    def follow_peers(self) -> None:
        """From now on, know what other gateways of the run record. What is in the log must be remembered before."""
        self._peers.follow(self._take)

    def erase(self) -> None:
        """Forget all users who were erased, as the pseudonyms know them by now, in memory and in the write-ahead file.

        Raises:
            DataError: the write-ahead file cannot be written.
        """
        erased_among = self._pseudonyms.erased_among
        self._writer.forget()
        logged = self._histories.erase(erased_among)
        if logged is not None:
            self._dedupe.fill(logged)
        self._dedupe.erase(erased_among)
        self._popularity.erase(erased_among)
        self._features.erase(erased_among)
        self._peers.erase(erased_among)

    def meet(self, known: pa.Table) -> None:
        """Know users (column `user`, each once) since a second (column `time`)."""
        self._popularity.know(known)

    def recommend(self, bodies: Sequence[RecommendRequest]) -> list[RecommendAnswer]:
        """Recommend items to a user. With a `query` this is a personal search.

        The answer is logged. Send its `request_id` with the outcomes that follow.
        """
        return self._slates(bodies, popular=True)

    def search(self, bodies: Sequence[SearchRequest]) -> list[RecommendAnswer]:
        """Search items by a text. With a `user` this is a personal search.

        The answer is logged. Send its `request_id` with the outcomes that follow.
        """
        return self._slates(bodies, popular=False)  # the most popular items are no answer to a search, those with its words are

    def preview(self, bodies: Sequence[PreviewRequest]) -> list[RecommendAnswer]:
        """Show what a user would be answered. It is not logged, so nothing is learnt from it, and outcomes cannot refer to it."""
        return self._slates(bodies, popular=True, is_shown=False)

    def similar(self, bodies: Sequence[SimilarRequest]) -> list[SimilarAnswer]:
        """Find the nearest items to an item. The answer belongs to no user and is not logged.

        It is shorter where a rule excludes some of them.
        """
        found = answer_by_group([(body.k, body.label) for body in bodies], [body.item for body in bodies],
                                lambda key, items: self._router.similar(items, k=key[0], label=key[1]))
        hidden = self._rules.hidden(now=self._clock())
        return [SimilarAnswer(model_version=one.version, items=_ranked(*_without(hidden, one.items, one.scores)))
                for one in found]

    def explain(self, bodies: Sequence[ExplainRequest]) -> list[ExplainAnswer]:
        """Explain the score of an item for a user. Nothing is shown to the user, so nothing is logged."""
        now = int(self._clock())
        self._peers.catch_up()
        requests = [self._explained(body, now) for body in bodies]
        found = self._router.explain(requests, [body.item for body in bodies])
        return [
            ExplainAnswer(
                model_version=one.version,
                score=one.score if math.isfinite(one.score) else None,
                popularity=one.popularity,
                history=[EventWeight(item=event.item, action=event.action, weight=weight)
                         for event, weight in zip(request.history, one.history, strict=True)],
                query=[TokenWeight(token=token, weight=weight) for token, weight in one.query],
            )
            for request, one in zip(requests, found, strict=True)
        ]

    def outcomes(self, bodies: Sequence[OutcomeRequest]) -> list[OutcomeAnswer]:
        """Record what users did. It changes the next answers to these users, and the popularity that everyone sees.

        An outcome that was recorded before, by its `event_id`, is acknowledged and not recorded again. One of a user who was
        erased since is acknowledged and not recorded.
        """
        now = int(self._clock())
        self._peers.catch_up()
        records = [self._outcome(body, now) for body in bodies]
        has_id = [body.event_id is not None for body in bodies]
        is_past = [self._is_past(body, record) for body, record in zip(bodies, records, strict=True)]
        ids = [(record.user, record.event_id) for record, known in zip(records, has_id, strict=True) if known]
        with self._dedupe.writing(ids) as new:
            first: dict[tuple[str, str], Outcome] = {}
            for record, known, past in zip(records, has_id, is_past, strict=True):
                if not past and (not known or (record.user, record.event_id) in new):
                    first.setdefault((record.user, record.event_id), record)
            if first:
                self._writer.outcome(*first.values())
                recorded = [Recorded(one, now) for one in first.values()]
                self._count(recorded)
                self._peers.tell(recorded)
        self._metrics.outcomes.inc(len(first))
        self._metrics.repeats.inc(len(records) - len(first))
        return [OutcomeAnswer(event_id=record.event_id) for record in records]

    def _take(self, recorded: Sequence[Recorded]) -> None:
        """Count what another gateway recorded, once."""
        erased = self._pseudonyms.erased_among({one.outcome.user for one in recorded})
        recorded = [one for one in recorded if one.outcome.user not in erased]
        new = self._dedupe.note((one.outcome.user, one.outcome.event_id) for one in recorded)
        first = {(one.outcome.user, one.outcome.event_id): one for one in reversed(recorded)}
        self._count([first[event] for event in reversed(first) if event in new])

    def _count(self, recorded: Sequence[Recorded]) -> None:
        """Let outcomes change the next answers."""
        self._popularity.meet([one.outcome.user for one in recorded], [one.at for one in recorded])
        entered = self._histories.add([one.outcome for one in recorded])  # popularity counts what training will count
        self._popularity.observe([user for user, _ in entered], [event.item for _, event in entered],
                                 [event.time for _, event in entered])

    def _slates(self, bodies: Sequence[Asked], *, popular: bool, is_shown: bool = True) -> list[RecommendAnswer]:
        now = int(self._clock())
        self._peers.catch_up()
        ids = [uuid.uuid4().hex for _ in bodies]
        contexts = [self._context(body.context, body.user or request_id) for request_id, body in zip(ids, bodies, strict=True)]
        requests = [self._rules.applied(self._slate_request(body, request_id, now, context), context=context.values(), now=now)
                    for request_id, body, context in zip(ids, bodies, contexts, strict=True)]
        answers = answer_by_arms(partial(self._router.recommend, popular=popular), requests)
        self._columns.check([one.sent for one in requests], answers)
        requests = [one if answer.is_boosted else one.unboosted for one, answer in zip(requests, answers, strict=True)]
        answers = [placed(one, answer) for one, answer in zip(requests, answers, strict=True)]
        shown = [(one, answer) if body.shown is None else (one.sent, of_application(answer, body.shown))
                 for body, one, answer in zip(bodies, requests, answers, strict=True)]
        impressions = [_impression(request_id, context, one, answer, query=self._kept_query(one.query))
                       for request_id, context, (one, answer) in zip(ids, contexts, shown, strict=True) if answer.items]
        if impressions and is_shown:  # there is nothing to learn from a slate without items
            self._writer.impression(*impressions)
        return [RecommendAnswer(request_id=request_id, model_version=answer.version, items=_ranked(answer.items, answer.scores),
                                policy=answer.policy, label=answer.label, fallback=answer.fallback, pinned=_pinned(one, answer))
                for request_id, one, answer in zip(ids, requests, answers, strict=True)]

    def _context(self, sent: Context, user: str) -> Context:
        """The context of a request as it is served and logged."""
        return self._features.completed(sent, self._pseudonyms.of(user))

    def _slate_request(self, body: Asked, request_id: str, now: int, context: Context) -> SlateRequest:
        user = self._pseudonyms.of(body.user or request_id)
        known = known_history(self._histories, user, body.history, before=body.time)
        explore = self._explore if body.explore is None else body.explore
        request = SlateRequest(
            user=user,
            time=_time(body.time, now),
            query=body.query,
            k=body.k,
            history=known.events[-self._histories.max_events :],
            exclude=excluded_items(body, known),
            allow_tags=body.allow_tags,
            deny_tags=body.deny_tags,
            label=body.label,
            explore=explore and not body.is_reranked,
            seed=int(request_id[:15], 16),  # 60 random bits, which the log holds too
            features=self._features.read(context),
            bounds={column: (bound.min, bound.max) for column, bound in body.bounds.items()},
            diversity=body.diversity,
            caps=body.caps,
            head_weights=self._head_weights(body.head_weights),
        )
        assigned = self._assigned(user, body)
        return under(request, assigned) if assigned.arms else request

    def _assigned(self, user: str, body: Asked) -> Assigned:
        if self._experiments is None or body.shown is not None:
            return UNASSIGNED
        return self._experiments.of(user, Chosen(
            label=bool(body.label), explores=body.explore, is_reranked=body.is_reranked,
            diversity="diversity" in body.model_fields_set, head_weights=body.head_weights is not None))

    def _head_weights(self, sent: Mapping[str, float] | None) -> Mapping[str, float] | None:
        """The weights that a request sent, which must be of heads.

        Raises:
            RequestRefused: 422; names the heads that there are.
        """
        if sent and not sent.keys() <= set(self._heads):
            there = f"which are {', '.join(self._heads)}" if self._heads else "and there are none"
            raise RequestRefused(422, f"Expected actions of `ranker.heads`, {there}. One that is named here is not among them.",
                                 field="head_weights")
        return sent

    def _explained(self, body: ExplainRequest, now: int) -> SlateRequest:
        user = self._pseudonyms.of(body.user)
        known = known_history(self._histories, user, body.history, before=body.time)
        history = known.events[-self._histories.max_events :]
        assigned = UNASSIGNED if self._experiments is None else self._experiments.of(user, Chosen(label=bool(body.label)))
        return SlateRequest(user=user, assigned=assigned, time=_time(body.time, now), query=body.query, k=1, history=history,
                            exclude=(), allow_tags=(), deny_tags=(), label=body.label, explore=False, seed=0,
                            features=self._features.read(self._context(body.context, body.user)))

    def _is_past(self, body: OutcomeRequest, record: Outcome) -> bool:
        """Whether an outcome is of somebody who was erased after it."""
        if not self._pseudonyms.erasures:
            return False
        erased_at = self._pseudonyms.erased_at(self._pseudonyms.names(body.user)[0])
        return erased_at is not None and record.time <= erased_at

    def _outcome(self, body: OutcomeRequest, now: int) -> Outcome:
        return Outcome(
            event_id=body.event_id or uuid.uuid4().hex,
            user=self._pseudonyms.of(body.user),
            item=body.item,
            action=body.action,
            time=_time(body.time, now),
            value=body.value,
            request_id=body.request_id,
        )


def _time(claimed: int | None, now: int) -> int:
    """The time that the caller gives; a time later than now counts as now."""
    return now if claimed is None else min(claimed, now)


def _impression(request_id: str, context: Context, asked: SlateRequest, answer: SlateAnswer, *, query: str) -> Impression:
    ranked = enumerate(zip(answer.items, answer.scores, answer.log_propensities, strict=True))
    return Impression(
        request_id=request_id,
        time=asked.time,
        user=asked.user,
        query=query,
        history=tuple(event.item for event in asked.history),
        history_action=tuple(event.action for event in asked.history),
        history_time=tuple(event.time for event in asked.history),  # with UNKNOWN_TIME, as it was sent to the model
        exclude=tuple(asked.exclude),
        allow_tags=tuple(asked.allow_tags),
        deny_tags=tuple(asked.deny_tags),
        prior_items=() if answer.live is None else tuple(answer.live.ids),
        # 5 digits: an error of 1e-5 in log p changes no probability that matters
        prior_log_p=() if answer.live is None else tuple(round(log_p, 5) for log_p in answer.live.log_p.tolist()),
        context=ServedContext(**dict(context), bounds=dict(asked.bounds), arms=dict(asked.assigned.arms), teams=answer.teams,
                              shadows={name: tuple(items) for name, items in answer.shadows.items()},
                              head_weights=None if asked.head_weights is None else dict(asked.head_weights),
                              rules=None if asked.ruled is None else asked.ruled.applied),
        slate=tuple(Shown(item=item, position=position, score=score, log_propensity=log_pi)
                    for position, (item, score, log_pi) in ranked),
        policy=answer.policy,
        model_version=answer.version,
    )


def _without(hidden: Sequence[Collection[str]], items: Sequence[str], scores: Sequence[float]) -> tuple[list[str], list[float]]:
    """Items and scores without the hidden ones."""
    kept = [number for number, item in enumerate(items) if not any(item in some for some in hidden)]
    return [items[number] for number in kept], [scores[number] for number in kept]


def _pinned(asked: SlateRequest, answer: SlateAnswer) -> list[int]:
    pinned = () if asked.ruled is None else asked.ruled.applied.pinned
    return [position for position, item in enumerate(answer.items) if item in pinned] if pinned else []


def _ranked(items: Sequence[str], scores: Sequence[float]) -> list[Answered]:
    return [Answered(item=item, position=position, score=score)
            for position, (item, score) in enumerate(zip(items, scores, strict=True))]

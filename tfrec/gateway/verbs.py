"""The verbs of the gateway, for lists of bodies: ask the models and log what is shown; log what people did.

An answer is given once its records are safe on disk. Users are pseudonyms from the first line on, in memory and on disk.
"""
import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tfrec.client.client import Client
from tfrec.data.behaviour.known_outcomes import first_positives, first_seen
from tfrec.data.feedback_log.log import LogWriter
from tfrec.data.records import Impression, Outcome, Shown
from tfrec.errors import TfrecError
from tfrec.gateway.dedupe import Deduplicator
from tfrec.gateway.history import Memory, PastEvent, UserHistories
from tfrec.gateway.http.error_responses import NO_ANSWER, without_place
from tfrec.gateway.http.schemas import (
    Answered,
    EventWeight,
    ExplainAnswer,
    ExplainRequest,
    HistoryEvent,
    OutcomeAnswer,
    OutcomeRequest,
    RecommendAnswer,
    RecommendRequest,
    SearchRequest,
    SimilarAnswer,
    SimilarRequest,
    TokenWeight,
)
from tfrec.gateway.metrics import Metrics
from tfrec.gateway.pseudonym import Pseudonyms
from tfrec.gateway.router import UNKNOWN_TIME, Answer, Models, Question

log = logging.getLogger(__name__)
_READY_SECONDS = 1.0  # that an answer to "are you ready" holds, or probes would load the disk


class Gateway:
    """Safe to share between threads."""

    def __init__(
        self,
        client: Client,
        writer: LogWriter,
        models: Models,
        *,
        pseudonyms: Pseudonyms,
        behaviour: UserHistories,
        metrics: Metrics,
        history: int = 50,
        explore: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._writer = writer
        self._models = models
        self._pseudonyms = pseudonyms
        self._behaviour = behaviour
        self._metrics = metrics
        self._repeats = Deduplicator()
        self._history = history  # events that the model reads
        self._explore = explore
        self._clock = clock
        self._probe = threading.Lock()
        self._ready: tuple[float, dict[str, str]] = (-_READY_SECONDS, {})
        metrics.log_behind(writer.behind)
        metrics.log_set_aside.set_function(writer.set_aside)

    def remember(self, known: pa.Table, *, writer: str) -> None:
        """Take up what the log holds (`newest_outcomes`), at the start; `writer` is this process' name in it."""
        self._behaviour.fill(known)
        mine = known.filter(pc.equal(known["writer"], writer)).sort_by("seq")
        mine = mine.slice(max(0, mine.num_rows - self._repeats.most))
        self._repeats.fill(zip(mine["user"].to_pylist(), mine["event_id"].to_pylist(), strict=True))
        self.meet(first_seen(known, now=int(self._clock())))
        first = first_positives(known, self._behaviour.rule)
        self._models.observe(*(first[name].to_pylist() for name in ("user", "item", "time")))
        log.info("%d outcomes of the log are remembered", known.num_rows)

    def meet(self, since: pa.Table) -> None:
        """Know people since a second: columns `user` and `time`."""
        self._models.meet(since["user"].to_pylist(), since["time"].to_pylist())

    def recommend(self, bodies: Sequence[RecommendRequest]) -> list[RecommendAnswer]:
        """Answer all of them, and log the slates."""
        return self._shown(bodies, popular=True)

    def search(self, bodies: Sequence[SearchRequest]) -> list[RecommendAnswer]:
        """The same for searches, to which what is popular would be no answer."""
        return self._shown(bodies, popular=False)

    def similar(self, bodies: Sequence[SimilarRequest]) -> list[SimilarAnswer]:
        """The neighbours of items. Nobody's slate, so nothing is logged: what comes of it is organic."""
        answers: dict[int, SimilarAnswer] = {}
        for k, label in dict.fromkeys((body.k, body.label) for body in bodies):
            places = [place for place, body in enumerate(bodies) if (body.k, body.label) == (k, label)]
            found = self._models.similar([bodies[place].item for place in places], k=k, label=label)
            for place, one in zip(places, found, strict=True):
                answers[place] = SimilarAnswer(model_version=one.version, items=_places(one.items, one.scores))
        return [answers[place] for place in range(len(bodies))]

    def explain(self, bodies: Sequence[ExplainRequest]) -> list[ExplainAnswer]:
        """Why items have their scores. Nothing is shown by it, so nothing is logged."""
        now = int(self._clock())
        asked = []
        for body in bodies:
            user = self._pseudonyms.of(body.user)
            done = self._done(user, body.history, before=body.time).behaviour[-self._history :]
            asked.append(Question(user=user, time=_time(body.time, now), query=body.query, k=1, history=done,
                               exclude=(), allow_tags=(), deny_tags=(), label=body.label, explore=False, seed=0))
        found = self._models.explain(asked, [body.item for body in bodies])
        return [
            ExplainAnswer(
                model_version=one.version,
                score=one.score if math.isfinite(one.score) else None,
                popularity=one.popularity,
                history=[EventWeight(item=event.item, action=event.action, weight=weight)
                         for event, weight in zip(own.history, one.history, strict=True)],
                query=[TokenWeight(token=token, weight=weight) for token, weight in one.query],
            )
            for own, one in zip(asked, found, strict=True)
        ]

    def outcomes(self, bodies: Sequence[OutcomeRequest]) -> list[OutcomeAnswer]:
        """Keep all of them; from here on they are their users' behaviour, and move everyone's popularity."""
        now = int(self._clock())
        records = [self._outcome(body, now) for body in bodies]
        pairs = zip(records, bodies, strict=True)
        named = [(record.user, record.event_id) for record, body in pairs if body.event_id is not None]
        with self._repeats.writing(named) as new:
            first: dict[tuple[str, str], Outcome] = {}
            for record, body in zip(records, bodies, strict=True):
                if body.event_id is None or (record.user, record.event_id) in new:
                    first.setdefault((record.user, record.event_id), record)
            if first:
                self._writer.outcome(*first.values())
                self._models.meet([one.user for one in first.values()], [now] * len(first))
                became = self._behaviour.add(first.values())  # everyone's popularity counts what training will count
                self._models.observe([user for user, _ in became], [event.item for _, event in became],
                                     [event.time for _, event in became])
        self._metrics.outcomes.inc(len(first))
        self._metrics.repeats.inc(len(records) - len(first))
        return [OutcomeAnswer(event_id=record.event_id) for record in records]

    def ready(self) -> dict[str, str]:
        """What is wrong, by name; empty when the model server answers and records can be kept."""
        with self._probe:
            if time.monotonic() - self._ready[0] >= _READY_SECONDS:
                self._ready = time.monotonic(), {name: why for name, why in self._wrong().items() if why}
            return self._ready[1]

    def _wrong(self) -> dict[str, str]:
        why = {"model_server": "", "log": ""}
        try:
            if not any(version.state == "AVAILABLE" for version in self._client.status()):
                why["model_server"] = "it serves no version"
        except TfrecError as error:  # no address in the answer: anyone may ask
            log.warning("not ready: %s", error)
            why["model_server"] = NO_ANSWER
        try:
            self._writer.check()
        except TfrecError as error:
            log.warning("not ready: %s", error)
            why["log"] = without_place(error)
        return why

    def _shown(self, bodies: Sequence[RecommendRequest | SearchRequest], *, popular: bool) -> list[RecommendAnswer]:
        now = int(self._clock())
        ids = [uuid.uuid4().hex for _ in bodies]
        asked = [self._asked(body, request_id, now) for request_id, body in zip(ids, bodies, strict=True)]
        answers = self._models.recommend(asked, popular=popular)
        shown = [_impression(request_id, body, one, answer)
                 for request_id, body, one, answer in zip(ids, bodies, asked, answers, strict=True) if answer.items]
        if shown:  # a slate without items taught nobody anything
            self._writer.impression(*shown)
        return [RecommendAnswer(request_id=request_id, model_version=answer.version, items=_places(answer.items, answer.scores),
                                policy=answer.policy, label=answer.label, fallback=answer.fallback)
                for request_id, answer in zip(ids, answers, strict=True)]

    def _asked(self, body: RecommendRequest | SearchRequest, request_id: str, now: int) -> Question:
        user = self._pseudonyms.of(body.user or request_id)
        done = self._done(user, body.history, before=body.time)
        return Question(
            user=user,
            time=_time(body.time, now),
            query=body.query,
            k=body.k,
            history=done.behaviour[-self._history :],
            exclude=[*body.exclude, *(done.seen if body.exclude_history else ())],
            allow_tags=body.allow_tags,
            deny_tags=body.deny_tags,
            label=body.label,
            explore=self._explore if body.explore is None else body.explore,
            seed=int(request_id[:15], 16),  # as good as any, and found again from the log; 60 bits
        )

    def _done(self, user: str, history: Sequence[HistoryEvent] | None, *, before: int | None) -> Memory:
        """What the caller says that the user did, else what the gateway has seen."""
        if history is None:
            return self._behaviour.of(user, before=before)
        told = [PastEvent(UNKNOWN_TIME if did.time is None else did.time, did.item, did.action) for did in history]
        return Memory([event.item for event in told], told)

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
    """When it was, as the caller says; what claims to be later than now counts as now."""
    return now if claimed is None else min(claimed, now)


def _impression(request_id: str, body: RecommendRequest | SearchRequest, asked: Question, answer: Answer) -> Impression:
    times = tuple(event.time for event in asked.history)
    places = enumerate(zip(answer.items, answer.scores, answer.log_propensities, strict=True))
    return Impression(
        request_id=request_id,
        time=asked.time,
        user=asked.user,
        query=asked.query,
        history=tuple(event.item for event in asked.history),
        history_action=tuple(event.action for event in asked.history),
        history_time=times,  # UNKNOWN_TIME among them, as the model was told
        exclude=tuple(asked.exclude),
        allow_tags=tuple(asked.allow_tags),
        deny_tags=tuple(asked.deny_tags),
        prior_items=() if answer.live is None else tuple(answer.live.ids),
        # 5 digits: a hundred thousandth in log p moves no probability that anybody could tell apart
        prior_log_p=() if answer.live is None else tuple(round(log_p, 5) for log_p in answer.live.log_p.tolist()),
        context=body.context,
        slate=tuple(Shown(item=i, position=p, score=s, log_propensity=log_pi) for p, (i, s, log_pi) in places),
        policy=answer.policy,
        model_version=answer.version,
    )


def _places(items: Sequence[str], scores: Sequence[float]) -> list[Answered]:
    return [Answered(item=i, position=p, score=s) for p, (i, s) in enumerate(zip(items, scores, strict=True))]

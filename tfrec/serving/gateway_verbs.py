"""The two verbs of the gateway, for lists of bodies: ask the model and log what is shown; log what people did.

An answer is given once its records are safe on disk. Users are pseudonyms from the first line on, in memory and on disk.
"""
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from tfrec.data.log import LogWriter
from tfrec.data.records import Impression, Outcome, Shown
from tfrec.serving.behaviour import Behaviour, Event
from tfrec.serving.client import Client, Recommendation
from tfrec.serving.freshness import Freshness
from tfrec.serving.gateway_bodies import Answered, OutcomeAnswer, OutcomeRequest, RecommendAnswer, RecommendRequest
from tfrec.serving.pseudonym import Pseudonyms

_UNKNOWN_TIME = -1


@dataclass(frozen=True)
class _Asked:
    """A request as it goes to the model."""

    body: RecommendRequest
    request_id: str
    user: str
    time: int
    done: Sequence[Event]  # all that is known of the user, oldest first
    history: Sequence[Event]  # the newest of it, which the model reads

    def excluded(self) -> list[str]:
        return [*self.body.exclude, *(event.item for event in self.done if self.body.exclude_history)]

    def impression(self, answer: Recommendation) -> Impression:
        places = zip(answer.items, answer.scores, strict=True)
        times = tuple(event.time for event in self.history)
        return Impression(
            request_id=self.request_id,
            time=self.time,
            user=self.user,
            query=self.body.query,
            history=tuple(event.item for event in self.history),
            history_action=tuple(event.action for event in self.history),
            history_time=() if _UNKNOWN_TIME in times else times,
            context=self.body.context,
            # greedy: each place had one item that could be there, so its probability is 1
            slate=tuple(Shown(item=i, position=p, score=s, log_propensity=0.0) for p, (i, s) in enumerate(places)),
            policy="greedy",
            model_version=answer.version,
        )


class Gateway:
    """Safe to share between threads."""

    def __init__(
        self,
        client: Client,
        writer: LogWriter,
        *,
        pseudonyms: Pseudonyms,
        behaviour: Behaviour,
        freshness: Freshness,
        history: int = 50,
        counted: Collection[str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._writer = writer
        self._pseudonyms = pseudonyms
        self._behaviour = behaviour
        self._freshness = freshness
        self._history = history  # events that the model reads
        self._counted = counted  # actions that make an item popular; None: all
        self._clock = clock

    def recommend(self, bodies: Sequence[RecommendRequest]) -> list[RecommendAnswer]:
        """Answer all of them, by one call of the model per label."""
        now = int(self._clock())
        asked = [self._asked(body, now) for body in bodies]
        answers: dict[str, Recommendation] = {}
        for label in dict.fromkeys(body.label for body in bodies):
            some = [one for one in asked if one.body.label == label]
            answers |= zip((one.request_id for one in some), self._ask(some, label), strict=True)
        shown = [one.impression(answers[one.request_id]) for one in asked if answers[one.request_id].items]
        if shown:  # a slate without items taught nobody anything
            self._writer.impression(*shown)
        return [_answer(one.request_id, answers[one.request_id]) for one in asked]

    def outcomes(self, bodies: Sequence[OutcomeRequest]) -> list[OutcomeAnswer]:
        """Keep all of them; from here on they are their users' behaviour, and move everyone's popularity."""
        now = int(self._clock())
        records = [
            Outcome(
                event_id=body.event_id or uuid.uuid4().hex,
                user=self._pseudonyms.of(body.user),
                item=body.item,
                action=body.action,
                time=now if body.time is None else body.time,
                value=body.value,
                request_id=body.request_id,
            )
            for body in bodies
        ]
        self._writer.outcome(*records)
        self._count(records)
        self._behaviour.add((record.user, Event(record.time, record.item, record.action)) for record in records)
        return [OutcomeAnswer(event_id=record.event_id) for record in records]

    def _count(self, records: Sequence[Outcome]) -> None:
        """Everyone's popularity counts what training will count: rewarded actions, once for a person and an item."""
        new: dict[tuple[str, str], int] = {}
        for record in records:
            if (self._counted is None or record.action in self._counted) and all(
                event.item != record.item for event in self._behaviour.of(record.user)
            ):
                new.setdefault((record.user, record.item), record.time)
        self._freshness.observe([item for _, item in new], list(new.values()))

    def _asked(self, body: RecommendRequest, now: int) -> _Asked:
        user = self._pseudonyms.of(body.user)
        done: Sequence[Event]
        if body.history is None:
            done = self._behaviour.of(user, before=body.time)
        else:
            done = [Event(_UNKNOWN_TIME if did.time is None else did.time, did.item, did.action) for did in body.history]
        time = now if body.time is None else body.time
        return _Asked(body, uuid.uuid4().hex, user, time, done, done[-self._history :])

    def _ask(self, asked: Sequence[_Asked], label: str) -> list[Recommendation]:
        return self._client.recommend(
            history=[[event.item for event in one.history] for one in asked],
            history_action=[[event.action for event in one.history] for one in asked],
            history_age_s=[[_age(event, one.time) for event in one.history] for one in asked],
            exclude=[one.excluded() for one in asked],
            allow_tags=[one.body.allow_tags for one in asked],
            deny_tags=[one.body.deny_tags for one in asked],
            # the counts roll on from the newest version; a label may name another one
            prior=None if label else [self._freshness.override(one.time) for one in asked],
            query=[one.body.query for one in asked],
            k=[one.body.k for one in asked],
            label=label,
        )


def _age(event: Event, now: int) -> int:
    return -1 if event.time == _UNKNOWN_TIME else max(0, now - event.time)


def _answer(request_id: str, answer: Recommendation) -> RecommendAnswer:
    places = zip(answer.items, answer.scores, strict=True)
    items = [Answered(item=item, position=position, score=score) for position, (item, score) in enumerate(places)]
    return RecommendAnswer(request_id=request_id, model_version=answer.version, items=items)

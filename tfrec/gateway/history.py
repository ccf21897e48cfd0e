"""What people did lately, in memory, so that a client need not send it: the first of the three speeds of feedback.

Outcomes go in once they are safe on disk. Out come, for a user, the items that they acted on (`seen`: not to be shown again)
and what of it is behaviour (the history that the model reads), by the rule of training (`repeated_actions.py`): an item once, at
its earliest act with a gain above zero, if all acts on it together are worth more than nothing. A dismissed item is seen and no
behaviour. Bounded in users (the least recently met is forgotten) and in items each.
"""
import threading
from bisect import insort
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tfrec.data.behaviour.interactions import event_sha1
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.repeated_actions import MINUTE_LIMIT, NOTHING, REPEAT_SECONDS
from tfrec.data.labels.rewards import gains, lengths_of, reads_of, rules
from tfrec.data.records import Outcome

_ACTS = 64  # of one user on one item that are kept singly; older ones are added up
_MINUTES = 4  # of a user, whose acts are counted
_ROWS = 4  # of the log for each item that is kept of a user, of those that are worth something and of the others


@dataclass(frozen=True, order=True, slots=True)
class PastEvent:
    """One thing that a user did; sorted by time."""

    time: int
    item: str
    action: str


class Memory(NamedTuple):
    """What is remembered of a user."""

    seen: Sequence[str]  # items, by the time of their newest act
    behaviour: Sequence[PastEvent]  # oldest first; of one second in the order of training


class _Act(NamedTuple):
    time: int
    event_id: str
    item: str
    action: str
    gain: float
    request_id: str | None
    once: bool  # a repeat of it says nothing


class UserHistories:
    """The newest `events` events of the `users` most recently met users, and as many other items each. Safe to share between
    threads.

    Args:
        rule: by which acts are behaviour; None: each act is.
    """

    def __init__(self, rule: LabelRule | None = None, *, users: int = 100_000, events: int = 50) -> None:
        self._rule = rule
        self._weighed = None if rule is None else {one.action for one in rules(rule.reward)}
        self._max_users = users
        self._max_events = events
        self._users: OrderedDict[str, _User] = OrderedDict()
        self._logged: dict[str, slice] = {}  # of `_rows`: users of the log who were not met since the start, oldest first
        self._rows: _Rows | None = None
        self._lock = threading.Lock()

    @property
    def rule(self) -> LabelRule | None:
        """By which acts are behaviour; None: each act is."""
        return self._rule

    def add(self, outcomes: Collection[Outcome]) -> list[tuple[str, PastEvent]]:
        """Remember what users did, in any order; returns the (user, event) that became behaviour by it, for the first time."""
        new: dict[tuple[str, str], PastEvent | None] = {}
        with self._lock:
            for user, act in zip((one.user for one in outcomes), self._acts(outcomes), strict=True):
                known = self._known(user) or _User()
                self._users[user] = known
                self._users.move_to_end(user)
                if known.add(act, is_weighed=self._is_weighed(act.action)):
                    new[user, act.item] = known.event(act.item)
                known.trim(user, self._max_events)
                self._forget()
        return [(user, event) for (user, _), event in new.items() if event is not None]

    def of(self, user: str, *, before: int | None = None) -> Memory:
        """What is known of a user; with `before`, by what happened in earlier seconds only."""
        with self._lock:
            known = self._known(user)
            return Memory((), ()) if known is None else known.memory(user, self._max_events, before)

    def fill(self, outcomes: pa.Table) -> None:
        """Remember outcomes of the log (`newest_outcomes`), before any other. What a user did is looked up when they come."""
        users = outcomes["user"].combine_chunks().dictionary_encode()
        user, time = users.indices.to_numpy(zero_copy_only=False).astype(np.int64), outcomes["time"].to_numpy()
        gain, once = self._gains(outcomes["action"], outcomes["item"], outcomes["value"].to_numpy(), time)
        group = 2 * user + (gain > 0)
        order = np.lexsort((time, group))
        ends = np.searchsorted(group[order], group[order], side="right")
        order = order[ends - np.arange(len(order)) <= _ROWS * self._max_events]
        starts = np.flatnonzero(np.diff(user[order], prepend=-1))
        stops = np.append(starts[1:], len(order))
        last = np.maximum.reduceat(time[order], starts) if len(order) else starts
        newest = np.argsort(last, kind="stable")[-self._max_users :]
        names = users.dictionary.take(pa.array(user[order[starts[newest]]])).to_pylist()
        spans = map(slice, starts[newest].tolist(), stops[newest].tolist())
        rows = outcomes.select(["time", "event_id", "item", "action", "request_id"]).take(pa.array(order))
        with self._lock:
            self._rows, self._logged = _Rows(rows, gain[order], once[order]), dict(zip(names, spans, strict=True))

    def _known(self, user: str) -> "_User | None":
        if user in self._users:
            self._users.move_to_end(user)
        elif self._rows is not None and (span := self._logged.pop(user, None)) is not None:
            known = self._users[user] = _User()
            for act in self._rows.acts(span):
                known.keep(act, is_weighed=self._is_weighed(act.action))
            known.count_as_told()
            known.trim(user, self._max_events)
        return self._users.get(user)

    def _forget(self) -> None:
        while len(self._users) + len(self._logged) > self._max_users:
            if self._logged:
                del self._logged[next(iter(self._logged))]
            else:
                self._users.popitem(last=False)
        if not self._logged:
            self._rows = None

    def _is_weighed(self, action: str) -> bool:
        return self._weighed is None or action in self._weighed

    def _acts(self, outcomes: Collection[Outcome]) -> list[_Act]:
        if not outcomes:
            return []
        action, item, value, time = zip(*((one.action, one.item, one.value, one.time) for one in outcomes), strict=True)
        gain, once = self._gains(pa.array(action, pa.string()), pa.array(item, pa.string()), np.array(value), np.array(time))
        return [_Act(one.time, one.event_id, one.item, one.action, own, one.request_id, repeats)
                for one, own, repeats in zip(outcomes, gain.tolist(), once.tolist(), strict=True)]

    def _gains(self, action: pa.Array | pa.ChunkedArray, item: pa.Array | pa.ChunkedArray, value: npt.NDArray[np.float64],
               time: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """What each act is worth, and whether a repeat of it says nothing."""
        if self._rule is None:
            return np.ones(len(time)), np.ones(len(time), np.bool_)
        coded = (action.combine_chunks() if isinstance(action, pa.ChunkedArray) else action).dictionary_encode()
        names, code = coded.dictionary.to_pylist(), coded.indices.to_numpy(zero_copy_only=False)
        known = self._rule.lengths
        length = lengths_of(known, action.to_pylist(), item.to_pylist()) if known else None
        once = np.array([read in ("nothing", "rating") for read in reads_of(self._rule.reward, names)], np.bool_)
        return gains(self._rule.reward, actions=names, action=code, value=value, time=time, length=length), once[code]


class _Rows(NamedTuple):
    """Outcomes of the log by user."""

    table: pa.Table
    gain: npt.NDArray[np.float64]  # [n]
    once: npt.NDArray[np.bool_]  # [n]

    def acts(self, span: slice) -> Iterator[_Act]:
        some = self.table.slice(span.start, span.stop - span.start)
        time, event_id, item, action, request_id = (some[name].to_pylist() for name in
                                                    ("time", "event_id", "item", "action", "request_id"))
        acts = zip(time, event_id, item, action, self.gain[span].tolist(), request_id, self.once[span].tolist(), strict=True)
        return iter(sorted((_Act(*act) for act in acts), key=_order))


class _User:
    """What one user did, by item."""

    __slots__ = ("_fast", "_memory", "_minutes", "_pairs")

    def __init__(self) -> None:
        self._pairs: dict[str, _Pair] = {}
        self._minutes: dict[int, int] = {}  # acts in each of the newest minutes
        self._fast: set[int] = set()  # minutes with more acts than hands can do: nothing in them counts
        self._memory: Memory | None = None

    def add(self, act: _Act, *, is_weighed: bool) -> bool:
        """Whether the item became behaviour by this act, for the first time."""
        pair = self.keep(act, is_weighed=is_weighed)
        if pair.was_behaviour or pair.event(self._fast) is None:
            return False
        pair.was_behaviour = True
        return True

    def keep(self, act: _Act, *, is_weighed: bool) -> "_Pair":
        pair = self._pairs.get(act.item)
        if pair is None:
            pair = self._pairs[act.item] = _Pair(act.time)
        elif any(act.event_id == known.event_id for known in pair.acts):
            return pair
        self._memory = None
        self._count(act.time // 60)
        pair.add(act, self._fast, is_weighed=is_weighed)
        return pair

    def count_as_told(self) -> None:
        """What is behaviour now did not become it by what follows."""
        for pair in self._pairs.values():
            pair.was_behaviour = pair.event(self._fast) is not None

    def event(self, item: str) -> PastEvent | None:
        pair = self._pairs.get(item)
        found = None if pair is None else pair.event(self._fast)
        return None if found is None else PastEvent(found[0], item, found[1])

    def memory(self, user: str, events: int, before: int | None) -> Memory:
        if before is None:
            self._memory = self._memory or self._remembered(user, events, None)
            return self._memory
        return self._remembered(user, events, before)

    def trim(self, user: str, events: int) -> None:
        """Forget items beyond those that are answered; a few more are kept, as each look costs."""
        if len(self._pairs) > 2 * events + 16:
            seen = set(self._remembered(user, events, None).seen)
            self._pairs = {item: pair for item, pair in self._pairs.items() if item in seen}

    def _count(self, minute: int) -> None:
        self._minutes[minute] = self._minutes.get(minute, 0) + 1
        if self._minutes[minute] > MINUTE_LIMIT:
            self._fast.add(minute)
        if len(self._minutes) > _MINUTES:
            del self._minutes[min(self._minutes)]

    def _remembered(self, user: str, events: int, before: int | None) -> Memory:
        done: list[PastEvent] = []
        others: list[tuple[int, str]] = []
        for item, pair in self._pairs.items():
            found = pair.event(self._fast, before)
            if found is not None:
                done.append(PastEvent(found[0], item, found[1]))
            elif before is None or pair.first_seen < before:
                others.append((pair.last_seen, item))
        done = sorted(done, key=lambda event: (event.time, event_sha1(user, event.item, event.time)))[-events:]
        newest = sorted([*sorted(others)[-events:], *((self._pairs[event.item].last_seen, event.item) for event in done)])
        return Memory(tuple(item for _, item in newest), tuple(done))


class _Pair:
    """What one user did with one item."""

    __slots__ = ("_first", "_worth", "acts", "first_seen", "last_seen", "was_behaviour")

    def __init__(self, time: int) -> None:
        self.acts: list[_Act] = []  # in the order of time, those that can be worth something
        self.first_seen = self.last_seen = time
        self.was_behaviour = False
        self._worth = 0.0  # of older acts, which are not kept
        self._first: tuple[int, str] | None = None  # of them, the earliest that is worth something

    def add(self, act: _Act, fast: set[int], *, is_weighed: bool) -> None:
        self.first_seen, self.last_seen = min(self.first_seen, act.time), max(self.last_seen, act.time)
        if is_weighed:
            insort(self.acts, act, key=_order)
            if len(self.acts) > _ACTS:
                self._fold(fast)

    def event(self, fast: set[int], before: int | None = None) -> tuple[int, str] | None:
        """Time and action by which it is behaviour; None: it is not."""
        until = len(self.acts) if before is None else sum(act.time < before for act in self.acts)
        worth, first = self._added_up(until, fast)
        return first if worth > NOTHING and first is not None and (before is None or first[0] < before) else None

    def _added_up(self, until: int, fast: set[int]) -> tuple[float, tuple[int, str] | None]:
        """What the acts before place `until` are worth, and the earliest that is."""
        worth, first = self._worth, self._first
        last: dict[tuple[str, str | None], int] = {}
        for act in self.acts[:until]:
            same = act.action, act.request_id
            repeats = act.once and same in last and act.time - last[same] < REPEAT_SECONDS
            last[same] = act.time
            if repeats or act.time // 60 in fast:
                continue
            worth += act.gain
            if act.gain > NOTHING and (first is None or (act.time, act.action) < first):
                first = act.time, act.action
        return worth, first

    def _fold(self, fast: set[int]) -> None:
        """Add up the older half; of acts that may be repeated the last stays, worth nothing, as what follows is seen by it."""
        half = len(self.acts) // 2
        self._worth, self._first = self._added_up(half, fast)
        last = {(act.action, act.request_id): act._replace(gain=0.0) for act in self.acts[:half] if act.once}
        self.acts = [*sorted(last.values(), key=_order)[-half // 2 :], *self.acts[half:]]


def _order(act: _Act) -> tuple[int, str]:
    return act.time, act.event_id

"""The acts of one user, and what they amount to by the rule of training (`data/labels/repeated_actions.py`).

An item is in the user's history once, with its earliest act that gained something, if all acts on it are worth more than
nothing. A dismissed item is seen but not in the history.
"""
from bisect import insort
from typing import NamedTuple

from tfrec.data.behaviour.interactions import event_sha1
from tfrec.data.labels.pair_rewards import NEGLIGIBLE
from tfrec.data.labels.repeated_actions import MINUTE_LIMIT, REPEAT_SECONDS
from tfrec.gateway.past_events import PastEvent, UserHistory

_MAX_ACTS = 64  # of one user on one item that are kept singly; older ones are added up
_MAX_MINUTES = 4  # of a user, whose acts are counted


class Act(NamedTuple):
    """One outcome with what it is worth."""

    time: int
    event_id: str
    item: str
    action: str
    gain: float
    request_id: str | None
    counts_once: bool  # the same act again within REPEAT_SECONDS counts nothing


def in_time(act: Act) -> tuple[int, str]:
    """The order of acts in training: by time, then by event id."""
    return act.time, act.event_id


class UserActs:
    """What one user did, by item."""

    __slots__ = ("_acts_in", "_history", "_items", "_too_fast")

    def __init__(self) -> None:
        self._items: dict[str, _ItemActs] = {}
        self._acts_in: dict[int, int] = {}  # number of acts in each of the newest minutes
        self._too_fast: set[int] = set()  # minutes with more acts than a person can do: nothing in them counts
        self._history: UserHistory | None = None  # the newest answer, until something is added

    def add(self, act: Act, *, is_weighed: bool) -> bool:
        """Take an act, once per event id. Returns whether its item entered the history now, for the first time.

        Args:
            act: in any order of time.
            is_weighed: whether the reward has a rule for the action; otherwise the act shows only that the item was seen.
        """
        item = self.keep(act, is_weighed=is_weighed)
        if item.was_positive or item.first_positive(self._too_fast) is None:
            return False
        item.was_positive = True
        return True

    def keep(self, act: Act, *, is_weighed: bool) -> "_ItemActs":
        """As `add`, without a word about the history."""
        item = self._items.get(act.item)
        if item is None:
            item = self._items[act.item] = _ItemActs(act.time)
        elif any(act.event_id == known.event_id for known in item.acts):
            return item
        self._history = None
        self._count(act.time // 60)
        item.add(act, self._too_fast, is_weighed=is_weighed)
        return item

    def mark_known(self) -> None:
        """Let what is in the history now count as no news."""
        for item in self._items.values():
            item.was_positive = item.first_positive(self._too_fast) is not None

    def event(self, name: str) -> PastEvent | None:
        """The event of an item in the history; None if it is not in it."""
        item = self._items.get(name)
        found = None if item is None else item.first_positive(self._too_fast)
        return None if found is None else PastEvent(found[0], name, found[1])

    def history(self, user: str, max_events: int, before: int | None) -> UserHistory:
        """The newest `max_events` events and as many other items; with `before`, only from acts in earlier seconds."""
        if before is not None:
            return self._history_before(user, max_events, before)
        self._history = self._history or self._history_before(user, max_events, None)
        return self._history

    def trim(self, user: str, max_events: int) -> None:
        """Forget items that no answer holds any more. It is slow, so it is done only when a few have come together."""
        if len(self._items) > 2 * max_events + 16:
            seen = set(self._history_before(user, max_events, None).seen)
            self._items = {name: item for name, item in self._items.items() if name in seen}

    def _count(self, minute: int) -> None:
        self._acts_in[minute] = self._acts_in.get(minute, 0) + 1
        if self._acts_in[minute] > MINUTE_LIMIT:
            self._too_fast.add(minute)
        if len(self._acts_in) > _MAX_MINUTES:
            del self._acts_in[min(self._acts_in)]

    def _history_before(self, user: str, max_events: int, before: int | None) -> UserHistory:
        events: list[PastEvent] = []
        others: list[tuple[int, str]] = []
        for name, item in self._items.items():
            found = item.first_positive(self._too_fast, before)
            if found is not None:
                events.append(PastEvent(found[0], name, found[1]))
            elif before is None or item.first_seen < before:
                others.append((item.last_seen, name))
        # training sorts the events of one second by this hash
        events = sorted(events, key=lambda event: (event.time, event_sha1(user, event.item, event.time)))[-max_events:]
        seen = sorted([*sorted(others)[-max_events:], *((self._items[event.item].last_seen, event.item) for event in events)])
        return UserHistory(tuple(name for _, name in seen), tuple(events))


class _ItemActs:
    """What one user did with one item."""

    __slots__ = ("_older_first", "_older_worth", "acts", "first_seen", "last_seen", "was_positive")

    def __init__(self, time: int) -> None:
        self.acts: list[Act] = []  # oldest first, those that can be worth something
        self.first_seen = self.last_seen = time
        self.was_positive = False  # it has been in the history
        self._older_worth = 0.0  # of older acts, which are not kept
        self._older_first: tuple[int, str] | None = None  # the earliest of them that gained something

    def add(self, act: Act, too_fast: set[int], *, is_weighed: bool) -> None:
        self.first_seen, self.last_seen = min(self.first_seen, act.time), max(self.last_seen, act.time)
        if is_weighed:
            insort(self.acts, act, key=in_time)
            if len(self.acts) > _MAX_ACTS:
                self._add_up_older_half(too_fast)

    def first_positive(self, too_fast: set[int], before: int | None = None) -> tuple[int, str] | None:
        """Time and action of the earliest act that gained something, if all acts are worth more than nothing."""
        n = len(self.acts) if before is None else sum(act.time < before for act in self.acts)
        worth, first = self._sum_of(n, too_fast)
        return first if worth > NEGLIGIBLE and first is not None and (before is None or first[0] < before) else None

    def _sum_of(self, n: int, too_fast: set[int]) -> tuple[float, tuple[int, str] | None]:
        """What the oldest `n` acts are worth, with all older ones, and time and action of the earliest that gained something."""
        worth, first = self._older_worth, self._older_first
        last_time: dict[tuple[str, str | None], int] = {}
        for act in self.acts[:n]:
            same = act.action, act.request_id
            is_repeat = act.counts_once and same in last_time and act.time - last_time[same] < REPEAT_SECONDS
            last_time[same] = act.time
            if is_repeat or act.time // 60 in too_fast:
                continue
            worth += act.gain
            if act.gain > NEGLIGIBLE and (first is None or (act.time, act.action) < first):
                first = act.time, act.action
        return worth, first

    def _add_up_older_half(self, too_fast: set[int]) -> None:
        """Replace the older half by its sum. The last act of each kind stays, worth nothing, so that repeats are still seen."""
        half = len(self.acts) // 2
        self._older_worth, self._older_first = self._sum_of(half, too_fast)
        last = {(act.action, act.request_id): act._replace(gain=0.0) for act in self.acts[:half] if act.counts_once}
        self.acts = [*sorted(last.values(), key=in_time)[-half // 2 :], *self.acts[half:]]

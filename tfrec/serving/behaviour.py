"""What people did lately, in memory, so that a client need not send it: the first of the three speeds of feedback.

Outcomes go in once they are safe on disk; a request gets the newest events of its user. Bounded in users (the least recently seen
is forgotten) and in events each; after a restart it is filled again from the log.
"""
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import RewardConfig
from tfrec.data.log import FeedbackLog
from tfrec.data.rewards import makes_popular

_MOST_ROWS = 1_000_000  # outcomes that are read at the start, about a second


@dataclass(frozen=True, order=True)
class Event:
    """One thing that a user did; sorted by time."""

    time: int
    item: str
    action: str


class Behaviour:
    """The newest `events` events of the `users` most recently seen users. Safe to share between threads."""

    def __init__(self, *, users: int = 100_000, events: int = 50) -> None:
        self._max_users = users
        self._max_events = events
        self._users: OrderedDict[str, list[Event]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, events: Iterable[tuple[str, Event]]) -> None:
        """Remember (user, event) pairs; they may come out of order, and an event that is known already changes nothing."""
        with self._lock:
            for user, event in events:
                known = self._users.setdefault(user, [])
                self._users.move_to_end(user)
                place = bisect_left(known, event)
                if place == len(known) or known[place] != event:
                    known.insert(place, event)
                    del known[: -self._max_events]
                if len(self._users) > self._max_users:
                    self._users.popitem(last=False)

    def of(self, user: str, *, before: int | None = None) -> Sequence[Event]:
        """The user's events, oldest first; with `before`, those of earlier seconds only."""
        with self._lock:
            known = self._users.get(user)
            if known is None:
                return ()
            self._users.move_to_end(user)
            return tuple(known if before is None else known[: bisect_left(known, Event(before, "", ""))])

    def fill(self, outcomes: pa.Table) -> None:
        """Remember outcomes of the log, as `newest_outcomes` gives them."""
        times, items, actions = (outcomes[name].to_pylist() for name in ("time", "item", "action"))
        events = (Event(*event) for event in zip(times, items, actions, strict=True))
        self.add(zip(outcomes["user"].to_pylist(), events, strict=True))


def newest_outcomes(log: FeedbackLog) -> pa.Table:
    """Who did what when, of the newest outcomes in the log, oldest first."""
    columns = ["user", "time", "item", "action", "value", "event_id", "writer", "seq"]
    rows = log.tables["outcomes"].dataset().to_table(columns=columns)
    if rows.num_rows > _MOST_ROWS:
        rows = rows.take(pc.select_k_unstable(rows, k=_MOST_ROWS, sort_keys=[("time", "descending")]))
    return rows.sort_by("time")


def first_choices(outcomes: pa.Table, reward: RewardConfig | None) -> pa.Table:
    """What popularity counts of `outcomes`, as training does: those that are worth something (None: all), once for a person and
    an item. Columns `item` and `time`, oldest first."""
    if reward is not None:
        value, time = outcomes["value"].to_numpy(), outcomes["time"].to_numpy()
        outcomes = outcomes.filter(pa.array(makes_popular(reward, action=outcomes["action"], value=value, time=time)))
    first = outcomes.group_by(["user", "item"]).aggregate([("time", "min")]).rename_columns({"time_min": "time"})
    return first.select(["item", "time"]).sort_by("time")

"""The history of an event: what its user did strictly before the second of the event.

Events of one user in one second are a basket: they were taken together, so none is history for another. Training, evaluation and
the offline scorer all read behaviour through these definitions.
"""
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec.data.behaviour.interactions import Interactions

Ints = NDArray[np.int64]


class UserOrder(NamedTuple):
    """All events sorted by user and, within a user, in protocol order. A place is an index into this order."""

    events: Ints  # [n] event at each place
    user_begin: Ints  # [n] place of the first event of the same user
    basket_begin: Ints  # [n] place of the first event of the same user and second


def by_user(inter: Interactions) -> UserOrder:
    """Sort events by user."""
    events = np.argsort(inter.user, kind="stable").astype(np.int64)
    place = np.arange(len(events))
    opens_user = np.diff(inter.user[events], prepend=-1) != 0
    opens_basket = opens_user | (np.diff(inter.time[events], prepend=-1) != 0)
    user_begin, basket_begin = (np.maximum.accumulate(np.where(opens, place, 0)) for opens in (opens_user, opens_basket))
    return UserOrder(events, user_begin, basket_begin)


class Histories:
    """The history of each event, as indices of events, oldest first."""

    def __init__(self, inter: Interactions) -> None:
        """Index all events once; each history is then a slice of one array."""
        self._order, user_begin, basket_begin = by_user(inter)
        self._start, self._end = np.empty_like(self._order), np.empty_like(self._order)  # by event, not by place
        self._start[self._order] = user_begin
        self._end[self._order] = basket_begin

    def count(self, events: ArrayLike) -> Ints:
        """`[batch]`: the length of each history."""
        events = np.asarray(events, np.int64)
        return np.asarray(self._end[events] - self._start[events])

    def of(self, event: int, *, last: int | None = None) -> Ints:
        """`[length]`: the history of one event; with `last`, its newest `last` events."""
        start, end = self._start[event], self._end[event]
        return self._order[start if last is None else max(start, end - last) : end]

    def flat(self, events: ArrayLike) -> tuple[Ints, Ints]:
        """All histories one after the other: for each of their events, the row in `events` that it belongs to, and the event."""
        count, start = self.count(events), self._start[np.asarray(events, np.int64)]
        row = np.repeat(np.arange(len(count)), count)
        within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        return row, self._order[np.repeat(start, count) + within]

    def padded(self, events: ArrayLike, *, length: int) -> Ints:
        """`[batch, length]`: the newest `length` of each history, newest in the last column, -1 where there is none."""
        events = np.asarray(events, np.int64)
        place = self._end[events][:, None] + np.arange(-length, 0)
        return np.where(place >= self._start[events][:, None], self._order[np.maximum(place, 0)], -1)

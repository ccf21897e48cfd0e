"""The history of an event: what its user did strictly before its second, since one second is one basket.

Interactions in, indices of events out. Training, evaluation and the offline scorer read behaviour through this one class.
"""
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec.data.behaviour.interactions import Interactions

Ints = NDArray[np.int64]


class Histories:
    """What each user did strictly before the second of an event, as indices of events, oldest first."""

    def __init__(self, inter: Interactions) -> None:
        self._order: Ints = np.argsort(inter.user, kind="stable").astype(np.int64)
        user, time, place = inter.user[self._order], inter.time[self._order], np.arange(len(inter))
        new_user = np.diff(user, prepend=-1) != 0
        new_second = new_user | (np.diff(time, prepend=-1) != 0)
        self._start, self._end = np.empty_like(self._order), np.empty_like(self._order)
        self._start[self._order] = np.maximum.accumulate(np.where(new_user, place, 0))
        self._end[self._order] = np.maximum.accumulate(np.where(new_second, place, 0))

    def count(self, events: ArrayLike) -> Ints:
        """`[batch]`: the length of each history."""
        places = np.asarray(events, np.int64)
        return np.asarray(self._end[places] - self._start[places])

    def of(self, event: int, *, last: int | None = None) -> Ints:
        """`[length]`: the history of one event, the newest `last` of it."""
        start, end = self._start[event], self._end[event]
        return self._order[start if last is None else max(start, end - last) : end]

    def flat(self, events: ArrayLike) -> tuple[Ints, Ints]:
        """All histories one after the other: the row in `events` that each belongs to, and the events themselves."""
        count, start = self.count(events), self._start[np.asarray(events, np.int64)]
        row = np.repeat(np.arange(len(count)), count)
        within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        return row, self._order[np.repeat(start, count) + within]

    def padded(self, events: ArrayLike, *, length: int) -> Ints:
        """`[batch, length]`: the newest `length` of each history, newest in the last column, -1 where there is none."""
        events = np.asarray(events, np.int64)
        place = self._end[events][:, None] + np.arange(-length, 0)
        return np.where(place >= self._start[events][:, None], self._order[np.maximum(place, 0)], -1)

"""The popularity prior of one version, continued from its export by what users choose.

One user must not move what others see. So an item's choices are withheld, from the counts and the totals alike, until `users`
different users have chosen it; then all of them count. Newcomers' choices count as `data/behaviour/newcomers.py` says.
"""
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tfrec.models.popularity_prior import Override, PopularityPrior


class Choice(NamedTuple):
    """A user chose an item at a second."""

    user: str
    item: str
    time: int
    is_newcomer: bool


class Damped(NamedTuple):
    """What users chose and what does not move popularity."""

    few: int  # choices of items that too few users chose
    newcomers: float  # newcomers' choices that few others agree with, in events
    most: str  # the item that most of the latter are of; "" if there is none


NOTHING_DAMPED = Damped(0, 0.0, "")


class RollingPrior:
    """Not safe to share between threads.

    Args:
        prior: as exported; it is changed.
        ids: the prior's items, in its order.
        hidden: items that must not be shown.
        users: different users who must choose an item before its popularity moves.
    """

    def __init__(self, prior: PopularityPrior, ids: list[str], hidden: Sequence[str], *, users: int) -> None:
        self._prior = prior
        self._users = users
        self._ids = ids
        self._hidden = set(hidden)
        self._index = {item: index for index, item in enumerate(ids)}
        self._exported = np.exp(prior.log_p())
        self._withheld: dict[int, dict[str, Choice]] = {}  # by index of the item, and by user
        self._moving: set[int] = set()  # items that enough users chose

    @property
    def clock(self) -> int:
        """The newest second that has been counted."""
        return self._prior.clock

    def add(self, choices: Iterable[Choice]) -> None:
        """Count choices, at most one per user and item. Items that the version does not know are left out."""
        counted: list[tuple[int, int, bool]] = []
        for choice in choices:
            index = self._index.get(choice.item)
            if index is None:
                continue
            if index in self._moving:
                counted.append((index, choice.time, choice.is_newcomer))
                continue
            withheld = self._withheld.setdefault(index, {})
            withheld.setdefault(choice.user, choice)
            if len(withheld) >= self._users:
                self._moving.add(index)
                counted += [(index, one.time, one.is_newcomer) for one in self._withheld.pop(index).values()]
        if counted:
            items, times, newcomer = zip(*counted, strict=True)
            self._prior.update(items, times, newcomer=newcomer)

    def erase(self, users: set[str]) -> None:
        """Forget what is withheld of some users. What was counted names nobody."""
        for withheld in self._withheld.values():
            for user in users & withheld.keys():
                del withheld[user]

    @property
    def withheld_users(self) -> set[str]:
        """The users of whom something is withheld."""
        return {user for withheld in self._withheld.values() for user in withheld}

    def damped(self) -> Damped:
        """What does not move popularity."""
        aside = self._prior.set_aside()
        most = int(aside.argmax()) if len(aside) else 0
        item = self._ids[most] if len(aside) and aside[most] >= 1 else ""
        return Damped(sum(map(len, self._withheld.values())), float(aside.sum()), item)

    def moved(self, limit: int) -> Override:
        """The at most `limit` items whose p differs most from the export, the largest difference first."""
        log_p = self._prior.log_p()
        change = -np.abs(np.exp(log_p) - self._exported)
        n = min(limit, int(np.count_nonzero(change)))
        if not n:
            return nothing_moved()
        top = np.argpartition(change, n - 1)[:n]
        top = top[np.lexsort((top, change[top]))]
        return Override([self._ids[index] for index in top], log_p[top])

    def popular(self, n: int) -> Override:
        """The `n` items with the largest p that may be shown, the largest first."""
        log_p = self._prior.log_p()
        top = np.argsort(-log_p, kind="stable")[: n + len(self._hidden)]
        shown = [index for index in top.tolist() if self._ids[index] not in self._hidden][:n]
        return Override([self._ids[index] for index in shown], log_p[shown])


def nothing_moved() -> Override:
    """An override of no item."""
    return Override([], np.zeros(0, np.float32))

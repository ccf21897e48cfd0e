"""The popularity prior of one version, continued from its export by what users choose.

One user must not move what others see. So an item's choices are withheld, from the counts and the totals alike, until `users`
different users have chosen it; then all of them count. Newcomers' choices count as `data/behaviour/newcomers.py` says.
"""
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tfrec.models.popularity_prior import Override, PopularityPrior

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float32]


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


class Scored(NamedTuple):
    """Items and their scores."""

    ids: list[str]
    scores: Floats  # [len(ids)]


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
        self._index = {item: index for index, item in enumerate(ids)}
        self._exported = np.exp(prior.log_p())
        self._shown = np.ones(len(ids), np.bool_)
        self._shown[self._positions(hidden)] = False
        self._withheld: dict[int, dict[str, Choice]] = {}  # by index of the item, and by user
        self._moving: set[int] = set()  # items that enough users chose
        self._log_p: Floats | None = None  # of now, once it has been asked for
        self._most_popular: Ints | None = None  # the items that may be shown, once they have been asked for

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
            self._log_p = self._most_popular = None

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
        log_p = self._log_p_now()
        change = -np.abs(np.exp(log_p) - self._exported)
        n = min(limit, int(np.count_nonzero(change)))
        if not n:
            return nothing_moved()
        top = np.argpartition(change, n - 1)[:n]
        top = top[np.lexsort((top, change[top]))]
        return Override([self._ids[index] for index in top], log_p[top])

    def popular(self, n: int) -> Override:
        """The `n` items with the largest p that may be shown, the largest first."""
        top = self._by_popularity()[:n]
        return Override([self._ids[index] for index in top.tolist()], self._log_p_now()[top])

    def searched(self, found: Ints, added: Floats, n: int, *, beta: float, exclude: Collection[str]) -> Scored | None:
        """The `n` items with the highest scores, the highest first, of those that may be shown.

        Args:
            found: `[m]`, the positions of items that have a word of a query.
            added: `[m]`, above 0: what that adds to the score of each, which is `beta` log p for the others.
            n: items.
            beta: the weight of popularity.
            exclude: ids that are left out.

        Returns:
            None if no item that has a word may be shown.
        """
        excluded, log_p = self._positions(exclude), self._log_p_now()
        may = self._shown[found] & ~np.isin(found, excluded)
        found, added = found[may], added[may]
        if not len(found):
            return None
        scores = np.float32(beta) * log_p[found] + added
        if len(found) > n:
            best = scores >= np.partition(scores, len(scores) - n)[len(scores) - n]
            found, scores = found[best], scores[best]
        # an item without a word is behind all more popular ones, so it is among the n most popular if it is among the n best
        popular = self._by_popularity()[: n + len(excluded)]
        others = popular[~np.isin(popular, excluded) & ~np.isin(popular, found)]
        items, scores = np.concatenate([found, others]), np.concatenate([scores, np.float32(beta) * log_p[others]])
        top = np.lexsort((items, -scores))[:n]
        return Scored([self._ids[index] for index in items[top].tolist()], scores[top])

    def _positions(self, ids: Collection[str]) -> Ints:
        """The positions of those of the ids that are known."""
        return np.array([self._index[item] for item in ids if item in self._index], np.int64)

    def _log_p_now(self) -> Floats:
        if self._log_p is None:
            self._log_p = self._prior.log_p()
        return self._log_p

    def _by_popularity(self) -> Ints:
        """The items that may be shown, the most popular first, equal ones in their order."""
        if self._most_popular is None:
            order = np.argsort(-self._log_p_now(), kind="stable")
            self._most_popular = order[self._shown[order]]
        return self._most_popular


def nothing_moved() -> Override:
    """An override of no item."""
    return Override([], np.zeros(0, np.float32))

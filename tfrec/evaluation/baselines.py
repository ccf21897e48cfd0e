"""The baselines that a model must beat: popularity, 7-day popularity, item-kNN and EASE.

Popularity rolls: it counts every event strictly before the second of the evaluated event. The weights of item-kNN and EASE are
fitted on the training set only, and not at all if that would take more memory than a common machine has.
"""
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.evaluation.ease import fit_ease
from tfrec.evaluation.item_knn import ItemKnn
from tfrec.evaluation.protocol import Ints, Scorer
from tfrec.evaluation.training_matrix import TrainingMatrix

FloatArray = NDArray[np.float64]

WEEK = 7 * 86_400  # seconds
POPULARITY, POPULARITY_7D, ITEM_KNN, EASE = "popularity", "popularity_7d", "item-kNN", "EASE"

# Training users or items, whichever are fewer, at most: the side of what EASE inverts. 3.2 GB; the time is cubic
MAX_SIDE = 20_000
# Pairs that item-kNN would keep if all of them tied: 36 bytes each while it fits, 15 GB. Without ties it keeps 100 an item
MAX_NEIGHBOURS = 20_000**2


class RollingPopularity:
    """Counts of the events of each item up to a moment, as scores.

    `scores(now)` counts the events strictly before `now`. With a window it counts those at most `window` seconds old and
    adds total / (events + 1), which is below 1, so that the count over all time decides between equal counts.
    `update` and `scores` may be called in any order. When events come late or `now` goes back, the counts are made anew.
    """

    def __init__(self, n_items: int, *, window: int | None = None) -> None:
        self._window = window
        self._total, self._recent = np.zeros(n_items), np.zeros(n_items)
        self._items, self._times = np.empty(1024, np.int64), np.empty(1024, np.int64)  # capacity, of which `size` is used
        self._size = self._head = self._tail = 0  # events before head are in total, those from tail to head in recent

    def update(self, items: ArrayLike, times: ArrayLike) -> None:
        """Add events: item codes `[n]` and the seconds `[n]` at which they happened."""
        items, times = np.atleast_1d(np.asarray(items, np.int64)), np.atleast_1d(np.asarray(times, np.int64))
        if not len(items):
            return
        old, self._size = self._size, self._size + len(items)
        if self._size > len(self._items):
            capacity = 2 * self._size
            self._items, self._times = np.resize(self._items, capacity), np.resize(self._times, capacity)
        self._items[old : self._size], self._times[old : self._size] = items, times
        used = slice(max(old - 1, 0), self._size)
        if (np.diff(self._times[used]) < 0).any():
            order = np.argsort(self._times[: self._size], kind="stable")
            self._items[: self._size], self._times[: self._size] = self._items[order], self._times[order]
            self._forget()

    def scores(self, now: int) -> FloatArray:
        """`[n_items]`: a new array of the scores at the second `now`."""
        times = self._times[: self._size]
        head = int(np.searchsorted(times, now))
        tail = 0 if self._window is None else int(np.searchsorted(times, now - self._window))
        if head < self._head or tail < self._tail:
            self._forget()
        new, old = self._items[self._head : head], self._items[self._tail : tail]
        np.add.at(self._total, new, 1)
        np.add.at(self._recent, new, 1)
        np.subtract.at(self._recent, old, 1)
        self._head, self._tail = head, tail
        return self._total.copy() if self._window is None else self._recent + self._total / (head + 1)

    def _forget(self) -> None:
        self._total[:], self._recent[:] = 0, 0
        self._head = self._tail = 0


def popularity_scorer(inter: Interactions, *, window: int | None = None) -> Scorer:
    """A scorer by `RollingPopularity` over all of `inter`."""
    counts = RollingPopularity(len(inter.items), window=window)
    counts.update(inter.item, inter.time)

    def scores(events: Ints) -> FloatArray:
        return np.stack([counts.scores(int(now)) for now in inter.time[events]])

    return scores


@dataclass(frozen=True)
class Baselines:
    """Scorers by name, and for each that was not fitted the reason."""

    scorers: Mapping[str, Scorer]
    skipped: Mapping[str, str]


def fit_baselines(
    inter: Interactions,
    *,
    train_end: int,
    histories: Histories | None = None,
    max_side: int = MAX_SIDE,
    max_neighbours: int = MAX_NEIGHBOURS,
) -> Baselines:
    """All baselines over `inter`.

    Args:
        inter: in protocol order.
        train_end: events that item-kNN and EASE are fitted on, the first ones.
        histories: of `inter`, when the caller has them already.
        max_side: of the matrix that EASE inverts; it is skipped above.
        max_neighbours: pairs of items that item-kNN may have to keep; it is skipped above.
    """
    scorers: dict[str, Scorer] = {
        POPULARITY: popularity_scorer(inter),
        POPULARITY_7D: popularity_scorer(inter, window=WEEK),
    }
    if not train_end:
        return Baselines(scorers, dict.fromkeys([ITEM_KNN, EASE], "no training event"))
    training = TrainingMatrix.of(inter, end=train_end, histories=histories or Histories(inter))
    (users, items), skipped = training.users.shape, {}
    pairs = int((np.diff(training.users.indptr).astype(np.int64) ** 2).sum())  # of items of one user, over all users
    if (most := min(pairs, items**2)) <= max_neighbours:
        scorers[ITEM_KNN] = ItemKnn.fit(training)
    else:
        skipped[ITEM_KNN] = f"up to {most:,} pairs of neighbours, above {max_neighbours:,}"
    if min(users, items) <= max_side:
        scorers[EASE] = fit_ease(training)
    else:
        skipped[EASE] = f"{users:,} training users and {items:,} training items, both above {max_side:,}"
    return Baselines(scorers, skipped)

"""The simple peers that a model must beat: popularity, 7-day popularity, item-kNN, EASE.

Counts roll: they hold every event strictly before the second that is asked. Weights of item-kNN and EASE are fitted on the
training set only. Sums are carried out in the very order of the reference protocol, because two items with the same
training users differ by rounding alone, and a rank that depends on it moves a metric by more than the 1e-9 allowed.
"""
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec.data.histories import Histories
from tfrec.data.interactions import Interactions
from tfrec.evaluation.protocol import Ints, Scorer

FloatArray = NDArray[np.float64]

WEEK = 7 * 86_400  # seconds
POPULARITY, POPULARITY_7D, ITEM_KNN, EASE = "popularity", "popularity_7d", "item-kNN", "EASE"

MAX_ITEMS = 20_000  # training items for which an item-item matrix is fitted: 3.2 GB each, and the inverse is cubic
EASE_LAMBDA = 100.0
KNN_NEIGHBOURS = 100
RECENT = 50  # events of a history that item-item weights read
DECAY = 0.8  # weight of an event against the one after it


class RollingPopularity:
    """Counts of events a item, up to a moment, as scores; live (`update`, `scores`, `update`, ...) or over a whole log.

    `scores(now)` counts the events strictly before `now`. With a window it counts those at most `window` seconds old and
    adds total / (events + 1), below 1, so that all of time decides between equal counts.
    Events may come late and `now` may go back: the counts are then made anew.
    """

    def __init__(self, n_items: int, *, window: int | None = None) -> None:
        self._window = window
        self._total, self._recent = np.zeros(n_items), np.zeros(n_items)
        self._items, self._times = np.empty(1024, np.int64), np.empty(1024, np.int64)  # room, of which `size` is used
        self._size = self._head = self._tail = 0  # events before head are in total, those from tail to head in recent

    def update(self, items: ArrayLike, times: ArrayLike) -> None:
        """Add events: item codes `[n]` and their seconds `[n]`."""
        items, times = np.atleast_1d(np.asarray(items, np.int64)), np.atleast_1d(np.asarray(times, np.int64))
        if not len(items):
            return
        old, self._size = self._size, self._size + len(items)
        if self._size > len(self._items):
            room = 2 * self._size
            self._items, self._times = np.resize(self._items, room), np.resize(self._times, room)
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
    """`RollingPopularity` over all of `inter`, asked by event."""
    counts = RollingPopularity(len(inter.items), window=window)
    counts.update(inter.item, inter.time)

    def scores(events: Ints) -> FloatArray:
        return np.stack([counts.scores(int(now)) for now in inter.time[events]])

    return scores


@dataclass(frozen=True)
class ItemWeights:
    """A scorer: the newest `RECENT` events of a history, each `DECAY` times the weight of the next, times item-item weights.

    `seen` `[n]` are the items of the training set, `weights` `[n, n]` goes from a row in the history to a column to score.
    Every other item scores 0.
    """

    inter: Interactions
    histories: Histories
    seen: Ints
    weights: FloatArray

    def __call__(self, events: Ints) -> FloatArray:
        column = np.full(len(self.inter.items), -1)
        column[self.seen] = np.arange(len(self.seen))
        scores = np.zeros((len(events), len(column)))
        rows = np.empty((RECENT, len(self.seen)))
        for out, event in zip(scores, events, strict=True):
            place = column[self.inter.item[self.histories.of(event, last=RECENT)]]
            decay, known = DECAY ** np.arange(len(place))[::-1], place >= 0
            used = rows[: known.sum()]
            np.take(self.weights, place[known], axis=0, out=used, mode="clip")
            out[self.seen] = decay[known] @ used
        return scores


def item_weights(inter: Interactions, *, train_end: int) -> tuple[Ints, dict[str, FloatArray]]:
    """The items of the first `train_end` events `[n]`, and `[n, n]` weights of item-kNN and of EASE fitted on those events.

    With G[i, j] = users of both i and j: item-kNN is G[i, j] / sqrt(G[i, i] G[j, j]), the 100 nearest i of each j kept. EASE
    (Steck 2019) is -P[i, j] / P[j, j] with P = (G + lambda I)^-1. Both have a zero diagonal. G is made in place into
    item-kNN: with the inverse's working memory this peaks at 5 matrices.
    """
    user, item = inter.user[:train_end], inter.item[:train_end]
    seen, place = np.unique(item, return_inverse=True)
    gram = np.zeros((len(seen), len(seen)))
    order = np.argsort(user, kind="stable")
    for own in np.split(place[order], np.flatnonzero(np.diff(user[order])) + 1):
        gram[np.ix_(own, own)] += 1
    count = np.diag(gram).copy()
    np.fill_diagonal(gram, count + EASE_LAMBDA)
    # not by Cholesky: no quicker with OpenBLAS, and on MovieLens its rounding moved the rank of 318 of 6,000 events
    ease: FloatArray = np.asarray(np.linalg.inv(gram), np.float64)
    scale = np.diag(ease).copy()
    np.negative(ease, out=ease)
    ease /= scale
    np.fill_diagonal(ease, 0)
    np.fill_diagonal(gram, count)
    return seen.astype(np.int64), {ITEM_KNN: _nearest(gram, np.sqrt(count)), EASE: ease}


def _nearest(gram: FloatArray, norm: FloatArray) -> FloatArray:
    """Cosines in the place of `gram`, and of each column only those that reach its `KNN_NEIGHBOURS`-th largest."""
    for start in range(0, len(gram), 256):
        gram[start : start + 256] /= np.outer(norm[start : start + 256], norm)
    np.fill_diagonal(gram, 0)
    if len(gram) > KNN_NEIGHBOURS:
        for start in range(0, len(gram), 256):
            block = gram[:, start : start + 256]
            block[block < np.partition(block, -KNN_NEIGHBOURS, axis=0)[-KNN_NEIGHBOURS]] = 0
    return gram


@dataclass(frozen=True)
class Peers:
    """Scorers by name, and the reason for each that is missing."""

    scorers: Mapping[str, Scorer]
    skipped: Mapping[str, str]


def peers(inter: Interactions, *, train_end: int, histories: Histories | None = None, max_items: int = MAX_ITEMS) -> Peers:
    """All peers over `inter`, the fitted ones on its first `train_end` events."""
    scorers: dict[str, Scorer] = {
        POPULARITY: popularity_scorer(inter),
        POPULARITY_7D: popularity_scorer(inter, window=WEEK),
    }
    n = len(np.unique(inter.item[:train_end]))
    if not 0 < n <= max_items:
        why = f"{n} training items, above {max_items:,}" if n else "no training event"
        return Peers(scorers, {ITEM_KNN: why, EASE: why})
    seen, weights = item_weights(inter, train_end=train_end)
    histories = histories or Histories(inter)
    scorers |= {name: ItemWeights(inter, histories, seen, matrix) for name, matrix in weights.items()}
    return Peers(scorers, {})

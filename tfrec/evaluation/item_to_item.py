"""The peers that fit weights from item to item, item-kNN and EASE: a training set in, scorers of any event out.

Both read the newest `RECENT` events of a history, each with `DECAY` times the weight of the next, and both score an item
without training event 0. Neither holds an item-item matrix unless the catalogue is the smaller side of the log: item-kNN
keeps the neighbours alone, EASE inverts whichever is smaller of the item-item and the user-user matrix.

The reference protocol has whole item-item matrices. Item-kNN gives its ranks; EASE by users ties items that have the same
training users, which the reference orders by the rounding of its inverse (on MovieLens 339 of 6,000 ranks, none across 10 or 50).
"""
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.evaluation.incidence import FloatArray, Incidence, Ints
from tfrec.evaluation.protocol import Scorer

LAMBDA = 100.0  # of EASE
NEIGHBOURS = 100  # of item-kNN
RECENT = 50  # events of a history that are read
DECAY = 0.8  # weight of an event against the one after it
BLOCK = 1024  # rows of a matrix product: enough for BLAS to be at its best


@dataclass(frozen=True)
class Training:
    """The first `end` events of `inter` as X `[users, items]`, 0/1, each side numbered without gaps."""

    inter: Interactions
    histories: Histories
    seen: Ints  # [items]: their codes
    place: Ints  # [n_items]: where a code stands in `seen`, -1 if it does not
    users: Incidence  # X
    items: Incidence  # its transpose

    @classmethod
    def of(cls, inter: Interactions, *, end: int, histories: Histories) -> "Training":
        seen, item = np.unique(inter.item[:end], return_inverse=True)
        place = np.full(len(inter.items), -1)
        place[seen] = np.arange(len(seen))
        users = Incidence.of(np.unique(inter.user[:end], return_inverse=True)[1], item)
        return cls(inter, histories, seen.astype(np.int64), place, users, users.transposed())

    def recent(self, event: int) -> tuple[Ints, FloatArray]:
        """What a scorer reads before `event`, oldest first: places in `seen`, and weights; both `[n]`, n at most `RECENT`."""
        place = self.place[self.inter.item[self.histories.of(event, last=RECENT)]]
        weight: FloatArray = np.power(DECAY, np.arange(len(place))[::-1], dtype=np.float64)
        return place[place >= 0], weight[place >= 0]


@dataclass(frozen=True)
class ItemKnn:
    """A scorer by cosine, of each item only those that reach its `NEIGHBOURS`-th largest."""

    training: Training
    nearest_to: list[NDArray[np.int32]]  # [items]: those that count this item among their nearest
    cosine: list[FloatArray]  # [items]: how near

    @classmethod
    def fit(cls, training: Training) -> "ItemKnn":
        norm = np.sqrt(np.diff(training.items.start))
        near, cosines = [], []
        for item, count in enumerate(training.items.together()):
            count[item] = 0
            others = np.flatnonzero(count)
            cosine = count[others] / (norm[others] * norm[item])
            if len(others) > NEIGHBOURS:
                kept = cosine >= np.partition(cosine, -NEIGHBOURS)[-NEIGHBOURS]
                others, cosine = others[kept], cosine[kept]
            near.append(others.astype(np.int32))
            cosines.append(cosine)
        whose, n = np.concatenate(near), len(near)
        by = np.repeat(np.arange(n, dtype=np.int32), [len(others) for others in near])
        order, cuts = np.argsort(whose, kind="stable"), np.cumsum(np.bincount(whose, minlength=n))[:-1]
        return cls(training, np.split(by[order], cuts), np.split(np.concatenate(cosines)[order], cuts))

    def __call__(self, events: Ints) -> FloatArray:
        scores = np.zeros((len(events), len(self.training.inter.items)))
        for out, event in zip(scores, events, strict=True):
            place, weight = self.training.recent(event)
            if len(place):
                near = np.concatenate([self.nearest_to[item] for item in place])
                shares = np.concatenate([w * self.cosine[item] for item, w in zip(place, weight, strict=True)])
                out[self.training.seen] = np.bincount(near, shares, minlength=len(self.nearest_to))
        return scores


@dataclass(frozen=True)
class EaseByItems:
    """EASE (Steck 2019): with w the weights of a history, item j scores the sum over i != j of -w[i] P[i, j] / P[j, j].

    P = (X^T X + lambda I)^-1, `[items, items]`.
    """

    training: Training
    inverse: FloatArray  # P

    def __call__(self, events: Ints) -> FloatArray:
        scores, diagonal = np.zeros((len(events), len(self.training.inter.items))), self.inverse.diagonal()
        for out, event in zip(scores, events, strict=True):
            place, weight = self.training.recent(event)
            own = weight @ self.inverse[place] / -diagonal
            own[place] += weight
            out[self.training.seen] = own
        return scores


@dataclass(frozen=True)
class EaseByUsers:
    """The same scores without any item-item matrix, for fewer users than items.

    By Woodbury P = (I - X^T A X) / lambda with A = (X X^T + lambda I)^-1, `[users, users]`. So with u = w X^T A X and
    d[j] = x_j^T A x_j, where x_j are the users of j, item j scores (u[j] - w[j] d[j]) / (1 - d[j]).
    """

    training: Training
    inverse: FloatArray  # A
    d: FloatArray  # [items]

    def __call__(self, events: Ints) -> FloatArray:
        recent, owners = [self.training.recent(event) for event in events], self.training.items.rows()
        people = np.zeros((len(events), len(self.inverse)))  # w X^T
        for own, (place, weight) in zip(people, recent, strict=True):
            for item, w in zip(place, weight, strict=True):
                own[owners[item]] += w
        found = self.training.items.times(self.inverse @ people.T)
        for row, (place, weight) in enumerate(recent):
            found[place, row] -= weight * self.d[place]
        found /= (1 - self.d)[:, None]
        scores = np.zeros((len(events), len(self.training.inter.items)))
        scores[:, self.training.seen] = found.T
        return scores


def ease(training: Training) -> Scorer:
    """EASE by whichever of the two matrices is the smaller."""
    by_users = len(training.users) < len(training.items)
    side = training.users if by_users else training.items
    gram = np.empty((len(side), len(side)))
    for row, count in zip(gram, side.together(), strict=True):
        row[:] = count
    gram.ravel()[:: len(gram) + 1] += LAMBDA
    inverse = _inverted(gram)
    return EaseByUsers(training, inverse, training.items.squares(inverse)) if by_users else EaseByItems(training, inverse)


def _inverted(matrix: FloatArray) -> FloatArray:
    """The inverse of a symmetric positive definite `[n, n]`, in its place: n^3 operations, no second matrix.

    Blocks are swept one after the other (Gauss-Jordan) on and above the diagonal; `np.linalg.inv` takes 8/3 n^3 and 4 matrices.
    """
    blocks = [slice(start, start + BLOCK) for start in range(0, len(matrix), BLOCK)]
    for own in blocks:
        pivot = np.linalg.inv(matrix[own, own])
        row = np.concatenate([matrix[: own.start, own].T, matrix[own, own.start :]], axis=1)
        solved = pivot @ row
        for rows in blocks:
            matrix[rows, rows.start :] -= row[:, rows].T @ solved[:, rows.start :]
        matrix[: own.start, own], matrix[own, own.start :] = solved[:, : own.start].T, solved[:, own.start :]
        matrix[own, own] = -pivot
    for rows in blocks:
        np.negative(matrix[rows, rows.start :], out=matrix[rows, rows.start :])
        matrix[rows.stop :, rows] = matrix[rows, rows.stop :].T
    return matrix

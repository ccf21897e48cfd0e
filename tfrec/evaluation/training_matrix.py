"""The training set as a sparse matrix of users by items, which item-kNN and EASE are fitted on, and the histories they score.

Products are taken a block of rows at a time, so that nothing of the size of items by items is held unless a model keeps it.
scipy adds the entries of a row in their stored order, each row by itself. Two items with the same users therefore get exactly
the same sums and stay tied, which no dense BLAS product promises.
"""
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.evaluation.protocol import Ints

FloatArray = NDArray[np.float64]

RECENT = 50  # events of a history that are read
DECAY = 0.8  # weight of an event relative to the next one
BLOCK_BYTES = 64 << 20  # of one block of a product


@dataclass(frozen=True)
class TrainingMatrix:
    """The first events of `inter` as X `[users, items]`, 0 or 1. Rows and columns are numbered without gaps."""

    inter: Interactions
    histories: Histories
    codes: Ints  # [items]: the item code of each column
    column: Ints  # [n_items]: the column of each item code, -1 without a training event
    users: csr_array  # X
    items: csr_array  # X transposed

    @classmethod
    def of(cls, inter: Interactions, *, end: int, histories: Histories) -> "TrainingMatrix":
        """The matrix of the first `end` events of `inter`."""
        codes, columns = np.unique(inter.item[:end], return_inverse=True)
        column = np.full(len(inter.items), -1)
        column[codes] = np.arange(len(codes))
        rows = np.unique(inter.user[:end], return_inverse=True)[1]
        users = csr_array((np.ones(end), (rows, columns)))
        return cls(inter, histories, codes.astype(np.int64), column, users, users.T.tocsr())

    def recent(self, events: Ints) -> csr_array:
        """`[batch, items]`: the weights of what a scorer reads before each event, at most `RECENT` a row, the oldest first."""
        past = self.histories.padded(events, length=RECENT)  # the newest stands last
        column = np.where(past >= 0, self.column[self.inter.item[past]], -1)
        known = column >= 0
        weight = DECAY ** np.arange(RECENT - 1.0, -1.0, -1.0)
        starts = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
        return csr_array((np.broadcast_to(weight, known.shape)[known], column[known], starts), (len(events), len(self.codes)))

    def by_code(self, scores: FloatArray) -> FloatArray:
        """`[batch, n_items]` from scores `[batch, items]`: an item without a training event scores 0."""
        found = np.zeros((len(scores), len(self.inter.items)))
        found[:, self.codes] = scores
        return found


def row_blocks(matrix: csr_array, *, width: int, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[slice, csr_array]]:
    """Blocks of rows, each with its slice, whose products of `width` columns take about `block_bytes`, sparse and dense."""
    step = max(1, block_bytes // (24 * width))  # 8 bytes of a dense value, 16 of a sparse one and its column
    for start in range(0, matrix.shape[0], step):
        rows = slice(start, start + step)
        yield rows, matrix[rows]

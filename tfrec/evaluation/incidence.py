"""Who did what, as a sparse 0/1 matrix: pairs of codes in, sums over the ones of each row out.

The peers are sums over such a matrix, and numpy has no sparse one. Rows are summed in order of column and each by itself, so
two rows with the same ones get exactly the same sum: items with the same people stay tied, which no BLAS product promises.
"""
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
FloatArray = NDArray[np.float64]

GATHERED_BYTES = 2 << 20  # of a dense matrix that are copied before they are summed: what a cache holds


@dataclass(frozen=True)
class Incidence:
    """`columns[start[r] : start[r + 1]]` are the ones of row r, ascending; every row and every column has one at least."""

    start: Ints  # [rows + 1]
    columns: Ints  # [ones]

    @classmethod
    def of(cls, row: ArrayLike, column: ArrayLike) -> "Incidence":
        """From the places of the ones, no place twice, rows and columns numbered without gaps."""
        row, column = np.asarray(row, np.int64), np.asarray(column, np.int64)
        order = np.lexsort((column, row))
        return cls(np.concatenate([[0], np.cumsum(np.bincount(row))]), column[order])

    def __len__(self) -> int:
        return len(self.start) - 1

    def rows(self) -> list[Ints]:
        """The ones of every row; views."""
        return np.split(self.columns, self.start[1:-1])

    def transposed(self) -> "Incidence":
        return Incidence.of(self.columns, np.repeat(np.arange(len(self)), np.diff(self.start)))

    def pairs(self) -> int:
        """How many additions all of `together` of the transposed matrix takes: the ones of each row, squared."""
        return int((np.diff(self.start) ** 2).sum())

    def together(self) -> Iterator[Ints]:
        """Row by row of X X^T `[rows, rows]`: in how many columns both rows have a one."""
        owners = self.transposed().rows()
        for row in self.rows():
            yield np.bincount(np.concatenate([owners[column] for column in row]), minlength=len(self))

    def times(self, dense: FloatArray) -> FloatArray:
        """X `dense`: `[columns, batch]` to `[rows, batch]`."""
        out = np.empty((len(self), dense.shape[1]))
        step = max(1, GATHERED_BYTES // (8 * max(dense.shape[1], 1)))
        groups = np.unique(self.start[:-1] // step, return_index=True)[1].tolist()
        for first, last in pairwise([*groups, len(self)]):
            ones = self.columns[self.start[first] : self.start[last]]
            np.add.reduceat(dense[ones], self.start[first:last] - self.start[first], axis=0, out=out[first:last])
        return out

    def squares(self, square: FloatArray) -> FloatArray:
        """`[rows]`: x^T `square` x of each row x, the diagonal of X `square` X^T without the rest of it."""
        return np.array([sum(square[one].take(row).sum() for one in row) for row in self.rows()])

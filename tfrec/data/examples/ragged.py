"""Rows of unequal length in one flat array (compressed sparse rows), so one long row does not widen an array for all."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Ragged:
    """`n` rows; row r is `values[begin[r] : begin[r + 1]]`."""

    values: npt.NDArray[Any]  # [m], row after row
    begin: npt.NDArray[np.int64]  # [n + 1], ascending from 0

    @classmethod
    def of(cls, rows: Sequence[npt.ArrayLike], dtype: npt.DTypeLike = np.int32) -> "Ragged":
        """From a sequence of sequences."""
        arrays = [np.asarray(row, dtype) for row in rows]
        begin = np.cumsum([0, *map(len, arrays)], dtype=np.int64)
        return cls(np.concatenate(arrays) if arrays else np.zeros(0, dtype), begin)

    def __len__(self) -> int:
        return len(self.begin) - 1

    def __getitem__(self, rows: npt.NDArray[Any]) -> "Ragged":
        """The rows numbered `rows`, or those where a mask `[n]` holds, in that order."""
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        first, length = self.begin[rows], self.lengths[rows]
        begin = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        at = np.arange(begin[-1]) + np.repeat(first - begin[:-1], length)
        return Ragged(self.values[at], begin)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """`[n]`."""
        return np.diff(self.begin)

    @property
    def row(self) -> npt.NDArray[np.int64]:
        """`[m]`: the row of each value."""
        return np.repeat(np.arange(len(self)), self.lengths)

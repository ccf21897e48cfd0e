"""Rows of different lengths as arrays that a batching server can widen."""
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from tfrec.client.tensors import text_array
from tfrec.errors import UsageError

Arrays = dict[str, np.ndarray]


def one_per_row(value: float | Sequence[float], n: int, dtype: type) -> np.ndarray:
    """`[n]`: a single value repeated, or the values that are given."""
    return np.array([value] * n if isinstance(value, int | float) else value, dtype)


def padded(rows: Sequence[Sequence[Any]], fill: str | int | float, *, like: Sequence[Sequence[Any]] | None = None,
           dtype: type | None = None) -> np.ndarray:
    """Rows as one array `[batch, 1 + longest row]`; short rows are filled at the end.

    The first column is `fill` too. A batching server widens a narrow request with the first value of its row, and refuses a
    request that has no value. So the first value must mean nothing: otherwise a widened history would end in its oldest event.

    Args:
        rows: of different lengths; a row may also be empty.
        fill: the value of the padding.
        like: rows that these values belong to, such as the history of `history_action`; sets the width.
        dtype: of numbers; by default int64, or float32 where `fill` is a float.

    Raises:
        UsageError: a row is neither empty nor as long as its row of `like`.
    """
    width = max((len(row) for row in like or rows), default=0)
    for row, other in zip_longest(rows, rows if like is None else like, fillvalue=()):
        if len(row) not in (0, len(other)):
            raise UsageError(f"Expected as many values as there are items beside them ({len(other)}), got {len(row)}.")
    full = [[fill, *row, *[fill] * (width - len(row))] for row in rows]
    if isinstance(fill, str):
        return text_array(full)
    return np.array(full, dtype or (np.int64 if isinstance(fill, int) else np.float32))

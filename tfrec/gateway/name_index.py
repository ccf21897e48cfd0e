"""Finds names in a sorted column of them: no string of a million becomes an object before somebody asks for it."""
from bisect import bisect_left

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class NameIndex:
    """Finds a name's position.

    Args:
        names: sorted, each once. Arrow sorts strings by their UTF-8 bytes, which is Python's order too.
    """

    def __init__(self, names: pa.StringArray) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def without(self, names: set[str]) -> tuple["NameIndex", npt.NDArray[np.bool_]]:
        """The index without some names, and `[n]`, which of its names stay."""
        kept = np.ones(len(self.names), np.bool_)
        kept[[place for place in map(self.find, names) if place is not None]] = False
        return NameIndex(self.names.filter(pa.array(kept))), kept

    def find(self, name: str) -> int | None:
        """The position of `name`, in about 5 us; None if it is not there."""
        place = bisect_left(range(len(self.names)), name, key=lambda k: self.names[k].as_py())
        return place if place < len(self.names) and self.names[place].as_py() == name else None

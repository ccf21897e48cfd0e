"""Turns names into positions: of items in a catalogue, of users among those who are known."""
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def positions(names: pa.Array | pa.ChunkedArray, known: Sequence[str]) -> npt.NDArray[np.int64]:
    """`[n]`: the position of each name in `known`; -1 of a null and of a name that is not there."""
    found = pc.index_in(names, value_set=pa.array(known, pa.string()))
    return np.asarray(pc.fill_null(found, -1).to_numpy(), np.int64)

"""What a version's catalogue says of a few items, read from their lines of the file.

A gateway has no catalogue in memory, and a large one would cost it gigabytes. This holds the ids and where each line begins: some
30 MB for a million items, from the first look on.
"""
import mmap
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from tfrec.data.records import Item
from tfrec.errors import DataError
from tfrec.release.manifest import CATALOGUE

_BLOCK = 64 << 20  # bytes: no item is longer
_NEW_LINE = ord("\n")
_IDS_ONLY = pyarrow.json.ParseOptions(explicit_schema=pa.schema([("id", pa.string())]), unexpected_field_behavior="ignore")


class ItemLines:
    """Reads items of the newest version. Safe to share between threads.

    Args:
        version_dir: gives the directory of the newest version; None while there is none.
    """

    def __init__(self, version_dir: Callable[[], Path | None]) -> None:
        self._version_dir = version_dir
        self._lock = threading.Lock()
        self._of: Path | None = None
        self._ids = pa.array([], pa.string())
        self._begin = np.zeros(1, np.int64)

    def read(self, ids: Sequence[str]) -> list[Item]:
        """Those of the items that the catalogue has, in the order of `ids`.

        Raises:
            DataError: the catalogue cannot be read.
        """
        directory = self._version_dir()
        if directory is None or not ids:
            return []
        path = directory / CATALOGUE
        try:
            with self._lock:
                if self._of != path:
                    self._ids, self._begin, self._of = *_index(path), path
                known, begin = self._ids, self._begin
            rows = pc.index_in(pa.array(ids, pa.string()), value_set=known).drop_null().to_pylist()
            with path.open("rb") as file:
                found = []
                for row in rows:
                    file.seek(begin[row])
                    found.append(Item.model_validate_json(file.read(begin[row + 1] - begin[row])))
                return found
        except (OSError, pa.ArrowException, ValueError) as error:
            raise DataError(f"{path}: the catalogue cannot be read: {error}. Publish the version again.") from error


def _index(path: Path) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """The id of each line, `[items]`, and where it begins, `[items + 1]`."""
    ids = pyarrow.json.read_json(path, read_options=pyarrow.json.ReadOptions(block_size=_BLOCK), parse_options=_IDS_ONLY)["id"]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        ends = np.flatnonzero(np.frombuffer(text, np.uint8) == _NEW_LINE) + 1
    if len(ends) != len(ids):
        raise ValueError(f"it has {len(ends)} lines and {len(ids)} items")
    return ids.combine_chunks(), np.append(0, ends)

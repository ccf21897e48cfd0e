"""Reads a table's rows since a time, a column at a time.

The gateway holds a million outcomes in memory from its start on. A read of whole rows would take three times the memory of what
is kept; here it takes one column more.
"""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq

from tfrec.data.feedback_log.commits import ADVICE
from tfrec.data.readers.files import unreadable

Ints = npt.NDArray[np.int64]
CODES = pa.dictionary(pa.int32(), pa.string())


class _RowGroup(NamedTuple):
    """A row group, and which of its rows are read."""

    path: str
    group: int
    kept: pa.ChunkedArray | None  # None: all


class ColumnReader:
    """The rows of `since` or later, in an order that is the same for all columns.

    Files and row groups with older rows only are not read.

    Args:
        dataset: of the table, at a version.
        uri: of the table, for errors.
        since: seconds; rows without a time are left out.
        complete: columns in which a row must have a value, or it is left out.

    Raises:
        DataError: a file is truncated or damaged; names it.
    """

    def __init__(self, dataset: pyarrow.dataset.Dataset, *, uri: str, since: int, complete: Sequence[str] = ()) -> None:
        self._dataset = dataset
        self._uri = uri
        self._parts: list[_RowGroup] = []
        wanted = pc.field("time") >= since
        for fragment in dataset.get_fragments(filter=wanted):
            with self._opened(fragment.path) as file:
                for group in fragment.subset(wanted).row_groups:
                    kept = _kept(file, group.id, since, complete)
                    if kept is None or pc.any(kept).as_py():
                        self._parts.append(_RowGroup(fragment.path, group.id, kept))

    def read(self, name: str, *, coded: bool = False) -> pa.Array:
        """A column, null where a file lacks it; with `coded`, as a dictionary."""
        kind = CODES if coded else self._dataset.schema.field(name).type
        chunks = [pa.array([], kind), *self._chunks(name, kind)]
        return pa.chunked_array(chunks, kind).unify_dictionaries().combine_chunks()

    def read_ids(self, name: str, order: Ints) -> pa.StringArray:
        """The rows `order` of a column of strings.

        Where all of them have one length, as ids mostly do, each is put in its place as it is read, and the column is in memory
        once. Else it is there twice.
        """
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        found: _SameLength | None = None
        start = 0
        for chunk in self._chunks(name, pa.string()):
            if len(valid := chunk.drop_null()):
                found = found or _SameLength(len(order), len(valid[0].as_buffer()))
                if not found.put(chunk, place[start : start + len(chunk)]):
                    return self.read(name).take(pa.array(order))
            start += len(chunk)
        return pa.nulls(len(order), pa.string()) if found is None else found.array()

    def _chunks(self, name: str, kind: pa.DataType) -> Iterator[pa.Array]:
        coded = [name] if kind == CODES else []
        for path, parts in groupby(self._parts, key=lambda part: part.path):
            with self._opened(path, coded) as file:
                for part in parts:
                    yield from _column(file, part, name, kind).chunks

    @contextmanager
    def _opened(self, path: str, coded: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
        try:
            with (
                self._dataset.filesystem.open_input_file(path) as file,
                pq.ParquetFile(file, read_dictionary=coded, page_checksum_verification=True) as parquet,
            ):
                yield parquet
        except (pa.ArrowException, OSError) as error:
            raise unreadable(f"{self._uri}/{path}", error, advice=ADVICE) from error


class _SameLength:
    """Strings of one length, put in their places in any order. A row that is never put is null."""

    def __init__(self, rows: int, length: int) -> None:
        self._bytes = np.zeros((rows, length), np.uint8)
        self._is_valid = np.zeros(rows, np.bool_)

    def put(self, chunk: pa.StringArray, place: Ints) -> bool:
        """Whether all strings of a chunk have the length; then they are put at the rows `place`."""
        _, offsets, text = chunk.buffers()
        ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        is_valid = chunk.is_valid().to_numpy(zero_copy_only=False)
        rows, length = np.flatnonzero(is_valid), self._bytes.shape[1]
        begins = ends[:-1][rows]
        if (ends[1:][rows] - begins != length).any() or (np.diff(begins) != length).any():
            return False
        if len(rows) and length:
            found = np.frombuffer(text, np.uint8)[begins[0] : begins[0] + length * len(rows)]
            self._bytes[place[rows]] = found.reshape(-1, length)
        self._is_valid[place[rows]] = True
        return True

    def array(self) -> pa.StringArray:
        """The strings, without a copy."""
        rows, length = self._bytes.shape
        if rows * length > np.iinfo(np.int32).max:
            raise OverflowError(f"{rows} strings of {length} bytes are more than a column holds")
        ends = (length * np.arange(rows + 1)).astype(np.int32)
        valid = None if self._is_valid.all() else pa.py_buffer(np.packbits(self._is_valid, bitorder="little"))
        return pa.StringArray.from_buffers(rows, pa.py_buffer(ends), pa.py_buffer(self._bytes), valid)


def _column(file: pq.ParquetFile, part: _RowGroup, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    if name in file.schema_arrow.names:
        column = file.read_row_group(part.group, columns=[name], use_threads=False)[name]
    else:
        column = pa.chunked_array([pa.nulls(file.metadata.row_group(part.group).num_rows, kind)])
    if column.type != kind and kind == CODES:  # other tools write large strings
        column = column.cast(pa.string()).dictionary_encode()
    column = column.cast(kind)
    return column if part.kept is None else column.filter(part.kept)


def _kept(file: pq.ParquetFile, group: int, since: int, complete: Sequence[str]) -> pa.ChunkedArray | None:
    """Which rows of a row group are read, None for all. Its statistics tell mostly."""
    found = file.metadata.row_group(group)
    stats = {column.path_in_schema: column.statistics for column in (found.column(k) for k in range(found.num_columns))}
    time = stats.get("time")
    is_new = time is not None and time.has_min_max and time.min >= since
    unsure = [name for name in {"time", *complete}
              if (one := stats.get(name)) is None or not one.has_null_count or one.null_count]
    if is_new and not unsure:
        return None
    rows = file.read_row_group(group, columns=[name for name in {"time", *unsure} if name in stats], use_threads=False)
    kept = pc.fill_null(pc.greater_equal(rows["time"], since), fill_value=False)
    for name in unsure:
        valid = pc.is_valid(rows[name]) if name in stats else pa.chunked_array([pa.repeat(pa.scalar(value=False), rows.num_rows)])
        kept = pc.and_(kept, valid)
    return None if pc.all(kept).as_py() else kept

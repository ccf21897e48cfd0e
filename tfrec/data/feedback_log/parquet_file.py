"""Writes a Parquet file of a log table, on disk when the call returns."""
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfrec.data import durable_files

# the columns, where a table has them, whose least and greatest value a commit names; never what says who did what
BOUNDED = ("seq", "time", "shown_time")
# values that are new in nearly every row or slate: they are smaller, and sooner written, without a dictionary
DISTINCT = frozenset({"example_id", "request_id", "event_id", "time", "shown_time", "positive_time", "seq"})
Bounds = dict[str, tuple[Any, Any]]


def write_parquet(path: Path, schema: pa.Schema, parts: Iterable[pa.Table]) -> tuple[int, Bounds]:
    """Write the parts one after the other; returns the number of rows, and the bounds of the columns `BOUNDED`."""
    rows, bounds = 0, Bounds()
    with durable_files.open_new(path) as file:
        with pq.ParquetWriter(file, schema, compression="zstd", compression_level=1, write_page_checksum=True,
                              use_dictionary=_repeating(schema)) as writer:
            for part in parts:
                writer.write_table(part)
                rows += part.num_rows
                for name in (name for name in BOUNDED if name in schema.names):
                    ends = pc.min_max(part[name]).as_py()
                    values = [v for v in (*bounds.get(name, ()), ends["min"], ends["max"]) if v is not None]
                    if values:
                        bounds[name] = min(values), max(values)
        os.fsync(file.fileno())
    return rows, bounds


def _repeating(schema: pa.Schema) -> list[str]:
    """The columns that are written with a dictionary, as Parquet names them."""
    return [f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name
            for field in schema if field.name not in DISTINCT]

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
Bounds = dict[str, tuple[Any, Any]]


def write_parquet(path: Path, schema: pa.Schema, parts: Iterable[pa.Table]) -> tuple[int, Bounds]:
    """Write the parts one after the other; returns the number of rows, and the bounds of the columns `BOUNDED`."""
    rows, bounds = 0, Bounds()
    with durable_files.open_new(path) as file:
        with pq.ParquetWriter(file, schema, compression="zstd", compression_level=1, write_page_checksum=True) as writer:
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

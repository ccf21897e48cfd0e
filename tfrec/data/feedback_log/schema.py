"""The columns of the log's two tables, and the conversion of records to Arrow.

`impressions` has a row for each shown item, in which the columns of the request are repeated (they compress to nothing), so the
join is plain SQL. Columns that may be long and that no join reads (`ONCE`) are filled in the first row of a slate, and null in
the others. `outcomes` has a row for each outcome. Each row ends with its ingest id: `writer`, and `seq`, which grows by one per
writer.
"""
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from tfrec.errors import DataError

Kind = Literal["impressions", "outcomes"]
KINDS: tuple[Kind, Kind] = ("impressions", "outcomes")

_INGEST = [("writer", pa.string()), ("seq", pa.int64())]
_REQUEST = [
    ("request_id", pa.string()),
    ("time", pa.int64()),
    ("user", pa.string()),
    ("query", pa.string()),
    ("history", pa.list_(pa.string())),
    ("history_action", pa.list_(pa.string())),
    ("history_time", pa.list_(pa.int64())),
    ("exclude", pa.list_(pa.string())),
    ("allow_tags", pa.list_(pa.string())),
    ("deny_tags", pa.list_(pa.string())),
    ("prior_items", pa.list_(pa.string())),
    ("prior_log_p", pa.list_(pa.float32())),
    ("context", pa.string()),  # JSON
    ("policy", pa.string()),
    ("model_version", pa.int64()),
]
ONCE = frozenset({"exclude", "allow_tags", "deny_tags", "context", "prior_items", "prior_log_p"})
_SHOWN = [
    ("item", pa.string()),
    ("position", pa.int32()),
    ("score", pa.float64()),
    ("log_propensity", pa.float64()),
]
_OUTCOME = [
    ("event_id", pa.string()),
    ("request_id", pa.string()),
    ("user", pa.string()),
    ("item", pa.string()),
    ("action", pa.string()),
    ("value", pa.float64()),
    ("time", pa.int64()),
]
SCHEMAS: dict[Kind, pa.Schema] = {
    "impressions": pa.schema(_REQUEST + _SHOWN + _INGEST),
    "outcomes": pa.schema(_OUTCOME + _INGEST),
}


_TAKE_BYTES = 64 << 20  # of requests, times their items, that are repeated at once; a column of text has room for 2 GiB
_SLATE = pa.list_(pa.struct(_SHOWN))
_LINES: dict[Kind, pa.Schema] = {"impressions": pa.schema([*_REQUEST, ("slate", _SLATE)]), "outcomes": pa.schema(_OUTCOME)}


class UnwritableRows(DataError):
    """Records that the tables can never hold; a full disk is not such a case."""


def to_rows(kind: Kind, lines: Sequence[tuple[int, str]], *, writer: str) -> pa.Table:
    """Convert lines (seq, JSON of an `Impression` or `Outcome`) to rows of their table.

    Arrow parses them, not Python: the impressions of a second would hold the interpreter, and everyone who waits for an answer,
    for half a second. With Arrow it is a hundredth of a second.

    Raises:
        UnwritableRows: at least one line is not of this kind, or holds more than a table can.
    """
    try:
        table = _parse(kind, [line for _, line in lines])
        table = table.append_column("seq", pa.array([seq for seq, _ in lines], pa.int64()))
        if kind == "impressions":
            parts = _parts([len(line) for _, line in lines], table["slate"])
            table = pa.concat_tables([_row_per_item(table.slice(start, stop - start)) for start, stop in parts])
        return table.append_column("writer", pa.repeat(writer, table.num_rows)).select(SCHEMAS[kind].names).cast(SCHEMAS[kind])
    except OSError:
        raise
    except Exception as error:  # whatever it is, it is in the lines
        raise UnwritableRows(f"{kind}: no rows ({' '.join(str(error).split())[:200]})") from error


def _parse(kind: Kind, lines: Sequence[str]) -> pa.Table:
    text = "\n".join(lines).encode()
    read = pa.json.ReadOptions(use_threads=False, block_size=len(text) + 1)  # a line must not be longer than a block
    parse = pa.json.ParseOptions(explicit_schema=_LINES[kind], unexpected_field_behavior="ignore")
    table = pa.json.read_json(pa.BufferReader(text), read_options=read, parse_options=parse)
    if table.num_rows != len(lines):
        raise ValueError(f"expected {len(lines)} objects, got {table.num_rows}")
    return table


def _parts(sizes: Sequence[int], slates: pa.ChunkedArray) -> list[tuple[int, int]]:
    """Cut the lines into parts so that a part, repeated for each item, fits into memory and into a column."""
    parts, start, total = [], 0, 0
    for line, (size, items) in enumerate(zip(sizes, pc.list_value_length(slates).to_pylist(), strict=True)):
        total += size * (items or 0)
        if total > _TAKE_BYTES and line > start:
            parts.append((start, line))
            start, total = line, size * (items or 0)
    return [*parts, (start, len(sizes))]


def _row_per_item(requests: pa.Table) -> pa.Table:
    slate = requests["slate"].combine_chunks()
    parents = pc.list_parent_indices(slate)
    is_first = pa.array(np.diff(parents.to_numpy(), prepend=-1) != 0)
    first = pc.if_else(is_first, parents, pa.scalar(None, parents.type))
    rows = pa.table({name: column.take(first if name in ONCE else parents) for name, column in
                     zip(requests.column_names, requests.columns, strict=True) if name != "slate"})
    for name, column in zip((name for name, _ in _SHOWN), pc.list_flatten(slate).flatten(), strict=True):
        rows = rows.append_column(name, column)
    return rows

"""How records lie in the log's two tables: their columns, and the way from records to Arrow.

`impressions` holds a row per shown item with the columns of its request repeated (they compress to nothing), so that the join
is plain SQL; `outcomes` a row per outcome. Each row ends with its ingest id: `writer` and `seq`, growing by one per writer.
"""
import json
from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

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
    ("context", pa.string()),  # JSON
    ("policy", pa.string()),
    ("model_version", pa.int64()),
]
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


_SLATE = pa.list_(pa.struct(_SHOWN))
_LINES: dict[Kind, pa.Schema] = {"impressions": pa.schema([*_REQUEST, ("slate", _SLATE)]), "outcomes": pa.schema(_OUTCOME)}


def to_line(fields: dict[str, Any]) -> str:
    """The fields of an `Impression` or `Outcome` as the line of JSON that `to_rows` reads: a context is JSON within it."""
    return json.dumps(fields | {"context": json.dumps(fields["context"])} if "context" in fields else fields)


def to_rows(kind: Kind, lines: Sequence[tuple[int, str]], *, writer: str) -> pa.Table:
    """Lines (seq, JSON as `to_line` writes it) as rows of their table.

    Arrow parses, not Python: a second's impressions would hold the interpreter, and everyone who waits for an answer, for half a
    second; so they hold it for a hundredth of one.
    """
    text = "\n".join(line for _, line in lines).encode()
    read = pa.json.ReadOptions(use_threads=False, block_size=len(text) + 1)  # a line must not be longer than a block
    parse = pa.json.ParseOptions(explicit_schema=_LINES[kind], unexpected_field_behavior="ignore")
    table = pa.json.read_json(pa.BufferReader(text), read_options=read, parse_options=parse)
    table = table.append_column("seq", pa.array([seq for seq, _ in lines], pa.int64()))
    if kind == "impressions":
        slate = table["slate"].combine_chunks()
        table = table.take(pc.list_parent_indices(slate))
        for name, column in zip((name for name, _ in _SHOWN), pc.list_flatten(slate).flatten(), strict=True):
            table = table.append_column(name, column)
    return table.append_column("writer", pa.repeat(writer, table.num_rows)).select(SCHEMAS[kind].names).cast(SCHEMAS[kind])

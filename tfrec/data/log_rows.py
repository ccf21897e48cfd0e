"""How records lie in the log's two tables: their columns, and the way from records to Arrow.

`impressions` holds a row per shown item with the columns of its request repeated (they compress to nothing), so that the join
is plain SQL; `outcomes` a row per outcome. Each row ends with its ingest id: `writer` and `seq`, growing by one per writer.
"""
import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

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


def to_rows(kind: Kind, records: Sequence[tuple[int, dict[str, Any]]], *, writer: str) -> pa.Table:
    """Records (seq, the fields of an `Impression` or `Outcome`) as rows of their table."""
    table = _outcomes(records) if kind == "outcomes" else _impressions(records)
    return table.append_column("writer", pa.repeat(writer, table.num_rows)).select(SCHEMAS[kind].names).cast(SCHEMAS[kind])


def _outcomes(records: Sequence[tuple[int, dict[str, Any]]]) -> pa.Table:
    return pa.Table.from_pylist([{**fields, "seq": seq} for seq, fields in records], pa.schema([*_OUTCOME, ("seq", pa.int64())]))


def _impressions(records: Sequence[tuple[int, dict[str, Any]]]) -> pa.Table:
    requests = pa.Table.from_pylist(
        [{**fields, "seq": seq, "context": json.dumps(fields.get("context", {}))} for seq, fields in records],
        pa.schema([*_REQUEST, ("seq", pa.int64())]),
    )
    slates = [fields["slate"] for _, fields in records]
    shown = pa.Table.from_pylist([row for slate in slates for row in slate], pa.schema(_SHOWN))
    rows = requests.take(np.repeat(np.arange(len(slates)), [len(slate) for slate in slates]))
    for name in shown.column_names:
        rows = rows.append_column(name, shown[name])
    return rows

"""Sets aside the rows of the log that the join cannot use, because another tool wrote them without the checks of the records."""
import json

from tfrec.data.feedback_log.schema import SCHEMAS, Kind
from tfrec.data.feedback_log.window import Window
from tfrec.data.labels.sql_engine import SqlEngine
from tfrec.data.readers.quarantine import Quarantine, reject
from tfrec.data.records import MAX_VALUE

_TEXT = "{0} IS NOT NULL AND {0} <> ''"
_TIME = "time >= 0 AND time < 1099511627776"  # 2^40, as in the records
_WELL_FORMED: dict[Kind, dict[str, str]] = {  # the condition of each column
    "impressions": {
        **{column: _TEXT.format(f'"{column}"') for column in ("request_id", "user", "item", "policy")},
        "time": _TIME,
        "position": "position >= 0",
        "model_version": "model_version >= 0",
        "log_propensity": "(log_propensity IS NULL OR log_propensity <= 0)",
    },
    "outcomes": {
        **{column: _TEXT.format(f'"{column}"') for column in ("event_id", "user", "item", "action")},
        "time": _TIME,
        "value": f"abs(value) <= {MAX_VALUE:.0f}",  # NaN is above all numbers, in SQL
    },
}


def is_well_formed(kind: Kind) -> str:
    """The condition, in SQL, of the rows of a table that the join can use; it is never null."""
    return f"COALESCE({' AND '.join(_WELL_FORMED[kind].values())}, FALSE)"


def set_aside_malformed(sql: SqlEngine, kind: Kind, uri: str, quarantine: Quarantine | None,
                        window: Window) -> int:
    """Make the views `well_formed_<kind>` of `all_<kind>` and `<kind>` of `new_<kind>`, which have the well-formed rows.

    The malformed rows of the window are put in the quarantine and counted; all of them are in `new_<kind>`. Rows without an
    ingest id belong to no window. They are set aside when the log is read from its beginning.
    """
    rules = _WELL_FORMED[kind]
    well_formed = is_well_formed(kind)
    sql.create_view(f"well_formed_{kind}", f"SELECT * FROM all_{kind} WHERE {well_formed}")
    sql.create_view(kind, f"SELECT * FROM new_{kind} WHERE {well_formed}")
    broken = ", ".join(f"CASE WHEN NOT COALESCE({rule}, FALSE) THEN '{column}' END" for column, rule in rules.items())
    bad = (f"FROM new_{kind} AS r JOIN bounds AS b ON b.kind = '{kind}' AND b.writer = r.writer "
           f"AND r.seq > b.after_seq AND r.seq <= b.upto_seq WHERE NOT {well_formed}")
    count: int = sql.query(f"SELECT COUNT(*) AS n {bad}")["n"][0].as_py()
    if count:  # seldom, and their wide columns are read only then
        rows = sql.query(f"SELECT {_columns(kind)}, concat_ws(',', {broken}) AS broken {bad} ORDER BY r.writer, r.seq")
        for row in rows.to_pylist():
            reason = "; ".join(f"expected {rules[name]}, got {json.dumps(row[name])}" for name in row.pop("broken").split(","))
            reject(quarantine, uri, f"{row['writer']}:{row['seq']}", reason=reason, row=row)
    from_the_beginning = window.now and not any(window.start.values())
    return count + (_without_ingest_id(sql, kind, uri, quarantine) if from_the_beginning else 0)


def _without_ingest_id(sql: SqlEngine, kind: Kind, uri: str, quarantine: Quarantine | None) -> int:
    bad = sql.query(f"SELECT {_columns(kind)} FROM all_{kind} AS r WHERE writer IS NULL OR seq IS NULL")
    for number, row in enumerate(bad.to_pylist(), 1):
        reason = ("expected the ingest id of a row, `writer` (the name of what wrote it) and `seq` (from 1, growing), got "
                  f"{json.dumps(row['writer'])} and {json.dumps(row['seq'])}: it is in no window")
        reject(quarantine, uri, f"{number} of those without an ingest id", reason=reason, row=row)
    return len(bad)


def _columns(kind: Kind) -> str:
    """The log's own columns: other tools may have added some, which not every engine reads."""
    return ", ".join(f'r."{name}"' for name in SCHEMAS[kind].names)

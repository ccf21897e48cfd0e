"""From a window of the feedback log to training examples: runs `join.sql` on DuckDB.

A log and a window in, an Arrow table of examples and counts of what was left out. Rows that other tools wrote and that do not
fit are set aside by table, writer and sequence number before the statement sees them.
"""
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from tfrec.data.feedback_log.log import FeedbackLog, Window
from tfrec.data.feedback_log.schema import KINDS, SCHEMAS, Kind
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.repeated_actions import MINUTE_LIMIT, REPEAT_SECONDS
from tfrec.data.labels.rewards import ceiling, length_table, reward_table
from tfrec.data.readers.rows import Quarantine, reject
from tfrec.data.records import MAX_VALUE

SCHEMA = pa.schema(
    [
        ("example_id", pa.string()),
        ("source", pa.string()),  # slate, organic
        ("request_id", pa.string()),  # null when organic, like all that is known of a slate
        ("user", pa.string()),
        ("query", pa.string()),
        ("item", pa.string()),
        ("time", pa.int64()),  # of the strongest outcome, in the direction of the reward; of the impression when there was none
        ("action", pa.string()),  # of the strongest outcome; null when there was none
        ("reward", pa.float64()),
        ("converted", pa.bool_()),  # an outcome that counts is one of `reward.conversions`
        ("shown_time", pa.int64()),
        ("position", pa.int32()),
        ("log_propensity", pa.float64()),
        ("policy", pa.string()),
        ("model_version", pa.int64()),
        ("history", pa.list_(pa.string())),  # as served
        ("positive_time", pa.int64()),  # of the earliest outcome that is worth more than nothing; null when there was none
        ("positive_action", pa.string()),
    ]
)

_TEXT = "{0} IS NOT NULL AND {0} <> ''"
_TIME = "time >= 0 AND time < 1099511627776"  # 2^40, as in the records
_WELL_FORMED: dict[Kind, dict[str, str]] = {  # by column
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
        "value": f"isfinite(value) AND abs(value) <= {MAX_VALUE:.0f}",
    },
}


@dataclass(frozen=True)
class Examples:
    """Examples in the order of time, and how many rows of the window were left out, by reason."""

    table: pa.Table  # SCHEMA
    actions: Mapping[str, int] = field(default_factory=dict)  # outcomes by action, whatever became of them
    duplicates: int = 0  # outcomes whose event_id was seen before of their user
    unmatched: int = 0  # outcomes with a request_id for which the item was not shown inside the attribution window
    late: int = 0  # outcomes that came after their example was emitted
    unknown_items: int = 0  # rows whose item is not in the catalogue
    immature: int = 0  # shown items whose label is still open; they come in a later window
    noise: int = 0  # outcomes that repeat themselves or come faster than a person can act
    unrewarded: int = 0  # outcomes whose action has no weight
    malformed: int = 0  # rows set aside in the quarantine

    @property
    def left_out(self) -> dict[str, int]:
        """Log rows that became no example, by reason."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("table", "actions")}

    def __len__(self) -> int:
        return int(self.table.num_rows)


def join(
    log: FeedbackLog,
    window: Window,
    rule: LabelRule,
    *,
    quarantine: Quarantine | None,
    only: pa.ChunkedArray | None = None,
) -> Examples:
    """Examples of a window; the window says which rows, and up to when labels have matured.

    With `only` request ids, no other examples come; what is left out is counted in all.

    Raises:
        DataError: a table cannot be read, or a row is malformed and there is no quarantine.
    """
    settings = {
        "attribution": rule.attribution_seconds,
        "matured_from": window.matured_from,
        "now": window.now,
        "ceiling": ceiling(rule.reward),
        "cap": rule.reward.cap,
        "repeat_seconds": REPEAT_SECONDS,
        "minute_limit": MINUTE_LIMIT,
    }
    impressions, outcomes = log.tables["impressions"], log.tables["outcomes"]
    shown, acts = impressions.dataset(window.impressions_version), outcomes.dataset(window.outcomes_version)
    with duckdb.connect(config={"python_enable_replacements": False}) as db:  # names are relations, never Python variables
        db.register("bounds", _bounds(window))
        db.register("catalogue", pa.table({"item": pa.array(dict.fromkeys(rule.catalogue_ids), pa.string())}))
        db.register("rewards", reward_table(rule.reward))
        db.register("lengths", length_table(rule.lengths))
        db.register("settings", pa.Table.from_pylist([settings]))

        def run() -> Examples:
            register(db, "all_impressions", impressions.uri, shown, SCHEMAS["impressions"])
            register(db, "all_outcomes", outcomes.uri, acts, SCHEMAS["outcomes"])
            malformed = sum(_set_aside(db, kind, log.tables[kind].uri, quarantine, window) for kind in KINDS)
            if only is None:
                return _split(db.sql(statement()).to_arrow_table(), malformed=malformed)
            db.register("wanted", pa.table({"request_id": only}))
            some = "fate <> 'example' OR request_id IN (SELECT request_id FROM wanted)"
            found = db.sql(f"SELECT * FROM ({statement()}) AS every WHERE {some} ORDER BY time, example_id")
            return _split(found.to_arrow_table(), malformed=malformed)

        return impressions.checked(lambda: outcomes.checked(run, acts), shown)


def statement() -> str:
    """The text of `join.sql`, in DuckDB's dialect."""
    return resources.files("tfrec.data.labels").joinpath("join.sql").read_text("utf-8")


def register(db: duckdb.DuckDBPyConnection, name: str, uri: str, dataset: pyarrow.dataset.Dataset, schema: pa.Schema) -> None:
    """Give DuckDB the files to read itself where it can (7 times faster than through Arrow), else the dataset.

    It cannot where they are in an object store, which it reads only with an extension to download, and would misread a path
    with wildcards in it. Columns of `schema` that the files of other tools lack are null.
    """
    if dataset.files and "://" not in uri and not re.search(r"[*?\[]", uri):
        # by name: files from before a column was added lack it
        found = db.read_parquet([f"{uri}/{file}" for file in dataset.files], union_by_name=True)
    else:
        db.register(f"{name}_dataset", dataset)
        found = db.view(f"{name}_dataset")
    if all(column in found.columns for column in schema.names):
        found.create_view(name)
    else:
        found.create_view(f"{name}_files")
        db.register(f"{name}_schema", schema.empty_table())
        db.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM {name}_files UNION ALL BY NAME SELECT * FROM {name}_schema")


def _bounds(window: Window) -> pa.Table:
    rows = [
        {"kind": kind, "writer": writer, "after_seq": window.start[kind].get(writer, 0), "upto_seq": seq}
        for kind in KINDS
        for writer, seq in window.end[kind].items()
    ]
    columns = [("kind", pa.string()), ("writer", pa.string()), ("after_seq", pa.int64()), ("upto_seq", pa.int64())]
    return pa.Table.from_pylist(rows, pa.schema(columns))


def _set_aside(db: duckdb.DuckDBPyConnection, kind: Kind, uri: str, quarantine: Quarantine | None, window: Window) -> int:
    """Leave malformed rows out of the view that the statement reads; quarantine those of this window.

    Rows without an ingest id are in no window: they are set aside by the one that reads the log from its beginning.
    """
    rules = _WELL_FORMED[kind]
    well_formed = f"COALESCE({' AND '.join(rules.values())}, FALSE)"
    db.execute(f"CREATE TEMP VIEW {kind} AS SELECT * FROM all_{kind} WHERE {well_formed}")
    broken = ", ".join(f"CASE WHEN NOT COALESCE({rule}, FALSE) THEN '{column}' END" for column, rule in rules.items())
    bad = db.sql(
        f"SELECT r.*, concat_ws(',', {broken}) AS broken FROM all_{kind} AS r JOIN bounds AS b ON b.kind = '{kind}' AND "
        f"b.writer = r.writer AND r.seq > b.after_seq AND r.seq <= b.upto_seq WHERE NOT {well_formed} ORDER BY r.writer, r.seq"
    ).to_arrow_table()
    for row in bad.to_pylist():
        reason = "; ".join(f"expected {rules[name]}, got {json.dumps(row[name])}" for name in row.pop("broken").split(","))
        reject(quarantine, uri, f"{row['writer']}:{row['seq']}", reason=reason, row=row)
    return len(bad) + (_without_ingest_id(db, kind, uri, quarantine) if not any(window.start.values()) and window.now else 0)


def _without_ingest_id(db: duckdb.DuckDBPyConnection, kind: Kind, uri: str, quarantine: Quarantine | None) -> int:
    bad = db.sql(f"SELECT * FROM all_{kind} WHERE writer IS NULL OR seq IS NULL").to_arrow_table()
    for number, row in enumerate(bad.to_pylist(), 1):
        reason = ("expected the ingest id of a row, `writer` (the name of what wrote it) and `seq` (from 1, growing), got "
                  f"{json.dumps(row['writer'])} and {json.dumps(row['seq'])}: it is in no window")
        reject(quarantine, uri, f"{number} of those without an ingest id", reason=reason, row=row)
    return len(bad)


def _split(found: pa.Table, *, malformed: int) -> Examples:
    examples = pc.sum(pc.equal(found["fate"], "example")).as_py() or 0
    rest = found.slice(examples)  # the few rows without a time come last: nothing is copied
    told = zip(*(rest[name].to_pylist() for name in ("fate", "action", "log_rows")), strict=True)
    count, actions = {}, {}
    for fate, action, log_rows in told:
        if fate == "logged":
            actions[action] = log_rows
        else:
            count[fate] = log_rows
    return Examples(
        table=found.slice(0, examples).select(SCHEMA.names).cast(SCHEMA),
        actions=actions,
        duplicates=count.get("duplicate", 0),
        unmatched=count.get("unmatched", 0),
        late=count.get("late", 0),
        unknown_items=count.get("unknown_item", 0),
        immature=count.get("immature", 0),
        noise=count.get("noise", 0),
        unrewarded=count.get("unrewarded", 0),
        malformed=malformed,
    )

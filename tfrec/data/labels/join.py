"""Joins a window of the feedback log to training examples, by running `join.sql` on DuckDB or Spark.

The work grows with the window and with the time that labels take to mature, not with the log: new rows are looked for in the
files that are new, `horizon.sql` gives the earliest time that matters to them, and row groups that are older are skipped.
"""
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from importlib import resources

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.schema import KINDS, SCHEMAS
from tfrec.data.feedback_log.window import Window
from tfrec.data.labels.duckdb_engine import duckdb_engine
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.malformed_rows import set_aside_malformed
from tfrec.data.labels.repeated_actions import MINUTE_LIMIT, REPEAT_SECONDS
from tfrec.data.labels.rewards import ceiling, length_table, reward_table
from tfrec.data.labels.sql_engine import SqlEngine
from tfrec.data.readers.quarantine import Quarantine

SCHEMA = pa.schema(
    [
        ("example_id", pa.string()),
        ("source", pa.string()),  # slate, organic
        ("request_id", pa.string()),  # null when organic, as are all columns about a slate
        ("user", pa.string()),
        ("query", pa.string()),
        ("item", pa.string()),
        ("time", pa.int64()),  # of the strongest outcome, in the direction of the reward; of the impression when there was none
        ("action", pa.string()),  # of the strongest outcome; null when there was none
        ("reward", pa.float64()),
        ("converted", pa.bool_()),  # an outcome that counts is of `reward.conversions`
        ("shown_time", pa.int64()),
        ("position", pa.int32()),  # in its slate, as logged
        ("slate_size", pa.int32()),  # items of the slate
        ("log_propensity", pa.float64()),
        ("policy", pa.string()),
        ("model_version", pa.int64()),
        ("history", pa.list_(pa.string())),  # as served, as are the following
        ("history_action", pa.list_(pa.string())),
        ("history_time", pa.list_(pa.int64())),
        ("exclude", pa.list_(pa.string())),  # this and the following stand in a slate's first row, as in the log
        ("allow_tags", pa.list_(pa.string())),
        ("deny_tags", pa.list_(pa.string())),
        ("prior_items", pa.list_(pa.string())),
        ("prior_log_p", pa.list_(pa.float32())),
        ("context", pa.string()),
        ("positive_time", pa.int64()),  # of the earliest outcome with a positive gain; null when there was none
        ("positive_action", pa.string()),
    ]
)


@dataclass(frozen=True)
class Examples:
    """Examples, in no order, and how many rows of the window were left out, by reason."""

    table: pa.Table  # SCHEMA
    actions: Mapping[str, int] = field(default_factory=dict)  # outcomes by action, used or not
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


def join(log: FeedbackLog, window: Window, rule: LabelRule, *, quarantine: Quarantine | None, every_item: bool = False,
         engine: Callable[[], AbstractContextManager[SqlEngine]] = duckdb_engine) -> Examples:
    """Join a window, which says which rows to read and up to when labels have matured, to examples.

    Args:
        log: the feedback log.
        window: of it.
        rule: says what is a label, and which items examples may name.
        quarantine: takes the rows that cannot be used.
        every_item: whether examples may name any item, also one that is not in the rule's catalogue.
        engine: opens what runs the statements: `duckdb_engine` or `spark_engine`. Both give the same examples.

    Raises:
        DataError: a table cannot be read, or a row is malformed and there is no quarantine.
    """
    impressions, outcomes = log.tables["impressions"], log.tables["outcomes"]
    shown, acts = impressions.dataset(window.impressions_version), outcomes.dataset(window.outcomes_version)
    with engine() as sql:

        def run() -> Examples:
            for kind in KINDS:
                table, whole = log.tables[kind], {"impressions": shown, "outcomes": acts}[kind]
                sql.open_table(f"all_{kind}", table.uri, whole, SCHEMAS[kind])
                new = table.added(window.version(kind), since=window.version_before(kind))
                sql.open_table(f"new_{kind}", table.uri, new, SCHEMAS[kind])
            parameters = join_parameters(window, rule, every_item=every_item)
            for name, table in parameters.items():
                sql.register(name, table)
            malformed = sum(set_aside_malformed(sql, kind, log.tables[kind].uri, quarantine, window) for kind in KINDS)
            [since] = sql.query(statement("horizon.sql"))["since"].to_pylist()
            for kind in KINDS:  # the time as a constant in the view, or row groups would not be skipped by it
                sql.create_view(kind, f"SELECT * FROM well_formed_{kind} WHERE time >= {since}")
            sql.register("settings", parameters["settings"].append_column("since", pa.array([since])))
            return examples_of(sql.query(statement("join.sql")), malformed=malformed)

        return impressions.checked(lambda: outcomes.checked(run, acts), shown)


def statement(name: str) -> str:
    """The text of a statement of this room, `join.sql` or `horizon.sql`, in DuckDB's dialect."""
    return resources.files("tfrec.data.labels").joinpath(name).read_text("utf-8")


def join_parameters(window: Window, rule: LabelRule, *, every_item: bool) -> dict[str, pa.Table]:
    """The relations that both statements read besides the log; `join.sql` reads one more column of settings, `since`."""
    bounds = [
        {"kind": kind, "writer": writer, "after_seq": window.start[kind].get(writer, 0), "upto_seq": seq}
        for kind in KINDS
        for writer, seq in window.end[kind].items()
    ]
    columns = [("kind", pa.string()), ("writer", pa.string()), ("after_seq", pa.int64()), ("upto_seq", pa.int64())]
    settings = {
        "attribution": rule.attribution_seconds,
        "matured_from": window.matured_from,
        "now": window.now,
        "every_item": every_item,
        "ceiling": ceiling(rule.reward),
        "cap": rule.reward.cap,
        "repeat_seconds": REPEAT_SECONDS,
        "minute_limit": MINUTE_LIMIT,
    }
    return {
        "bounds": pa.Table.from_pylist(bounds, pa.schema(columns)),
        "catalogue": pa.table({"item": pa.array([] if every_item else dict.fromkeys(rule.catalogue_ids), pa.string())}),
        "rewards": reward_table(rule.reward),
        "lengths": length_table(rule.lengths),
        "settings": pa.Table.from_pylist([settings]),
    }


def examples_of(found: pa.Table, *, malformed: int) -> Examples:
    """The rows of `join.sql` as examples and counts."""
    is_example = pc.equal(found["fate"], "example")
    rest = found.select(["fate", "action", "log_rows"]).filter(pc.invert(is_example))
    counts: dict[str, int] = {}
    actions: dict[str, int] = {}
    for fate, action, log_rows in zip(*(rest[name].to_pylist() for name in ("fate", "action", "log_rows")), strict=True):
        if fate == "logged":
            actions[action] = log_rows
        else:
            counts[{"duplicate": "duplicates", "unknown_item": "unknown_items"}.get(fate, fate)] = log_rows
    table = _without(found, np.flatnonzero(~is_example.to_numpy())).select(SCHEMA.names).cast(SCHEMA)
    return Examples(table, actions, malformed=malformed, **counts)


def _without(rows: pa.Table, left_out: npt.NDArray[np.intp]) -> pa.Table:
    """All rows but a few, without a copy."""
    starts, stops = [0, *(left_out + 1).tolist()], [*left_out.tolist(), rows.num_rows]
    return pa.concat_tables([rows.slice(start, stop - start) for start, stop in zip(starts, stops, strict=True) if stop > start]
                            or [rows.slice(0, 0)])

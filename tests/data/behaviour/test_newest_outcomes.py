"""The newest outcomes of a log, as columns by user: against a plain sort, whatever files they come from."""
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.config import RewardConfig
from tfrec.data.behaviour.newest_outcomes import first_positives, newest_outcomes
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.schema import SCHEMAS
from tfrec.data.labels.label_rule import LabelRule
from tfrec.errors import DataError

SCHEMA = SCHEMAS["outcomes"]
NAMES = st.sampled_from(["u", "v", "ü", "", "a" * 40, "\U0001f600", "\uffff"])
ROW = st.fixed_dictionaries({
    "event_id": st.sampled_from(["1" * 32, "2" * 32, "short", ""]), "request_id": st.sampled_from([None, "r" * 32, "q"]),
    "user": NAMES, "item": NAMES, "action": st.sampled_from(["click", "buy"]), "value": st.sampled_from([1.0, -2.0]),
    "time": st.integers(0, 9),
})  # fmt: skip
Row = dict[str, Any]


def commit(log: FeedbackLog, rows: list[Row], *, writer: str, first: int = 1) -> None:
    """One file of the log."""
    full = [row | {"writer": writer, "seq": seq} for seq, row in enumerate(rows, first)]
    log.tables["outcomes"].append(pa.Table.from_pylist(full, SCHEMA), writer=writer)


def outcome(user: str, time: int, **fields: Any) -> Row:
    row = {"event_id": f"e{time}", "request_id": None, "user": user, "item": "a", "action": "click", "value": 1.0, "time": time}
    return row | fields


def by_user(rows: list[Row]) -> list[tuple[Any, ...]]:
    return sorted(tuple(str(row[name]) for name in ("user", "time", "writer", "seq", *SCHEMA.names)) for row in rows)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(ROW, min_size=1, max_size=5), max_size=4), st.integers(1, 12))
def test_the_newest_rows_of_all_files_by_user_and_time(files: list[list[Row]], most: int) -> None:
    with TemporaryDirectory() as root:
        log = FeedbackLog(root)
        for number, rows in enumerate(files):
            commit(log, rows, writer=f"w{number}")
        found = newest_outcomes(log, max_rows=most)
        every = log.read("outcomes").to_pylist()
    times = sorted((row["time"] for row in every), reverse=True)
    since = times[most - 1] if len(times) >= most else 0
    rows = found.to_pylist()
    assert by_user(rows) == by_user([row for row in every if row["time"] >= since])
    assert [(row["user"], row["time"]) for row in rows] == sorted((row["user"], row["time"]) for row in rows)
    users = found["user"].combine_chunks().dictionary.to_pylist()
    assert users == sorted(set(users))


def test_rows_of_other_tools_that_lack_something_are_left_out(tmp_path: Path) -> None:
    log = FeedbackLog(tmp_path)
    commit(log, [outcome("u", 3)], writer="w")
    others = [outcome("v", 4) | {name: None} for name in ("event_id", "user", "item", "action", "value", "time")]
    others += [outcome("v", 5), outcome("v", 6, writer="x", seq=1)]
    write_deltalake(str(tmp_path / "outcomes"), pa.Table.from_pylist(others, SCHEMA), mode="append")
    some = pa.Table.from_pylist([{"user": "t", "time": 9}], pa.schema([("user", pa.string()), ("time", pa.int64())]))
    write_deltalake(str(tmp_path / "outcomes"), some, mode="append", schema_mode="merge")
    assert [row["user"] for row in newest_outcomes(log).to_pylist()] == ["u", "v"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.1e15])
def test_values_that_no_outcome_can_have_are_left_out_as_in_the_join(tmp_path: Path, bad: float) -> None:
    log, rule = FeedbackLog(tmp_path), LabelRule(("a",), 100, RewardConfig(weights={"click": 1.0}, valued=("click",)), {})
    commit(log, [outcome("v", 3, value=bad), outcome("u", 5, value=bad)], writer="w")
    found = newest_outcomes(log)
    assert (found.num_rows, first_positives(found, rule).num_rows) == (0, 0)
    commit(log, [outcome("u", 4), outcome("w", 4, value=-1e15)], writer="w", first=3)
    found = newest_outcomes(log)
    assert [(row["user"], row["time"]) for row in found.to_pylist()] == [("u", 4), ("w", 4)]
    assert first_positives(found, rule).to_pylist() == [{"user": "u", "item": "a", "time": 4}]


def test_files_of_older_rows_are_not_read(tmp_path: Path) -> None:
    """So a start takes as long after a year as after a month."""
    log = FeedbackLog(tmp_path)
    for day in range(5):
        commit(log, [outcome(user, 100 * day + n) for n, user in enumerate("vuw")], writer=f"w{day}")
        if day == 2:
            for file in (tmp_path / "outcomes").glob("*.parquet"):
                file.write_bytes(b"damaged")
    assert [row["time"] for row in newest_outcomes(log, max_rows=6).to_pylist()] == [301, 401, 300, 400, 302, 402]
    with pytest.raises(DataError, match=r"outcomes/part-.*parquet"):
        newest_outcomes(log, max_rows=7)


def test_a_log_that_is_empty_has_none(tmp_path: Path) -> None:
    found = newest_outcomes(FeedbackLog(tmp_path))
    assert found.num_rows == 0
    assert first_positives(found, None).num_rows == 0

"""The users file: what is read of a row in each format, and what is said of a row that is wrong."""
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfrec.config import FeaturesConfig
from tfrec.data.behaviour.user_table import read_users
from tfrec.data.readers.quarantine import Quarantine
from tfrec.errors import DataError


def declared(path: Path) -> FeaturesConfig:
    return FeaturesConfig(user={"age": "number", "plan": "category"}, users=path)


def test_without_a_file_nobody_is_known() -> None:
    assert read_users(FeaturesConfig()) == {}


def test_values_are_the_same_text_in_each_format(tmp_path: Path) -> None:
    rows = [{"user": "1", "age": 30.0, "plan": "free"}, {"user": "2", "age": None, "plan": "7"}, {"user": "1", "age": 31.5,
                                                                                               "plan": None}]
    csv, lines, parquet = (tmp_path / f"users.{ending}" for ending in ("csv", "jsonl", "parquet"))
    csv.write_text("user,age,plan\n1,30,free\n2,,7\n1,31.5,\n")
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), parquet)
    for file in (csv, lines, parquet):
        assert read_users(declared(file)) == {"1": {"age": "31.5"}, "2": {"plan": "7"}}  # the last row of a user counts
    assert list(read_users(declared(csv), key=str.upper)) == ["1", "2"]


def test_a_wrong_row_is_named_with_what_was_expected_and_what_came(tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    file.write_text("user,age,plan\nann,30,free\nbob,old,free\n,3,\n")
    with pytest.raises(DataError, match=r'users.csv line 3: "age": expected a number, as features.user declares, got "old"'):
        read_users(declared(file))
    quarantine = Quarantine(tmp_path / "bad.jsonl")
    assert read_users(declared(file), quarantine=quarantine) == {"ann": {"age": "30", "plan": "free"}}
    assert quarantine.count == 2


def test_a_file_without_users_is_refused_and_a_column_without_values_is_told_of(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "users.csv"
    file.write_text("name,age\nann,30\n")
    with pytest.raises(DataError, match="user"):
        read_users(declared(file))
    file.write_text("user,age\nann,30\n")
    assert read_users(declared(file)) == {"ann": {"age": "30"}}
    assert "no row has a value of 'plan', which features.user declares" in caplog.text

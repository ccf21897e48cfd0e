"""The connections of a process share a database and no name; a table of the log is read by its own path and columns."""
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from tfrec.data.feedback_log.duckdb_view import connected, create_view

SCHEMA = pa.schema([("user", pa.string()), ("time", pa.int64())])


def written(directory: Path, **columns: Any) -> pyarrow.dataset.Dataset:
    directory.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), directory / "a.parquet")
    return pyarrow.dataset.dataset(["a.parquet"], filesystem=pa.fs.SubTreeFileSystem(str(directory), pa.fs.LocalFileSystem()))


@pytest.mark.parametrize("name", ["plain", "it's", "50%", "a[1]*"])
def test_a_table_is_read_whatever_its_path_and_without_columns_that_it_lacks(tmp_path: Path, name: str) -> None:
    dataset = written(tmp_path / name, user=["u", "v"])
    with connected() as db:
        create_view(db, "log", str(tmp_path / name), dataset, SCHEMA)
        assert db.sql('SELECT "user", time FROM log ORDER BY "user"').fetchall() == [("u", None), ("v", None)]


@pytest.mark.parametrize("name", ["plain", "a[1]*"])
@pytest.mark.parametrize("condition", [
    "x <> 0", "x < 0", "x <= 0", "x > 0", "x = x", "NOT ISNAN(x)", "ISFINITE(x)", "ABS(x) <= 9", "NOT ABS(x) <= 9",
    "x BETWEEN -9 AND 9", "x IN (-2, 0)", "x > 9 OR x IS NULL"])
def test_a_nan_meets_the_conditions_that_it_meets_in_memory(tmp_path: Path, name: str, condition: str) -> None:
    """The bounds of a column in a Parquet file leave it out, and DuckDB would trust them."""
    nan, question = math.nan, f"SELECT LIST(time ORDER BY time) FROM log WHERE {condition}"
    for number, x in enumerate([[1.0, nan], [nan, -2.0], [nan, -2.0, 0.0], [0.0, nan, 0.0], [-1.0, nan, None], [nan],
                                [nan, 7.0, -math.inf], [math.inf, nan, -2.0]]):
        columns = {"x": pa.array(x, pa.float64()), "time": pa.array(range(len(x)))}
        dataset = written(tmp_path / f"{name}{number}", **columns)
        with connected() as db, connected() as memory:
            create_view(db, "log", str(tmp_path / f"{name}{number}"), dataset, SCHEMA)
            memory.execute("CREATE TEMP TABLE log AS SELECT UNNEST($1::DOUBLE[]) AS x, UNNEST($2::BIGINT[]) AS time",
                           [x, list(range(len(x)))])
            assert db.sql(question).fetchall() == memory.sql(question).fetchall(), x


def test_no_connection_sees_the_names_of_another(tmp_path: Path) -> None:
    first, second = written(tmp_path / "first", user=["u"], time=[1]), written(tmp_path / "second", user=["v"], time=[2])
    with connected() as one, connected() as other:
        create_view(one, "log", str(tmp_path / "first"), first, SCHEMA)
        create_view(other, "log", str(tmp_path / "second"), second, SCHEMA)
        one.register("rows", pa.table({"x": [1]}))
        one.execute("CREATE TEMP TABLE made AS SELECT 1 AS x")
        assert one.sql("SELECT * FROM log").fetchall() == [("u", 1)]
        assert other.sql("SELECT * FROM log").fetchall() == [("v", 2)]
        tables = "SELECT table_name FROM information_schema.tables"
        assert other.sql(tables).fetchall() == [("log",)]
    with connected() as db:
        assert db.sql(tables).fetchall() == []


def test_threads_ask_at_the_same_time(tmp_path: Path) -> None:
    def asked(n: int) -> int:
        directory = tmp_path / str(n % 4)
        with connected() as db:
            create_view(db, "log", str(directory), datasets[n % 4], SCHEMA)
            return int(db.sql("SELECT SUM(time) FROM log").fetchall()[0][0])

    datasets = [written(tmp_path / str(n), user=["u"] * 100, time=[n] * 100) for n in range(4)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(asked, range(64))) == [n % 4 * 100 for n in range(64)]


def test_a_file_that_is_written_again_is_read_again(tmp_path: Path) -> None:
    for time in (1, 2):
        dataset = written(tmp_path, user=["u"], time=[time])
        with connected() as db:
            create_view(db, "log", str(tmp_path), dataset, SCHEMA)
            assert db.sql("SELECT time FROM log").fetchall() == [(time,)]


def test_optimizers_are_switched_off_for_those_who_asked() -> None:
    setting = "SELECT current_setting('disabled_optimizers')"
    with connected(without_optimizers="join_order") as without, connected() as db:
        assert without.sql(setting).fetchall() == [("join_order",)]
        assert db.sql(setting).fetchall() == [("",)]


def test_after_an_error_the_next_connection_works_and_connections_that_are_open_go_on() -> None:
    with connected() as open_before:
        with pytest.raises(duckdb.Error), connected() as db:
            db.sql("SELECT * FROM nothing")
        with connected() as db:
            assert db.sql("SELECT 1").fetchall() == [(1,)]
        assert open_before.sql("SELECT 2").fetchall() == [(2,)]


def test_a_fork_has_a_database_of_its_own() -> None:
    with connected() as db:
        assert db.sql("SELECT 1").fetchall() == [(1,)]
    if not (child := os.fork()):
        with connected() as db:
            os._exit(db.sql("SELECT SUM(range) FROM range(1000000)").fetchall() != [(499999500000,)])
    assert os.waitpid(child, 0)[1] == 0

"""Numbers of other tools that no record can hold are set aside, whatever stands beside them in a row group of Parquet.

The bounds that Parquet keeps of a column leave NaN out, so nothing may be concluded from them about the rows.
"""
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from tests.data.labels.world import World, brief
from tfrec.config import RewardConfig
from tfrec.data.feedback_log.schema import SCHEMAS, Kind
from tfrec.data.feedback_log.window import Window
from tfrec.data.labels.duckdb_engine import duckdb_engine
from tfrec.data.labels.malformed_rows import set_aside_malformed
from tfrec.data.readers.quarantine import Quarantine

NAN, INF = math.nan, math.inf
PLAIN: dict[str, Any] = {
    "request_id": "r", "event_id": "e", "user": "u", "item": "a", "action": "click", "policy": "p", "time": 7, "position": 0,
    "model_version": 1, "value": 1.0, "log_propensity": -0.5, "writer": "w",
}
FLOATS = [
    [1.0, NAN, -2.0], [NAN, 1.0, -2.0], [1.0, -2.0, NAN], [NAN, -2.0], [-2.0, NAN], [NAN], [NAN, NAN, -3.0, NAN], [-NAN, -1.0],
    [0.0, NAN, 0.0], [-0.0, NAN], [NAN, INF, -1.0], [-INF, NAN, -1.0], [-1.0, INF], [None, NAN, -1.0], [None, None], [-INF, -INF],
    [-1e15, NAN, 1e15], [-1.1e15, 1e16, -1.0], [-1.0, -2.0, -3.0], [-1.0, -1.0, NAN, -1.0, -1.0, 2.0, -1.0], [],
]  # fmt: skip
INTEGERS = [[1, -1, 0], [0, 0], [-1], [None, 5], [5, 1 << 30], [-(1 << 31), 3], []]
TIMES = [*INTEGERS, [3, 1 << 40], [(1 << 40) - 1, 0], [-(1 << 63), (1 << 63) - 1]]


def is_time(x: int | None) -> bool:
    return x is not None and 0 <= x < 1 << 40


COLUMNS: list[tuple[Kind, str, list[Any], Any]] = [
    ("outcomes", "value", FLOATS, lambda x: x is not None and abs(x) <= 1e15),
    ("impressions", "log_propensity", FLOATS, lambda x: x is None or x <= 0),  # -inf: it could not be drawn
    ("impressions", "position", INTEGERS, lambda x: x is not None and x >= 0),
    ("impressions", "model_version", INTEGERS, lambda x: x is not None and x >= 0),
    ("impressions", "time", TIMES, is_time),
    ("outcomes", "time", TIMES, is_time),
]


def written(directory: Path, kind: Kind, rows: list[dict[str, Any]], *, together: int) -> pyarrow.dataset.Dataset:
    """One file, with so many rows in a row group."""
    directory.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMAS[kind]), directory / "a.parquet", row_group_size=together)
    return pyarrow.dataset.dataset(["a.parquet"], filesystem=pa.fs.SubTreeFileSystem(str(directory), pa.fs.LocalFileSystem()))


@pytest.mark.parametrize("name", ["read by DuckDB", "[read by Arrow]"])  # DuckDB would take the brackets for a wildcard
@pytest.mark.parametrize(("kind", "column", "mixtures", "is_well_formed"), COLUMNS,
                         ids=[f"{kind}-{column}" for kind, column, *_ in COLUMNS])
def test_exactly_the_malformed_numbers_are_set_aside(tmp_path: Path, name: str, kind: Kind, column: str, mixtures: list[Any],
                                                     is_well_formed: Any) -> None:
    bounds = pa.table({"kind": [kind], "writer": ["w"], "after_seq": [0], "upto_seq": [100]})
    window = Window(start={"impressions": {}, "outcomes": {}}, end={kind: {"w": 100}}, matured_from=0, now=9,
                    impressions_version=0, outcomes_version=0)
    for number, mixture in enumerate(mixtures):
        for together in (2, 100) if len(mixture) > 2 else (100,):
            directory = tmp_path / name / f"{number}-{together}"
            rows = [PLAIN | {column: x, "seq": seq} for seq, x in enumerate(mixture, 1)]
            dataset, quarantine = written(directory, kind, rows, together=together), Quarantine(tmp_path / "bad.jsonl")
            with duckdb_engine() as sql:
                for view in (f"all_{kind}", f"new_{kind}"):
                    sql.open_table(view, str(directory), dataset, SCHEMAS[kind])
                sql.register("bounds", bounds)
                count = set_aside_malformed(sql, kind, "log", quarantine, window)
                kept = [sorted(sql.query(f"SELECT seq FROM {view}")["seq"].to_pylist()) for view in (kind, f"well_formed_{kind}")]
            good = [seq for seq, x in enumerate(mixture, 1) if is_well_formed(x)]
            bad = [seq for seq in range(1, len(mixture) + 1) if seq not in good]
            told = [json.loads(line) for line in quarantine.path.read_text().splitlines()] if bad else []
            assert kept == [good, good], (mixture, together)
            assert (count, [row["line"] for row in told]) == (len(bad), [f"w:{seq}" for seq in bad]), (mixture, together)
            assert all(column in row["reason"] for row in told)


@pytest.mark.parametrize("name", ["log", "[log]"])
@pytest.mark.parametrize("together", [2, 100])
def test_a_nan_is_neither_a_reward_nor_a_propensity(tmp_path: Path, name: str, together: int) -> None:
    """In a whole join: an outcome whose value counts, and a position of a slate."""
    world = World(tmp_path / name)
    world.show("r1", 1000, "a", "b", "c")
    world.act("e1", 1001, "a", request="r1", value=2.0)
    first = world.window(None, now=1002)
    shown = [row | {"request_id": "r2", "log_propensity": x, "writer": "spark", "seq": seq}
             for seq, (row, x) in enumerate(zip(world.log.read("impressions").to_pylist(), (-1.0, NAN, -INF), strict=True), 1)]
    [act] = world.log.read("outcomes").to_pylist()
    acts = [act | {"event_id": f"s{seq}", "request_id": "r2", "item": item, "value": x, "writer": "spark", "seq": seq}
            for seq, (item, x) in enumerate([("a", 1.0), ("b", NAN), ("c", NAN), ("c", 3.0)], 1)]
    rows: dict[Kind, list[dict[str, Any]]] = {"impressions": shown, "outcomes": acts}
    for kind, some in rows.items():
        for start in range(0, len(some), together):  # a file each
            table = world.log.tables[kind]
            table.append(pa.Table.from_pylist(some[start : start + together], table.schema), writer="spark")
    window, reward = world.window(None, now=2000), RewardConfig(weights={"click": 1.0}, valued=("click",), cap=5.0)
    quarantine = Quarantine(tmp_path / "bad.jsonl")
    got = world.join(window, reward=reward, quarantine=quarantine)
    assert sorted(row[0::3] for row in brief(got)) == [
        ("slate:r1/a", 2.0), ("slate:r1/b", 0.0), ("slate:r1/c", 0.0), ("slate:r2/a", 1.0), ("slate:r2/c", 3.0)]
    told = [json.loads(line) for line in quarantine.path.read_text().splitlines()]
    assert [(row["line"], row["reason"].rpartition(", ")[2]) for row in told] == [
        ("spark:2", "got NaN"), ("spark:2", "got NaN"), ("spark:3", "got NaN")]
    assert got.malformed == 3
    assert world.join(world.log.window(first, now=2000), reward=reward, quarantine=quarantine).malformed == 3

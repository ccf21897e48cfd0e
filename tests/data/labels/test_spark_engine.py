"""Spark gives the examples that DuckDB gives: the same rows in the same order, and the same rows left out."""
import importlib.util
import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from tests.data.labels.world import ITEMS, SHOP, World, brief
from tfrec.config import Rating, RewardConfig
from tfrec.data.feedback_log.schema import SCHEMAS
from tfrec.data.feedback_log.window import Window
from tfrec.data.labels.join import SCHEMA, Examples, join
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.spark_engine import hadoop_path, spark_engine
from tfrec.data.readers.quarantine import Quarantine
from tfrec.errors import DataError, UsageError

HAS_PYSPARK = importlib.util.find_spec("pyspark") is not None
needs_spark = pytest.mark.skipif(not HAS_PYSPARK or shutil.which("java") is None,
                                 reason="PySpark (pip install 'tfrec[spark]') or Java (17 or later) is not installed")

RULES = {
    "decaying": SHOP.model_copy(update={"half_life_hours": {"click": 20 / 3600, "purchase": 0.01}}),
    "falling": RewardConfig(weights={"click": -2.0, "purchase": 5.0, "stars": 1.0}, rated={"stars": Rating()}, cap=4.0),
    "adding": RewardConfig(weights={"click": 0.5, "purchase": 1.0, "watch": 2.0}, valued=("click",), completed={"watch": 30.0},
                           lengths={"watch": "seconds"}, cap=2.5),
}
LENGTHS = {"adding": {"watch": {"a": 10.0, "c": 120.0}}}


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    from pyspark.sql import SparkSession

    small = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "2", "spark.driver.host": "127.0.0.1",
             "spark.driver.bindAddress": "127.0.0.1", "spark.ui.showConsoleProgress": "false", "spark.driver.memory": "1g",
             # for so few rows, to compile each plan takes three times as long as to run it as it is
             "spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
    builder = SparkSession.builder.master("local[2]")
    for key, value in small.items():
        builder = builder.config(key, value)
    running = builder.getOrCreate()
    running.sparkContext.setLogLevel("ERROR")
    yield running
    running.stop()


def play(world: World, *, seed: int, start: int, requests: int) -> int:
    """Ragged slates and acts of all kinds, by two writers; returns the time after them."""
    draw = random.Random(seed)
    for k in range(requests):
        time, user, writer = start + 7 * k, draw.choice("uvwx"), draw.choice("gh")
        shown = draw.sample([*ITEMS, "gone"], draw.randint(1, 5))
        features: dict[str, Any] = draw.choice([{}, {
            "query": "heat", "history": ("c", "a"), "history_action": ("click", ""), "history_time": (5, 9),
            "exclude": ("d",), "allow_tags": ("new",), "prior_items": ("a", "b"), "prior_log_p": (-1.5, -0.5),
            "context": {"device": "phone"}}])
        world.show(f"r{seed}.{k}", time, *shown, user=user, writer=writer, **features)
        if draw.random() < 0.1:  # written twice
            world.show(f"r{seed}.{k}", time, *shown, user=user, writer="h" if writer == "g" else "g", **features)
        for n in range(draw.randint(0, 3)):
            request = draw.choice([None, f"r{seed}.{k}", f"r{seed}.{k}", f"r{seed}.{draw.randint(0, k)}", "never"])
            acted = time + draw.choice([-3, 0, 1, 20, 99, 100, 101, 10**6])
            value = draw.choice([-3.0, 0.0, 0.25, 1.0, 4.0, 64.0])
            action = draw.choice(["click", "click", "purchase", "stars", "watch", "scroll"])
            event, item = f"e{seed}.{k - draw.choice([0, 0, 0, 1])}.{n}", draw.choice([*shown, *ITEMS, "other"])
            world.act(event, acted, item, action, user=user, request=request, value=value, writer=draw.choice("gh"))
    return start + 7 * requests


def by_both(world: World, window: Window, rule: LabelRule, **options: Any) -> tuple[Examples, Examples]:
    options = {"quarantine": None} | options
    return (join(world.log, window, rule, **options), join(world.log, window, rule, engine=spark_engine, **options))


def check_same(duck: Examples, spark: Examples) -> None:
    assert (duck.left_out, duck.actions) == (spark.left_out, spark.actions)
    assert duck.table.schema == spark.table.schema == SCHEMA
    by_id = [examples.table.sort_by("example_id").to_pylist() for examples in (duck, spark)]  # they come in no order
    for one, other in zip(*by_id, strict=True):
        for name, value in one.items():
            if isinstance(value, float):
                assert math.isclose(value, other[name], rel_tol=1e-9, abs_tol=1e-9), (name, one, other)
            else:
                assert value == other[name], (name, one, other)


@needs_spark
@pytest.mark.parametrize("name", RULES)
def test_both_engines_give_the_same_examples(session: Any, world: World, name: str) -> None:
    now = play(world, seed=1, start=1000, requests=120)
    duck, spark = by_both(world, world.window(None, now=now), LabelRule(ITEMS, 100, RULES[name], LENGTHS.get(name, {})))
    check_same(duck, spark)
    reasons = ("duplicates", "unmatched", "unknown_items", "immature", "noise", "unrewarded")
    assert all(getattr(duck, why) for why in reasons)
    assert len(duck) > 100


@needs_spark
def test_the_next_window_too_and_of_every_item(session: Any, world: World) -> None:
    rule = LabelRule(ITEMS, 100, SHOP, {})
    now = play(world, seed=1, start=1000, requests=60)
    first = world.window(None, now=now)
    world.show("late", now - 10, "a")
    world.act("e1", now - 9, "a", "purchase", request="late")
    second = world.window(first, now=now)
    world.act("e2", now + 5, "a", request="late")
    now = play(world, seed=2, start=now - 50, requests=40)
    duck, spark = by_both(world, world.window(second, now=now + 80), rule, every_item=True)
    check_same(duck, spark)
    assert duck.late
    assert {"gone", "other"} & {*duck.table["item"].to_pylist()}


@needs_spark
def test_rows_of_other_tools_and_an_empty_log(session: Any, world: World, tmp_path: Any) -> None:
    rule = LabelRule(ITEMS, 100, SHOP, {})
    check_same(*by_both(world, world.window(None, now=5), rule))
    now = play(world, seed=3, start=1000, requests=20)
    first = world.window(None, now=now)
    lacking = {"impressions": ("query", "history", "score", "context"), "outcomes": ("request_id",)}
    for kind, absent in lacking.items():  # in another order, without some columns, and with one more
        rows = world.log.read(kind).slice(0, 5)  # type: ignore[arg-type]
        bad = rows.slice(0, 1).set_column(rows.column_names.index("item"), "item", pa.array([""]))
        rows = pa.concat_tables([rows, bad]).drop_columns(["writer", "seq", *absent])
        rows = rows.select(rows.column_names[::-1]).append_column("writer", pa.repeat("flink", 6)).append_column(
            "seq", pa.array(range(1, 7))).append_column("shard", pa.repeat(3, 6))
        uri = world.log.tables[kind].uri  # type: ignore[index]
        write_deltalake(uri, rows, mode="append", schema_mode="merge")
        assert len(DeltaTable(uri).schema().fields) == len(SCHEMAS[kind]) + 1  # type: ignore[index]
    window = world.window(first, now=now + 200)
    said = []
    for engine in ({}, {"engine": spark_engine}):
        quarantine = Quarantine(tmp_path / "bad.jsonl")
        found = join(world.log, window, rule, quarantine=quarantine, **engine)  # type: ignore[arg-type]
        said.append((found, [json.loads(line) for line in quarantine.path.read_text().splitlines()]))
    (duck, set_aside), (spark, also) = said
    check_same(duck, spark)
    assert (duck.malformed, set_aside) == (2, also)
    known = DeltaTable(uri, version=first.outcomes_version).file_uris()
    [file] = (path for path in DeltaTable(uri).file_uris() if path not in known)
    os.truncate(file, 100)
    with pytest.raises(DataError, match=r"\.parquet: truncated or damaged"):
        join(world.log, window, rule, quarantine=Quarantine(tmp_path / "bad.jsonl"), engine=spark_engine)


@needs_spark
def test_both_engines_set_the_same_numbers_aside(session: Any, world: World, tmp_path: Any) -> None:
    """A NaN is outside the bounds of its column in a Parquet file, by which Spark skips row groups, too."""
    now = play(world, seed=4, start=1000, requests=10)
    first = world.window(None, now=now)
    for kind, column, mixture in (("outcomes", "value", (1.0, math.nan, -2.0)), ("outcomes", "value", (math.inf, 1e16, math.nan)),
                                  ("impressions", "log_propensity", (-1.0, math.nan, -math.inf)),
                                  ("impressions", "log_propensity", (math.nan, -1.0, 0.5))):
        table = world.log.tables[kind]  # type: ignore[index]
        some = world.log.read(kind).slice(0, 3).to_pylist()  # type: ignore[arg-type]
        name = f"{column} {mixture[0]}"
        rows = [row | {column: x, "writer": name, "seq": seq} for seq, (row, x) in enumerate(zip(some, mixture, strict=True), 1)]
        write_deltalake(table.uri, pa.Table.from_pylist(rows, table.schema), mode="append")
    window, said = world.window(first, now=now + 200), []
    for engine in ({}, {"engine": spark_engine}):
        quarantine = Quarantine(tmp_path / "bad.jsonl")
        found = join(world.log, window, LabelRule(ITEMS, 100, RULES["adding"], LENGTHS["adding"]), quarantine=quarantine,
                     **engine)  # type: ignore[arg-type]
        said.append((found, quarantine.path.read_text()))
    (duck, set_aside), (spark, also) = said
    check_same(duck, spark)
    assert (duck.malformed, set_aside) == (7, also)


@needs_spark
def test_a_log_of_an_odd_name_and_tables_of_the_callers_session(session: Any, tmp_path: Any) -> None:
    world = World(tmp_path / "a [l]{o}g, 100% *")
    session.sql("SELECT 7 AS n").createOrReplaceTempView("settings")
    world.act("e1", 1000, "a")
    found = join(world.log, world.window(None, now=1001), LabelRule(ITEMS, 100, SHOP, {}), quarantine=None, engine=spark_engine)
    assert brief(found) == [("organic:u/e1", 1000, "click", 1.0)]
    assert session.sql("SELECT n FROM settings").toArrow().to_pylist() == [{"n": 7}]


def test_without_pyspark_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(UsageError, match=r"needs PySpark and sqlglot .*: pip install 'tfrec\[spark\]'"), spark_engine():
        pass


@pytest.mark.skipif(not HAS_PYSPARK, reason="PySpark (pip install 'tfrec[spark]') is not installed")
@pytest.mark.parametrize(("java_home", "got"), [("", "got none"), ("/no/java", "got no /no/java/bin/java")])
def test_without_java_the_message_says_what_to_install(tmp_path: Any, java_home: str, got: str) -> None:
    code = "from tfrec.data.labels.spark_engine import spark_engine\nwith spark_engine():\n    pass"
    found = subprocess.run([sys.executable, "-c", code], env={"PATH": str(tmp_path), "JAVA_HOME": java_home},
                           capture_output=True, text=True, timeout=100)
    assert f"UsageError: The engine spark needs Java, {got}. Install Java 17 or a later one (apt-get install " in found.stderr


@pytest.mark.parametrize(("path", "expected"), [
    ("/logs/x.parquet", "file:///logs/x.parquet"),
    ("file:///a b/x.parquet", "file:///a b/x.parquet"),
    ("s3://bucket/log/x.parquet", "s3a://bucket/log/x.parquet"),
    ("gs://bucket/{x}[1]*.parquet", r"gs://bucket/\{x\}\[1\]\*.parquet"),
])
def test_paths_as_hadoop_takes_them(path: str, expected: str) -> None:
    assert hadoop_path(path) == expected

"""Rows of other tools that the join cannot use, and files that are cut short."""
import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from tests.data.labels.world import brief
from tfrec.data.readers.quarantine import Quarantine
from tfrec.errors import DataError


@pytest.mark.parametrize("kind", ["impressions", "outcomes"])
def test_malformed_rows_of_other_tools_are_set_aside(world, tmp_path, kind):
    world.show("r1", 1000, "a")
    world.act("e1", 1001, "a", "purchase", request="r1")
    world.window(None, now=1002)
    bad = world.log.read(kind).to_pylist()[0] | {"user": None, "writer": "spark", "seq": 7}
    worse = bad | {"user": "u", "time": -5, "seq": 8}
    write_deltalake(world.log.tables[kind].uri, pa.Table.from_pylist([bad, worse], world.log.tables[kind].schema), mode="append")
    window = world.window(None, now=1002)
    quarantine = Quarantine(tmp_path / "bad.jsonl")
    got = world.join(window, quarantine=quarantine)
    assert brief(got) == [("slate:r1/a", 1001, "purchase", 5.0)]
    assert (got.malformed, quarantine.count) == (2, 2)
    entries = [json.loads(line) for line in quarantine.path.read_text().splitlines()]
    assert [(e["file"], e["line"]) for e in entries] == [(world.log.tables[kind].uri, f"spark:{seq}") for seq in (7, 8)]
    assert [e["reason"] for e in entries] == [
        "expected \"user\" IS NOT NULL AND \"user\" <> '', got null",
        "expected time >= 0 AND time < 1099511627776, got -5",
    ]
    with pytest.raises(DataError, match=rf"{kind} line spark:7: expected \"user\" IS NOT NULL"):
        world.join(window)
    assert world.join(world.window(window, now=1003)).malformed == 0


@pytest.mark.parametrize("kind", ["impressions", "outcomes"])
def test_a_truncated_file_is_named(world, kind):
    world.show("r1", 1000, "a")
    world.act("e1", 1001, "a", request="r1")
    window = world.window(None, now=1002)
    [file] = Path(world.log.tables[kind].uri).glob("*.parquet")
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(DataError, match=rf"{file.name}: truncated or damaged"):
        world.join(window)


@pytest.mark.parametrize("absent", [(), ("writer", "seq"), ("writer", "seq", "value")])
def test_rows_without_an_ingest_id_are_set_aside_and_the_rest_is_used(world, tmp_path, absent):
    world.act("e1", 1000, "a")
    window = world.window(None, now=1100)
    row = {"event_id": "x", "request_id": None, "user": "v", "item": "b", "action": "click", "value": 1.0, "time": 1000,
           "writer": None, "seq": None}
    schema = pa.schema([one for one in world.log.read("outcomes").schema if one.name not in absent])
    kept = {name: [value] for name, value in row.items() if name not in absent}
    rows = pa.Table.from_pydict(kept, schema=schema)
    write_deltalake(world.log.tables["outcomes"].uri, rows, mode="append", schema_mode="merge")
    window = world.log.window(None, now=1100)
    quarantine = Quarantine(tmp_path / "bad.jsonl")
    got = world.join(window, quarantine=quarantine)
    assert ([e[0] for e in brief(got)], got.malformed, quarantine.count) == (["organic:u/e1"], 1, 1)
    told = json.loads(quarantine.path.read_text())
    assert told["file"].endswith("outcomes")
    assert "ingest id" in told["reason"]
    with pytest.raises(DataError, match="outcomes line 1 of those without an ingest id"):
        world.join(window)
    assert len(world.join(world.log.window(window, now=1200))) == 0

"""Finds words in all files of a directory, those in Parquet files included, and a run that knows a user everywhere."""
import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.data.labels.world import World
from tests.data.settled.test_settle import RULE
from tfrec.config import Config, load_config
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.people.erasures import load_people
from tfrec.data.settled.examples import SettledExamples
from tfrec.data.settled.settle import settle
from tfrec.release.manifest import Manifest

ANN, BOB = "ann@shop", "bob@shop"
QUERY = {ANN: "a present for my aunt agatha", BOB: "bob's new boots"}
NOW = 100_000


def named(root: Path, words: Iterable[str]) -> dict[str, list[str]]:
    """By file, which of `words` are in it: as bytes, in its name or, in Parquet, in any value."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            text = json.dumps(pq.ParquetFile(path).read().to_pylist(), default=str) if path.suffix == ".parquet" else ""
            if there := [word for word in words if word.encode() in data or word in text or word in str(path)]:
                found[str(path.relative_to(root))] = there
    return found


def run_of(directory: Path, **places: str) -> Config:
    """The configuration of a run with base interactions and a users file, both beside it."""
    (directory / "files").mkdir(parents=True, exist_ok=True)
    base, users = directory / "files" / "base.csv", directory / "files" / "users.csv"
    base.write_text(f"user,item,time\n{ANN},a,50\n{ANN},b,60\n{BOB},a,70\n{ANN},c,{NOW + 5}\n")
    users.write_text(f"user,age\n{ANN},31\n{BOB},32\n")
    settings = {"run": str(directory / "run"), "data.interactions": str(base), "features.users": str(users), **places}
    return load_config(None, [f"{key}={value}" for key, value in settings.items()] + ["features.user={age='number'}"])


def live(config: Config, *, root: str | Path | None = None) -> World:
    """Let both users search, act, be settled, and leave traces in all files of the run."""
    of = load_people(config).of
    world, settled = World(root or config.log_uri), SettledExamples(config.examples_uri)
    for n, user in enumerate((ANN, BOB, ANN)):
        world.show(f"r{n}", 1000 + 1000 * n, "a", "b", user=of(user), query=QUERY[user])
        world.act(f"e{n}", 1010 + 1000 * n, "b", user=of(user), request=f"r{n}")
        world.window(None, now=1)
        settle(world.log, settled, RULE, now=1500 + 1000 * n, quarantine=None)
    wal = WriteAheadFile(config.run / "wal", "gateway")
    for user in (ANN, BOB):
        wal.append("outcomes", [json.dumps({"event_id": f"w{user[0]}", "user": of(user), "item": "c", "action": "click",
                                            "time": 5000, "value": 1.0}, separators=(",", ":"))])
    wal.close()
    version(config, 1, upto=1, held=[[of(BOB), "a"]])
    version(config, 2, upto=3, held=[[of(ANN), "a"], [of(BOB), "b"]], damped={of(ANN): [10, 2.0]})
    (config.run / "retrain").mkdir()
    (config.run / "retrain" / "9-aa.json").write_text(json.dumps({"figures": {"damped": {"users": {of(ANN): [10, 2.0]}}}}))
    rows = [{"row": {"user": ANN, "query": QUERY[ANN]}}, {"row": {"user": BOB}}, {"payload": f'{{"user":"{of(ANN)}"}}'},
            {"row": f"cut short, {ANN},a"}, {"row": {"client_id": BOB, "item": ANN}}]
    for name in ("quarantine-ingest.jsonl", "retrain/quarantine-9.jsonl", "wal/gateway.quarantine.jsonl"):
        lines = [json.dumps({"file": "f", "line": 1, "reason": "bad", **row}) + "\n" for row in rows]
        (config.run / name).write_text("".join(lines))
    pq.write_table(pa.table({"user": [of(ANN), of(BOB)]}), config.run / "known_users.parquet")
    return world


def version(config: Config, number: int, *, upto: int | None, held: object = (), damped: object = None,
            **fields: object) -> None:
    """A published version as far as erasures look at it."""
    directory = config.models_dir / str(number)
    (directory / "checkpoint").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"graph")
    meta = json.dumps({"format": 3, "meta": {"held_back": held}})
    (directory / "checkpoint" / "checkpoint.json").write_text(meta)
    manifest = Manifest(version=number, created_at=number, window=None if upto is None else {"upto": upto, "now": upto},
                        scorecard={"damped": {"users": damped or {}}}, files={"checkpoint/checkpoint.json": "0" * 64}, **fields)
    (directory / "manifest.json").write_text(manifest.model_dump_json(indent=1))

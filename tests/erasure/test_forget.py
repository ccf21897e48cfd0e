"""An erased user is named nowhere, others lose nothing, and what is killed on the way is finished by the next run."""
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.erasure.named import ANN, BOB, NOW, QUERY, live, named, run_of, version
from tests.object_store import local_s3, needs_s3
from tfrec.config import Config
from tfrec.data.behaviour.dataset import read_interactions
from tfrec.data.behaviour.user_table import read_users
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.people.erasures import Erasures, load_people
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.data.settled.examples import SettledExamples
from tfrec.erasure.forget import finish, finish_after_run, forget, listed
from tfrec.erasure.journal import Journals, Receipt
from tfrec.erasure.versions import parent_of_next, traces
from tfrec.errors import UsageError
from tfrec.release.manifest import read_manifest

ROOT = Path(__file__).parents[2]
KILLED = """
import json, os, signal, sys
from unittest import mock
from tfrec.config import Config
from tfrec.erasure.forget import forget
user, now, configs = json.load(sys.stdin)
for name, config in configs.items():
    if not (child := os.fork()):
        with mock.patch(name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)):
            forget(Config.model_validate_json(config), user, now=now)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, name
"""
KILLS = [
    "tfrec.data.people.erasures.Erasures.add",  # a journal
    "tfrec.erasure.run_files.clear_wal",  # a tombstone
    "tfrec.erasure.forget.erase",  # lines of write-ahead files
    "tfrec.erasure.run_files.set_aside_lines",  # the rows have left
    "tfrec.release.publish.replace_directory",  # a version beside its place
    "tfrec.erasure.forget.purge",
    "tfrec.erasure.journal.Journals.finish",
]
REMOVED = {"log/impressions": 4, "log/outcomes": 2, "examples": 4, "write-ahead files": 1, "rows set aside": 9,
           "results of retrains": 1, "version 2": 2, "caches of files": 1}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return run_of(tmp_path)


def words(config: Config, user: str) -> list[str]:
    return [user, *load_people(config).names(user), QUERY[user]]


def test_nothing_on_disk_names_who_was_erased(config: Config) -> None:
    live(config)
    names, others = words(config, ANN), named(config.run, words(config, BOB))
    assert {"wal/gateway.wal", "quarantine-ingest.jsonl", "models/tfrec/2/checkpoint/checkpoint.json", "retrain/9-aa.json",
            "models/tfrec/2/manifest.json"} <= named(config.run, names).keys()

    receipt = forget(config, ANN, now=NOW)
    assert named(config.run, names) == {"quarantine-ingest.jsonl": [ANN], "retrain/quarantine-9.jsonl": [ANN],
                                        "wal/gateway.quarantine.jsonl": [ANN]}  # the item of that name, in a row of Bob's
    assert receipt.removed == REMOVED
    assert receipt.tombstone == {"data.interactions": 3, "features.users": 1}
    assert receipt.versions == {1: "until 4 more versions are published, while no label names it",
                                2: "until 5 more versions are published, while no label names it"}
    assert (receipt.known, receipt.erasure, receipt.waits_for) == (True, 1, [])
    receipts = [path.read_bytes() for path in Journals(config.run).path.glob("*.json")]
    assert [Receipt.model_validate_json(one).model_dump() for one in receipts] == [receipt.model_dump()]
    assert named(config.run, words(config, BOB)).keys() == {  # in files that were written anew, others under another name
        name for name in others if not name.endswith(".parquet")} | {
        name for name in named(config.run, words(config, BOB)) if name.endswith(".parquet")}
    log = FeedbackLog(config.log_uri)
    bob = load_people(config).of(BOB)
    assert [row["query"] for row in log.read("impressions").to_pylist()] == [QUERY[BOB]] * 2
    assert {row["user"] for row in log.read("outcomes").to_pylist()} == {bob}
    assert [part.number for part in SettledExamples(config.examples_uri).parts(0, 9)] == [1, 2, 3]
    wal = WriteAheadFile(config.run / "wal", "gateway")
    assert [(one.seq, one.kind) for one in wal.pending(0)] == [(1, "check"), (2, "outcomes")]  # no number is given twice
    wal.close()
    meta = json.loads((config.models_dir / "2" / "checkpoint" / "checkpoint.json").read_text())["meta"]
    assert meta["held_back"] == [[bob, "b"]]


def test_who_is_erased_is_never_read_from_the_operators_files(config: Config) -> None:
    forget(config, ANN, now=NOW)
    people = load_people(config)
    assert config.data.interactions is not None
    inter = read_interactions(config.data.interactions, catalogue=None, quarantine=None, now=NOW + 10, people=people)
    assert [(inter.users[user], time) for user, time in zip(inter.user, inter.time, strict=True)] == [(BOB, 70), (ANN, NOW + 5)]
    assert list(read_users(config.features, key=people.of, people=people)) == [people.of(BOB)]


def test_who_acts_again_is_a_new_person(config: Config) -> None:
    world = live(config)
    before = load_people(config).of(ANN)
    forget(config, ANN, now=NOW)
    again = load_people(config).of(ANN)
    assert again != before
    world.act("new", NOW + 10, "c", user=again)
    world.window(None, now=1)
    assert forget(config, BOB, now=NOW + 20).removed["log/outcomes"] == 1
    receipt = forget(config, ANN, now=NOW + 30)
    assert (receipt.erasure, receipt.removed["log/outcomes"]) == (3, 1)
    assert load_people(config).names(ANN)[:2] == [before, again]
    assert named(config.run, [before, again]) == {}


def test_done_again_there_is_nothing_to_do(config: Config) -> None:
    live(config)
    forget(config, ANN, now=NOW)
    receipt = forget(config, ANN, now=NOW + 50)  # of the base, what is later than the first erasure is a new person's
    assert (receipt.erasure, receipt.tombstone, receipt.removed) == (2, {"data.interactions": 1}, {})
    receipt = forget(config, ANN, now=NOW + 60)
    assert (receipt.erasure, receipt.known, receipt.note) == (
        None, False, "erased before, on 1970-01-02 03:47:30+00:00, and nothing has come since")
    assert Erasures(config.log_uri).newest() == 2


def test_a_user_whom_nobody_knows_is_said_to_be_unknown(tmp_path: Path) -> None:
    config = run_of(tmp_path)
    receipt = forget(config, "nobody", now=NOW)
    assert (receipt.known, receipt.removed, receipt.note) == (False, {}, "nobody by this id is known here")
    assert receipt.erasure == 1  # what is found later, in a backup or another file, is not read either
    for user in ("", "x" * 513):
        with pytest.raises(UsageError, match="expected the id of a user, 1 to 512 characters"):
            forget(config, user, now=NOW)


def test_what_a_retrain_reads_stays_until_it_has_ended(config: Config) -> None:
    live(config)
    names = words(config, ANN)
    with (config.run / "retrain" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        receipt = forget(config, ANN, now=NOW, wait=False)
        assert receipt.waits_for == ["a retrain is at work: it removes the files that it reads when it ends"]
        assert FeedbackLog(config.log_uri).read("outcomes").num_rows == 1
        assert any(name.startswith("log/outcomes/part-") for name in named(config.run, names))
        assert listed(config)[0]["waits_for"] == receipt.waits_for
        world = live_late(config)
        finish_after_run(config, now=NOW + 100)  # as the run that holds the lock does at its end
    assert [row["event_id"] for row in world.read("outcomes").to_pylist()] == ["e1"]
    assert listed(config)[0]["waits_for"] == []
    assert not {name for name in named(config.run, names) if "quarantine" not in name}
    assert finish(config) == []


def test_a_retrain_does_not_wait_for_an_erasure_that_waits_for_it(config: Config) -> None:
    live(config)
    receipts = []
    waiting = threading.Thread(target=lambda: receipts.append(forget(config, ANN, now=NOW)))
    with (config.run / "retrain" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting.start()
        while FeedbackLog(config.log_uri).read("outcomes").num_rows > 1:
            time.sleep(0.01)
        finish_after_run(config, now=NOW)
        assert receipts == []
    waiting.join()
    assert receipts[0].waits_for == []


def live_late(config: Config) -> FeedbackLog:
    """A row of the erased user that was on its way."""
    log, name = FeedbackLog(config.log_uri), load_people(config).names(ANN)[0]
    line = json.dumps({"event_id": "late", "user": name, "item": "a", "action": "click", "time": 9, "value": 1.0})
    log.append("outcomes", [(1, line)], writer="ingest")
    return log


def test_killed_anywhere_it_is_finished_by_the_next_run(config: Config, tmp_path: Path) -> None:
    live(config)
    names, copies = words(config, ANN), tmp_path / "copies"
    for name in KILLS:
        shutil.copytree(tmp_path, copies / name, ignore=shutil.ignore_patterns("copies"))
    asked = json.dumps([ANN, NOW, {name: run_of(copies / name).model_dump_json() for name in KILLS}])
    ended = subprocess.run([sys.executable, "-c", KILLED], env=os.environ | {"PYTHONPATH": str(ROOT)}, input=asked,
                           capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    for name in KILLS:
        killed = run_of(copies / name)
        receipt = forget(killed, ANN, now=NOW + 50)
        assert (name, receipt.erasure, receipt.time, receipt.removed, receipt.waits_for) == (name, 1, NOW, REMOVED, [])
        assert receipt.tombstone == {"data.interactions": 3, "features.users": 1}
        assert not {file for file in named(killed.run, names) if "quarantine" not in file}
        assert Erasures(killed.log_uri).newest() == 1


def test_versions_that_learnt_from_somebody_are_not_gone_on_from(config: Config) -> None:
    live(config)  # Ann is in the parts 1 and 3, and in the base
    version(config, 3, upto=3, learnt=0)  # a first training, rolled back to
    tombstones = [Erasures(config.log_uri).add(load_people(config), "n1", time=5, part=2, in_base=False)]
    assert [traces(read_manifest(config.models_dir / str(n)), tombstones) for n in (1, 2, 3)] == [[], [1], []]
    assert parent_of_next(config) == 3
    version(config, 4, upto=9, learnt=9, erasures=1, traces=(1,))  # made later, of version 2
    version(config, 5, upto=9, learnt=9, erasures=1)  # made later, of version 3
    assert [traces(read_manifest(config.models_dir / str(n)), tombstones) for n in (4, 5)] == [[1], []]
    tombstones.append(Erasures(config.log_uri).add(load_people(config), "n2", time=6, part=None, in_base=True))
    assert [traces(read_manifest(config.models_dir / str(n)), tombstones) for n in (1, 3, 5)] == [[2], [2], [2]]
    assert parent_of_next(config) == 5  # there is none without


def test_another_key_is_refused(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(config, ANN, now=NOW)
    monkeypatch.setenv("TFREC_PSEUDONYM_KEY", "another key, of many bytes")
    with pytest.raises(UsageError, match="known by another pseudonym key than this one"):
        load_people(config)


def test_without_a_tombstone_nothing_is_looked_up() -> None:
    people = Pseudonyms(b"k" * 16)
    assert (people.erasures, people.is_erased("x"), people.erased_at("x"), people.current("x")) == (0, False, None, "x")


@needs_s3
def test_in_an_object_store_the_same_rows_leave(tmp_path: Path) -> None:
    with local_s3() as store:
        config = run_of(tmp_path, **{"data.log": "s3://bucket/log", "data.examples": "s3://bucket/examples"})
        world = live(config)
        name, bob = load_people(config).names(ANN)[0], load_people(config).of(BOB)
        receipt = forget(config, ANN, now=NOW)
        assert (receipt.removed, receipt.waits_for) == (REMOVED, [])
        assert {row["user"] for row in world.log.read("impressions").to_pylist()} == {bob}
        for place, data in objects(store):
            assert name.encode() not in data, place
        assert forget(config, "nobody", now=NOW).erasure == 2


def objects(store: str) -> list[tuple[str, bytes]]:
    """All objects that the store has; of Parquet files, the values."""
    import io

    import obstore
    import pyarrow.parquet as pq

    bucket = obstore.store.from_url("s3://bucket")
    found = []
    for part in obstore.list(bucket):
        for one in part:
            data = bytes(obstore.get(bucket, one["path"]).bytes())
            if one["path"].endswith(".parquet"):
                data += json.dumps(pq.read_table(io.BytesIO(data)).to_pylist(), default=str).encode()
            found.append((one["path"], data))
    return found

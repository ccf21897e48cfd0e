"""A log and its examples at an object store's URL: several processes, kills, maintenance, and the commands that read them."""
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow as pa
import pytest

from tests.data.labels.world import ITEMS, SHOP, World
from tests.object_store import local_s3, needs_s3
from tfrec.config import Config, RewardConfig, load_config
from tfrec.data.behaviour.newest_outcomes import newest_outcomes
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.source_writer import SourceBatch, SourceWriter, Written
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.labels.join import Examples, join
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.shown_actions import shown_actions
from tfrec.data.records import Impression, Outcome, Shown
from tfrec.data.settled.examples import SettledExamples
from tfrec.data.settled.settle import settle
from tfrec.data.settled.settle_again import settle_again
from tfrec.errors import ConfigError, DataError

pytestmark = needs_s3
RULE = LabelRule(ITEMS, 100, SHOP, {})
WRITES = textwrap.dedent("""
    import sys
    from pathlib import Path
    from tfrec.data.feedback_log.log import FeedbackLog
    from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
    from tfrec.data.feedback_log.writer import LogWriter
    from tfrec.data.records import Outcome
    url, wal, name, events = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    with LogWriter(FeedbackLog(url), WriteAheadFile(wal, name), commit_seconds=0.02) as writer:
        for k in range(events):
            writer.outcome(Outcome(event_id=f"{name}{k}", user="u", item="i", action="click", time=5))
            print(f"{name}{k}", flush=True)
            if k % 4 == 0 and events < 1000:
                writer.flush()
""")
REPLAYS = textwrap.dedent("""
    import sys
    from tfrec.data.feedback_log.log import FeedbackLog
    from tfrec.data.records import Outcome
    log = FeedbackLog(sys.argv[1])
    log.last_seq("g")
    print("ready", flush=True)
    sys.stdin.readline()
    for k in range(1, 9):
        outcome = Outcome(event_id=f"e{k}", user="u", item="i", action="click", time=5)
        log.append("outcomes", [(k, outcome.model_dump_json())], writer="g")
""")


@pytest.fixture(scope="module")
def urls() -> Iterator[Iterator[str]]:
    """URLs, a new one for each test."""
    with local_s3():
        yield (f"s3://bucket/{n}" for n in count())


@pytest.fixture
def url(urls: Iterator[str]) -> str:
    return next(urls)


def start(code: str, *words: object) -> "subprocess.Popen[str]":
    called = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(called, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def events(log: FeedbackLog) -> list[str]:
    return [str(name) for name in log.read("outcomes")["event_id"].to_pylist()]


def test_two_writers_of_which_one_is_killed_lose_nothing_and_repeat_nothing(url: str, tmp_path: Path) -> None:
    with start(WRITES, url, tmp_path / "wal", "h", 40) as other, start(WRITES, url, tmp_path / "wal", "g", 1_000_000) as killed:
        assert killed.stdout is not None
        acknowledged = [killed.stdout.readline().strip() for _ in range(200)]
        killed.send_signal(signal.SIGKILL)
        acknowledged += killed.communicate(timeout=100)[0].split()
        other.communicate(timeout=100)
    assert other.returncode == 0
    log = FeedbackLog(url)
    with LogWriter(log, WriteAheadFile(tmp_path / "wal", "g")) as writer:
        writer.outcome(Outcome(event_id="after", user="u", item="i", action="click", time=5))
    found = Counter(events(log))
    assert set(found.values()) == {1}
    assert found.keys() >= {*acknowledged, "after", *(f"h{k}" for k in range(40))}
    assert log.window(None, now=1).end["outcomes"] == {"g": len(found) - 40, "h": 40}


def test_all_who_create_a_log_at_the_same_moment_open_it(url: str) -> None:
    logs = [FeedbackLog(f"{url}/{n}") for n in range(5) for _ in range(6)]
    together = Barrier(6, timeout=20)

    def last_seq(log: FeedbackLog) -> int:
        together.wait()
        return log.last_seq("g")

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(last_seq, logs)) == [0] * len(logs)


def test_processes_that_replay_the_same_rows_write_them_once(url: str) -> None:
    with ExitStack() as running:
        processes = [running.enter_context(start(REPLAYS, url)) for _ in range(3)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
    assert [process.returncode for process in processes] == [0] * 3
    assert sorted(events(FeedbackLog(url))) == sorted(f"e{k}" for k in range(1, 9))


def test_a_source_that_is_read_again_after_a_kill_between_the_tables(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = FeedbackLog(url)
    writer = SourceWriter(log, lambda *what: None)
    first, second = ([(n, outcome(n))] for n in (1, 4))
    found = writer.commit({"k:0": SourceBatch([], first, 3), "k:1": SourceBatch([], [], 9)})
    assert (found["k:0"].outcomes, writer.position("k:0"), writer.position("k:1")) == (1, 3, 9)
    shown = [(5, Impression(request_id="r5", time=5, user="u", policy="p", model_version=1,
                            slate=(Shown(item="a", position=0, score=1.0),)).model_dump_json())]
    monkeypatch.setattr(log.tables["outcomes"], "append_all", lambda parts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        writer.commit({"k:0": SourceBatch(shown, second, 6)})
    monkeypatch.undo()
    again = SourceWriter(FeedbackLog(url), lambda *what: None)
    assert (again.position("k:0"), again.newest("k:0")) == (3, 6)
    assert again.commit({"k:0": SourceBatch(shown, second, 6)})["k:0"] == Written(0, 1, duplicates=1)
    assert (sorted(events(log)), log.read("impressions")["request_id"].to_pylist()) == (["e1", "e4"], ["r5"])


def outcome(n: int) -> str:
    return Outcome(event_id=f"e{n}", user="u", item="i", action="click", time=5).model_dump_json()


def by_id(examples: Examples) -> Examples:
    return replace(examples, table=examples.table.sort_by("example_id"))  # they come in no order


def test_windows_joins_and_examples_are_those_of_a_local_log(url: str, tmp_path: Path) -> None:
    found = []
    for root in (url, str(tmp_path)):
        world, settled = World(f"{root}/log"), SettledExamples(f"{root}/examples")
        assert not world.log.exists()
        world.show("r1", 1000, "a", "b", history=("c", "a"))
        world.act("e1", 1001, "a", "purchase", request="r1")
        first = world.window(None, now=1050)
        settle(world.log, settled, RULE, now=1050, quarantine=None)
        world.act("e2", 1060, "b", request="r1")
        world.act("e1", 1001, "a", "purchase", request="r1")
        world.show("r2", 1070, "c")
        second = world.window(first, now=1300)
        before = by_id(join(world.log, second, RULE, quarantine=None))
        world.log.maintain(retention_hours=0)
        after = by_id(join(world.log, world.window(first, now=1300), RULE, quarantine=None))
        assert after.table.equals(before.table)
        assert after.left_out == before.left_out
        parts = [settle(world.log, settled, RULE, now=1300, quarantine=None).number for _ in range(2)]
        settled.maintain(retention_hours=0)
        twice = LabelRule(ITEMS, 100, RewardConfig(weights={"click": 2.0}), {})
        kept = settled.whole(upto=2, items=ITEMS)
        again = settle_again(world.log, settled.table.uri, twice, known=[1], quarantine=None)
        assert again is not None
        changed = SettledExamples(settled.table.uri)
        assert changed.last() == again
        assert settle(world.log, changed, twice, now=1300, quarantine=None) == again
        found.append((before.table, after.left_out, parts, kept, again.number, changed.whole(upto=2, items=ITEMS)))
    for remote, local in zip(*found, strict=True):
        assert remote.equals(local) if isinstance(remote, pa.Table) else remote == local


def test_actions_of_shown_items_are_read_from_a_store(url: str) -> None:
    world = World(url)
    world.show("r1", 1000, "a", "b")
    world.act("e1", 1001, "a", "purchase", request="r1")
    world.act("e2", 1002, "b")
    world.window(None, now=1050)
    slates = pa.table({"request_id": ["r1"], "user": ["u"], "time": [1000], "item": [["a", "b"]]})
    found = shown_actions(world.log, slates, ["click", "purchase"], attribution_seconds=100)
    assert found.tolist() == [[[False, True], [True, False]]]


def test_commands_take_a_log_at_a_url(url: str, tmp_path: Path, call: Any) -> None:
    (tmp_path / "items.jsonl").write_text("".join(f'{{"id": "{item}", "text": "film {item}"}}\n' for item in ITEMS))
    words = ("--set", f"run={tmp_path / 'run'}", "--set", f"data.items={tmp_path / 'items.jsonl'}",
             "--set", f"data.log={url}/log", "--set", f"data.examples={url}/examples", "--json")
    code, _, said = call("join", *words)
    assert (code, f"There is no feedback log in {url}/log" in said) == (2, True)
    world = World(f"{url}/log")
    world.act("e1", 1000, "a")
    world.window(None, now=1001)
    code, printed, said = call("join", *words)
    assert (code, '"examples": 1' in printed) == (0, True), said
    assert not (tmp_path / "run").exists()  # nothing is kept beside it
    assert newest_outcomes(world.log)["event_id"].to_pylist() == ["e1"]  # what a gateway begins with
    code, printed, said = call("status", *words[:2], *words[4:])
    assert (code, '"outcomes": 1' in printed) == (0, True), said
    (tmp_path / "acts.jsonl").write_text('{"event_id": "e2", "user": "u", "item": "a", "action": "click", "time": 5}\n')
    for new in (1, 0):
        code, printed, said = call("ingest", "--from", "jsonl", tmp_path / "acts.jsonl", *words)
        assert (code, f'"outcomes": {new}' in printed) == (0, True), said
    assert sorted(events(world.log)) == ["e1", "e2"]


def test_a_store_that_cannot_be_read_is_named_with_what_to_check() -> None:
    with pytest.raises(DataError, match=r"s3://no-such-bucket/log/outcomes: cannot be .*NoSuchBucket"):
        FeedbackLog("s3://no-such-bucket/log").window(None, now=1)


def test_places_are_directories_or_urls_of_stores_that_are_known() -> None:
    assert Config().log_uri == "runs/default/log"
    config = load_config(None, ["data.log=gs://bucket/log", "data.examples=/mnt/examples"])
    assert (config.log_uri, config.examples_uri) == ("gs://bucket/log", "/mnt/examples")
    with pytest.raises(ConfigError, match=r"data\.log must be a directory or a URL that begins with s3://, gs://, az://, got"):
        load_config(None, ["data.log=ftp://host/log"])

"""The feedback log: what is written is read, in windows that tile it, whatever processes, tables and files do."""
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.window import Window
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.records import Context, Impression, Outcome, Shown
from tfrec.errors import DataError, UsageError


def outcome(event, **fields):
    return Outcome(**{"event_id": event, "user": "u", "item": "i", "action": "click", "time": 5, **fields})


def impression(request, items=("a", "b"), **fields):
    slate = [Shown(item=item, position=k, score=1.0 - k, log_propensity=0.0) for k, item in enumerate(items)]
    given = {"request_id": request, "time": 5, "user": "u", "policy": "greedy", "model_version": 1, "slate": slate}
    return Impression(**given | fields)


def lines(*records):
    return [(seq, record.model_dump_json()) for seq, record in enumerate(records, start=1)]


def events(log):
    return log.read("outcomes")["event_id"].to_pylist()


@pytest.fixture
def log(tmp_path):
    return FeedbackLog(tmp_path / "log")


@pytest.fixture
def writer(log, tmp_path):
    with LogWriter(log, WriteAheadFile(tmp_path / "wal", "g")) as writer:
        yield writer


def test_an_impression_is_a_row_per_shown_item(log, writer):
    shown = impression("r1", query="heat", history=("x", "y"), history_action=("click", "view"), history_time=(1, 2),
                       exclude=("x",), deny_tags=("t", "s"), prior_items=("b",), prior_log_p=(-1.5,))
    writer.impression(shown.model_copy(update={"context": Context(device="tv")}))
    writer.flush()
    first, second = log.read("impressions").to_pylist()
    assert first == {
        "request_id": "r1", "time": 5, "user": "u", "query": "heat", "history": ["x", "y"], "history_action": ["click", "view"],
        "history_time": [1, 2], "exclude": ["x"], "allow_tags": [], "deny_tags": ["t", "s"],
            "prior_items": ["b"], "prior_log_p": [-1.5],
        "context": '{"place":"","device":"tv","profile":{}}', "policy": "greedy", "model_version": 1,
        "item": "a", "position": 0, "score": 1.0, "log_propensity": 0.0, "writer": "g", "seq": 1,
    }  # fmt: skip
    once = dict.fromkeys(["exclude", "allow_tags", "deny_tags", "context", "prior_items", "prior_log_p"])
    assert second == first | once | {"item": "b", "position": 1, "score": 0.0}


def test_text_comes_through_as_it_was(log, writer):
    texts = ['a "quoted" \\ line\nand another', "", "2020-01-01", '{"context":{}}', "\u2028 ünï 🎬", "null"]
    writer.impression(*(impression(f"r{n}", query=text) for n, text in enumerate(texts)))
    writer.flush()
    assert log.read("impressions")["query"].to_pylist()[::2] == texts


def test_a_check_writes_and_leaves_nothing(log, tmp_path):
    with LogWriter(log, WriteAheadFile(tmp_path / "wal", "g"), commit_seconds=60) as writer:
        writer.check()
        writer.outcome(outcome("e1"))
        assert writer.behind() > 0
        writer.flush()
        assert (writer.behind(), events(log)) == (0, ["e1"])


def test_outcomes_share_the_numbers_of_their_writer(log, writer):
    assert writer.impression(impression("r1")) == 1
    assert writer.outcome(outcome("e1", request_id="r1", value=2), outcome("e2")) == 3
    writer.flush()
    same = {"user": "u", "item": "i", "action": "click", "time": 5, "writer": "g"}
    assert log.read("outcomes").to_pylist() == [
        {"event_id": "e1", "request_id": "r1", "value": 2.0, "seq": 2, **same},
        {"event_id": "e2", "request_id": None, "value": 1.0, "seq": 3, **same},
    ]
    assert log.last_seq("g") == 3


def test_the_committer_needs_no_flush(log, tmp_path):
    with LogWriter(log, WriteAheadFile(tmp_path / "wal", "g"), commit_seconds=0.01) as writer:
        writer.outcome(outcome("e1"))
        for _ in range(500):
            if events(log):
                break
        assert events(log) == ["e1"]


def test_a_flush_ends_while_records_keep_arriving(log, tmp_path, monkeypatch):
    commit, ended, arrived, commits = log.append, threading.Event(), threading.Event(), []

    def slowly(*given, **told):
        commits.append(arrived.clear())
        assert arrived.wait(10)  # so that something is pending after each commit
        commit(*given, **told)

    def keep_appending():
        for n in range(1000):
            writer.outcome(outcome(f"more {n}"))
            arrived.set()
            if ended.wait(0.005):
                return

    with LogWriter(log, WriteAheadFile(tmp_path / "wal", "busy"), commit_seconds=60) as writer:
        writer.outcome(outcome("first"))
        monkeypatch.setattr(log, "append", slowly)
        thread = threading.Thread(target=keep_appending)
        thread.start()
        writer.flush()
        still_arriving = thread.is_alive()
        ended.set()
        thread.join()
        monkeypatch.setattr(log, "append", commit)
    assert still_arriving
    assert len(commits) == 2  # impressions and outcomes
    found = events(log)
    assert "first" in found
    assert len(found) == len(set(found)) > 1


def test_an_outage_of_the_tables_loses_nothing(log, tmp_path, monkeypatch, caplog):
    real, calls, back = log.append, [], threading.Event()

    def failing(*args, **options):
        calls.append(args)
        if len(calls) < 3:
            raise OSError("the store is away")
        back.set()
        real(*args, **options)

    wal = WriteAheadFile(tmp_path / "wal", "g")
    with LogWriter(log, wal, commit_seconds=0.01) as writer, caplog.at_level(logging.WARNING):
        monkeypatch.setattr(log, "append", failing)
        writer.outcome(outcome("e1"))
        assert back.wait(10)
    assert events(log) == ["e1"]
    assert "the store is away" in caplog.text


def test_the_same_rows_are_appended_once(log):
    rows = lines(outcome("e1"), outcome("e2"), outcome("e3"))
    log.append("outcomes", rows[:2], writer="g")
    log.append("outcomes", rows, writer="g")
    log.append("outcomes", rows, writer="g")
    log.append("outcomes", [], writer="g")
    assert sorted(events(log)) == ["e1", "e2", "e3"]
    log.append("outcomes", rows[:1], writer="other")
    assert len(events(log)) == 4


def test_a_lost_write_ahead_file_reuses_no_number(log, tmp_path):
    with LogWriter(log, WriteAheadFile(tmp_path / "wal", "g")) as writer:
        writer.outcome(outcome("e1"), outcome("e2"))
    with LogWriter(log, WriteAheadFile(tmp_path / "elsewhere", "g")) as writer:
        assert writer.outcome(outcome("e3")) == 3
    assert sorted(events(log)) == ["e1", "e2", "e3"]


def test_a_window_round_trips_and_survives_deletion(log):
    log.append("outcomes", lines(outcome("e1"), outcome("e2", user="v")), writer="g")
    first = log.window(None, now=10)
    assert first.end == {"impressions": {}, "outcomes": {"g": 2}}
    assert (first.matured_from, first.now, first.start) == (0, 10, {"impressions": {}, "outcomes": {}})
    assert Window.model_validate_json(first.model_dump_json()) == first
    DeltaTable(log.tables["outcomes"].uri).delete("user = 'v'")  # the newest row
    second = log.window(first, now=20)
    assert (second.start, second.end) == (first.end, first.end)
    assert second.matured_from == 10


def test_a_clock_that_ran_ahead_once_stops_no_later_window(log):
    """The rows that came last say which of the two clocks is wrong."""
    for seq in (1, 2, 3):
        log.append("outcomes", [(seq, outcome(f"e{seq}", time=100 + seq).model_dump_json())], writer="w")
    ahead = log.window(None, now=10**9)
    later = log.window(ahead, now=200)
    assert (later.start, later.matured_from, later.now) == (ahead.end, 200, 200)
    with pytest.raises(UsageError, match="now is 50, before most of the newest rows of the log, of 102: the clock is behind"):
        log.window(ahead, now=50)


def test_the_numbers_survive_a_checkpoint(log):
    for seq in (1, 2, 3):
        log.append("outcomes", [(seq, outcome(f"e{seq}").model_dump_json())], writer="g")
    DeltaTable(log.tables["outcomes"].uri).create_checkpoint()
    for commit in Path(log.tables["outcomes"].uri).glob("_delta_log/*.json"):
        commit.unlink()
    assert log.last_seq("g") == 3
    log.append("outcomes", [(3, outcome("e3").model_dump_json())], writer="g")
    assert len(events(log)) == 3


def test_an_empty_log_has_an_empty_window(log):
    window = log.window(None, now=1)
    assert window.start == window.end
    assert log.read("impressions", window.impressions_version).num_rows == 0


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(["g", "h"]), st.sampled_from(["append", "append", "window", "compact"])),
                min_size=8, max_size=24))
def test_windows_tile_the_log(tmp_path_factory, steps):
    log = FeedbackLog(tmp_path_factory.mktemp("log"))
    seq, windows, written = Counter(), [], []
    for writer, step in steps:
        if step == "append":
            seq[writer] += 1
            event = f"{writer}{seq[writer]}"
            log.append("outcomes", [(seq[writer], outcome(event).model_dump_json())], writer=writer)
            written.append(event)
        elif step == "window":
            windows.append(log.window(windows[-1] if windows else None, now=len(windows)))
        else:
            log.maintain()
    windows.append(log.window(windows[-1] if windows else None, now=99))
    read = []
    for window in windows:
        rows = log.read("outcomes", window.outcomes_version).to_pylist()
        start, end = window.start["outcomes"], window.end["outcomes"]
        read += [row["event_id"] for row in rows if start.get(row["writer"], 0) < row["seq"] <= end.get(row["writer"], 0)]
    assert sorted(read) == sorted(written)


def test_old_versions_are_read_until_vacuumed_and_the_newest_then(log):
    for seq in (1, 2, 3):
        log.append("outcomes", [(seq, outcome(f"e{seq}").model_dump_json())], writer="g")
    assert sorted(log.read("outcomes", 2)["event_id"].to_pylist()) == ["e1", "e2"]
    log.maintain(retention_hours=0)
    assert len(list(Path(log.tables["outcomes"].uri).glob("*.parquet"))) == 1
    assert sorted(log.read("outcomes", 2)["event_id"].to_pylist()) == ["e1", "e2", "e3"]
    with pytest.raises(DataError, match="version 99 asked for, the newest is"):
        log.read("outcomes", 99)


def test_a_truncated_parquet_file_is_named(log):
    log.append("outcomes", lines(outcome("e1")), writer="g")
    [file] = Path(log.tables["outcomes"].uri).glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-30])
    for read in (lambda: log.read("outcomes"), lambda: log.window(None, now=1)):
        with pytest.raises(DataError, match=rf"{file.name}: truncated or damaged"):
            read()


def test_a_truncated_delta_file_is_named(log):
    log.append("outcomes", lines(outcome("e1")), writer="g")
    commit = Path(log.tables["outcomes"].uri) / "_delta_log" / f"{1:020d}.json"
    commit.write_bytes(commit.read_bytes()[:50])
    with pytest.raises(DataError, match=rf"{commit.name}: truncated or damaged"):
        log.read("outcomes")


PROCESS = textwrap.dedent("""
    import os, sys
    from tfrec.data.feedback_log.log import FeedbackLog
    from tfrec.data.feedback_log.writer import LogWriter
    from tfrec.data.records import Outcome
    from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
    root, count, name, *others = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
    for other in others:  # forked before anything runs: to import all that again would take longer than the work
        if not (child := os.fork()):
            name = other
            break
    with LogWriter(FeedbackLog(root + "/log"), WriteAheadFile(root + "/wal", name), commit_seconds=0.02) as writer:
        for k in range(count):
            event = f"{name}{k}"
            writer.outcome(Outcome(event_id=event, user="u", item="i", action="click", time=5))
            print(event, flush=True)
            if k % 4 == 0 and count < 1000:
                writer.flush()
    if others and name not in others:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")


def start(root, count, *names):
    """A process per name; the first one's exit status is another's when that is not 0."""
    words = [sys.executable, "-c", PROCESS, str(root), str(count), *names]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_two_processes_append_at_once(tmp_path):
    process = start(tmp_path, 40, "g", "h")  # they create the tables at once, too
    process.communicate(timeout=300)
    assert process.returncode == 0
    log = FeedbackLog(tmp_path / "log")
    assert sorted(events(log)) == sorted(f"{name}{k}" for name in ("g", "h") for k in range(40))
    assert log.window(None, now=1).end["outcomes"] == {"g": 40, "h": 40}


def test_a_killed_process_loses_nothing_acknowledged_and_repeats_nothing(tmp_path):
    process = start(tmp_path, 1_000_000, "g")
    acknowledged = [process.stdout.readline().strip() for _ in range(300)]  # a second or so: several commits
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate(timeout=300)
    acknowledged += rest.split()
    log = FeedbackLog(tmp_path / "log")
    before = len(events(log))
    with LogWriter(log, WriteAheadFile(tmp_path / "wal", "g")) as writer:
        writer.outcome(outcome("after"))
    found = Counter(events(log))
    assert set(found.values()) == {1}
    assert found.keys() >= {*acknowledged, "after"}
    # besides, there may be what was on disk when the process died, and the answer had not been printed or read
    assert before <= len(found)
    assert log.window(None, now=1).end["outcomes"] == {"g": len(found)}


def test_a_record_that_no_table_can_hold_is_set_aside_and_the_rest_goes_on(log, tmp_path):
    wal = WriteAheadFile(tmp_path / "wal", "g")
    wal.skip_to(0)
    wal.append("outcomes", [outcome("a").model_dump_json(), "{bad", outcome("b").model_dump_json()])
    wal.append("impressions", ['{"slate": 5}'])
    wal.close()
    with LogWriter(log, WriteAheadFile(tmp_path / "wal", "g")) as writer:
        assert (writer.set_aside(), writer.behind()) == (2, 0)
        writer.outcome(outcome("c"))
    assert sorted(events(log)) == ["a", "b", "c"]
    aside = [json.loads(line) for line in (tmp_path / "wal" / "g.quarantine.jsonl").read_text().splitlines()]
    assert sorted((row["seq"], row["payload"]) for row in aside) == [(2, "{bad"), (4, '{"slate": 5}')]


def test_an_empty_commit_is_named_and_never_read_as_no_rows(log):
    log.append("outcomes", lines(outcome("e1")), writer="g")
    commit = Path(log.tables["outcomes"].uri) / "_delta_log" / f"{1:020d}.json"
    commit.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{commit.name}: truncated or damaged \(an empty commit\)"):
        FeedbackLog(log.root).read("outcomes")


def test_a_log_without_its_delta_log_is_not_begun_anew(log):
    log.append("outcomes", lines(outcome("e1")), writer="g")
    shutil.rmtree(Path(log.tables["outcomes"].uri) / "_delta_log")
    with pytest.raises(DataError, match="Parquet files without their _delta_log"):
        FeedbackLog(log.root).read("outcomes")


def test_what_people_did_is_for_its_owner_alone(log, writer, tmp_path):
    writer.outcome(outcome("e1"))
    writer.flush()
    log.maintain()
    rights = {oct(path.stat().st_mode & 0o777) for top in ("log", "wal") for path in (tmp_path / top).rglob("*")}
    assert rights == {"0o600", "0o700"}


def test_files_do_not_grow_with_the_days(log):
    """A day: 10 commits, 2 jobs; then all times in the directory are a day older."""
    counts, root = [], Path(log.root)
    for day in range(4):
        for n in range(1, 11):
            log.append("outcomes", [(10 * day + n, outcome(f"e{day}.{n}").model_dump_json())], writer="g")
            if n % 5 == 0:
                log.maintain()
        counts.append(sum(path.is_file() for path in root.rglob("*")))
        for path in root.rglob("*"):
            os.utime(path, (path.stat().st_mtime - 86_400,) * 2)
    assert max(counts) < 2 * counts[0]
    assert len(events(log)) == 40

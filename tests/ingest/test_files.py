"""Files: each line or row once, whatever is renamed, rotated, packed, cut off, grown or killed."""
import gzip
import json
import os
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ingest.broker import click, slate
from tfrec.config import Config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.table import LogTable
from tfrec.errors import DataError, UsageError
from tfrec.ingest.job import ingest


@pytest.fixture
def read(config):
    """`read(path)` -> the report of an ingest of JSON lines."""
    return lambda *paths, kind="jsonl", **named: ingest(config, kind, [str(path) for path in paths], **named)


def lines(*rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def clicks(*numbers):
    return lines(*map(click, numbers))


def events(*numbers):
    return Counter(f"e{n}" for n in numbers)


def test_a_file_is_read_once_and_then_what_is_added(read, tmp_path, logged):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(slate(1)) + clicks(1) + b"\n  \r\n" + json.dumps(click(2)).encode())  # whole, though it has no end
    assert (read(path).parts[0].impressions, read(path).parts[0].read) == (1, 0)
    with path.open("ab") as file:
        file.write(b"\n" + clicks(3) + lines(click(4))[:-9])
    part = read(path).parts[0]
    assert (part.outcomes, part.lag) == (1, len(lines(click(4))) - 9)
    with path.open("ab") as file:
        file.write(lines(click(4))[-9:])
    assert read(path).parts[0].outcomes == 1
    assert logged() == (Counter(["r1"]), events(1, 2, 3, 4))


def test_a_line_that_is_no_record_is_set_aside_with_its_number(read, tmp_path, run):
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(click(1)).encode())
    read(path)
    path.write_bytes(path.read_bytes() + b"\nnonsense\n" + clicks(2) + b"\n[1]\n")
    assert read(path).parts[0].quarantined == 2
    rows = [json.loads(line) for line in (run / "quarantine-ingest.jsonl").read_text().splitlines()]
    assert [(row["file"], row["line"], row["row"]) for row in rows] == [(str(path), 2, "nonsense"), (str(path), 5, 1)]


def test_the_same_bad_line_of_another_day_is_set_aside_again(read, tmp_path, run):
    path = tmp_path / "a.jsonl"
    for day in range(2):
        path.write_bytes(clicks(day) + lines({"day": day}))
        read(path)
    rows = [json.loads(line) for line in (run / "quarantine-ingest.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rows] == [{"day": 0}, {"day": 1}]


def test_a_file_that_is_renamed_or_packed_is_not_read_again(read, tmp_path, logged):
    path = tmp_path / "a.jsonl"
    path.write_bytes(clicks(1, 2))
    read(path)
    path.rename(tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(clicks(1, 2)) + gzip.compress(clicks(3)))
    part = read(tmp_path).parts[0]
    assert (part.read, part.outcomes) == (1, 1)
    assert logged()[1] == events(1, 2, 3)


def test_a_file_with_another_one_s_beginning_is_another_file(read, tmp_path, logged):
    path = tmp_path / "a.jsonl"
    path.write_bytes(clicks(1, 2))
    read(path)
    path.write_bytes(clicks(1, 3, 4, 5))
    read(path)
    assert set(logged()[1]) == set(events(1, 2, 3, 4, 5))  # the first one twice, which the join counts once


def test_a_file_that_is_emptied_and_written_again_loses_nothing(read, tmp_path, logged):
    path = tmp_path / "a.jsonl"
    path.write_bytes(clicks(*range(9)))
    read(path)
    path.write_bytes(b"")
    read(path)
    path.write_bytes(clicks(10))
    read(path)
    assert logged()[1] == events(*range(9), 10)


def test_directories_are_read_by_name_and_folders_are_columns(read, tmp_path, logged, caplog):
    for name, numbers in {"day=2/b.jsonl": (3,), "day=1/a.JSONL": (1, 2), "_SUCCESS": (7,), ".hidden.jsonl": (8,)}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(clicks(*numbers))
    (tmp_path / "readme.txt").write_text("hello")
    assert read(tmp_path).parts[0].outcomes == 3
    assert f"{tmp_path / 'readme.txt'}: not read, as its name does not end in .jsonl or .jsonl.gz" in caplog.text
    assert logged()[1] == events(1, 2, 3)


@pytest.mark.parametrize(("content", "said"), [
    (b"PAR1....", "by its content it is a Parquet file"),
    (gzip.compress(b"{}", mtime=0), "packed by gzip, but its name does not say so"),
    (b"event_id,user\n1,2\n", "none of its first 2 rows is a record; line 1: not JSON .*Check --format and --from"),
    (lines({"action_name": "click"}), "none of its first 1 rows is a record"),
])  # fmt: skip
def test_a_file_of_another_kind_holds_up_no_other_one(read, tmp_path, logged, content, said):
    (tmp_path / "a.jsonl").write_bytes(content)
    (tmp_path / "b.jsonl").write_bytes(clicks(1))
    (fault,) = read(tmp_path).faults
    assert f"{tmp_path / 'a.jsonl'}" in fault
    with pytest.raises(DataError, match=said):
        raise DataError(fault)
    assert logged()[1] == events(1)
    (tmp_path / "a.jsonl").write_bytes(clicks(2))
    assert read(tmp_path).faults == []
    assert logged()[1] == events(1, 2)


def test_a_packed_file_that_ends_in_the_middle_is_told_and_read_on_when_it_is_whole(read, tmp_path, logged):
    path, whole = tmp_path / "a.jsonl.gz", gzip.compress(clicks(*range(2000)))
    path.write_bytes(whole[: len(whole) // 2])
    (fault,) = read(path).faults
    assert "truncated or damaged" in fault
    assert "Write the file again" in fault
    path.write_bytes(whole)
    assert read(path).faults == []
    assert logged()[1] == events(*range(2000))


def test_an_endless_line_is_an_error(read, tmp_path, monkeypatch):
    monkeypatch.setattr("tfrec.ingest.json_lines.MAX_LINE_BYTES", 1 << 20)
    (tmp_path / "a.jsonl").write_bytes(clicks(1) + b"[" + bytes(3 << 20))
    (fault,) = read(tmp_path / "a.jsonl").faults
    assert "line 2: more than 1,048,576 bytes" in fault
    assert "jq -c" in fault


def test_paths_that_do_not_exist_and_sources_that_are_read_already_are_refused(config, read, tmp_path):
    with pytest.raises(UsageError, match=r"no.jsonl: no such file or directory"):
        read(tmp_path / "no.jsonl")
    with pytest.raises(UsageError, match="needs a file or a directory, such as events.jsonl"):
        read()
    with pytest.raises(UsageError, match="--servers are Kafka's brokers, and --from is jsonl"):
        read(tmp_path, servers="x:1")
    with pytest.raises(UsageError, match="it holds the feedback log itself"):
        read(config.run.parent, kind="parquet")
    stopping = threading.Event()
    (tmp_path / "a.jsonl").write_bytes(clicks(1))
    other = threading.Thread(target=lambda: read(tmp_path / "a.jsonl", follow=True, stopping=stopping))
    other.start()
    ledger = config.run / "ingest" / "files:jsonl.sqlite"
    until = time.monotonic() + 10
    while not (FeedbackLog(config.run / "log").exists() and ledger.exists()) and time.monotonic() < until:
        time.sleep(0.02)
    with pytest.raises(UsageError, match="Another process reads this source .*ingest.name"):
        read(tmp_path / "a.jsonl")
    stopping.set()
    other.join(timeout=10)


def test_a_ledger_that_is_lost_or_damaged(read, tmp_path, run, logged, caplog):
    path, ledger = tmp_path / "a.jsonl", run / "ingest" / "files:jsonl.sqlite"
    path.write_bytes(clicks(1, 2))
    read(path)
    ledger.write_bytes(b"nonsense" * 4096)
    with pytest.raises(DataError, match=r"files:jsonl.sqlite: cannot be used .* remove it"):
        read(path)
    ledger.unlink()
    read(path)
    assert "the list of files that were read is gone" in caplog.text
    assert logged()[1] == events(1, 1, 2, 2)  # the join counts them once
    read(path)
    assert logged()[1] == events(1, 1, 2, 2)


def test_parquet_with_impressions_outcomes_and_columns_that_are_null(read, tmp_path, logged, run):
    rows = [{**slate(1), "context": {"place": "shop", "device": None}}, click(1), click(2, request_id="r1", value=2.5)]
    names = dict.fromkeys(name for row in rows for name in row)
    path = tmp_path / "in" / "day=3" / "a.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), path)
    part = read(tmp_path / "in", kind="parquet").parts[0]
    assert (part.impressions, part.outcomes, part.quarantined) == (1, 2, 0)
    os.utime(path)
    path.rename(tmp_path / "in" / "b.parquet")
    assert read(tmp_path / "in", kind="parquet").parts[0].read == 0
    found = FeedbackLog(run / "log").read("outcomes")
    assert (found["request_id"].to_pylist(), found["value"].to_pylist()) == ([None, "r1"], [1.0, 2.5])
    (tmp_path / "in" / "c.parquet").write_bytes((tmp_path / "in" / "b.parquet").read_bytes()[:-9])
    (fault,) = read(tmp_path / "in", kind="parquet").faults
    assert "truncated or damaged" in fault
    assert logged()[1] == events(1, 2)


class Follower:
    """An ingest that follows a directory, in a thread."""

    def __init__(self, read, path, logged):
        self.stopping, self._logged = threading.Event(), logged
        self._thread = threading.Thread(target=lambda: read(path, follow=True, stopping=self.stopping))
        self._thread.start()

    def wait_for(self, *numbers):
        until = time.monotonic() + 20
        while self._logged()[1] != events(*numbers):
            assert time.monotonic() < until, self._logged()
            time.sleep(0.05)

    def stop(self):
        self.stopping.set()
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()


def test_following_files_that_grow_and_are_rotated(read, tmp_path, logged, monkeypatch):
    monkeypatch.setattr("tfrec.ingest.files.POLL_SECONDS", 0.05)
    directory, path = tmp_path / "in", tmp_path / "in" / "a.jsonl"
    directory.mkdir()
    path.write_bytes(clicks(1))
    work = Follower(read, directory, logged)
    work.wait_for(1)
    for half in (clicks(2)[:20], clicks(2)[20:]):
        with path.open("ab") as writer:
            writer.write(half)
        time.sleep(0.2)
    work.wait_for(1, 2)
    for number, to in ((3, directory / "0.jsonl"), (31, directory / "z.jsonl"), (32, tmp_path / "a.old")):
        with path.open("ab") as writer:
            writer.write(clicks(number))
        path.rename(to)  # before anybody looks
        path.write_bytes(clicks(number + 100))
        time.sleep(0.2)
    seen = [1, 2, 3, 31, 32, 103, 131, 132]
    work.wait_for(*seen)
    path.write_bytes(clicks(4, 5))  # cut off and begun anew, with more than before
    work.wait_for(*seen, 4, 5)
    path.write_bytes(clicks(6))  # with less
    work.wait_for(*seen, 4, 5, 6)
    (directory / "b.jsonl.gz").write_bytes(gzip.compress(clicks(7)))
    path.unlink()
    (directory / "c.jsonl").write_bytes(clicks(8))
    work.wait_for(*seen, 4, 5, 6, 7, 8)
    work.stop()
    assert read(directory).parts[0].read == 0


def killed(read, *paths, **named):
    """An ingest that ends between the two tables of the log, as by a kill."""
    with mock.patch.object(LogTable, "append_all", _first_table_only), suppress(DataError):
        read(*paths, **named)


_append_all = LogTable.append_all


def _first_table_only(self, parts):
    if self.uri.endswith("outcomes"):
        raise DataError("killed")
    return _append_all(self, parts)


def test_a_kill_between_the_tables_is_made_up_for(read, tmp_path, logged):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_bytes(lines(slate(1), click(1)))
    read(first)
    first.write_bytes(first.read_bytes() + lines(slate(2), click(2)))
    second.write_bytes(lines(slate(3), click(3)))
    killed(read, second, first)
    first.write_bytes(first.read_bytes() + lines(click(4), slate(4)))
    second.rename(tmp_path / "c.jsonl")
    (tmp_path / "0.jsonl").write_bytes(clicks(5))  # which comes first now
    read(tmp_path)
    assert logged() == (Counter(f"r{n}" for n in (1, 2, 3, 4)), events(1, 2, 3, 4, 5))


def test_a_damaged_file_holds_up_what_a_kill_has_left_only_if_it_is_that_file(read, tmp_path, logged):
    first, second = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"
    whole = gzip.compress(lines(slate(1)) + clicks(*range(2000)))
    first.write_bytes(whole)
    killed(read, first)
    first.write_bytes(whole[:-900])
    with pytest.raises(DataError, match=r"a.jsonl.gz: truncated .* A kill has left it half in the log.* remove it to go on"):
        read(tmp_path)
    first.write_bytes(b"\x1f\x8bnonsense")
    second.write_bytes(whole)
    first.rename(tmp_path / "0.jsonl.gz")
    assert len(read(tmp_path).faults) == 1
    assert logged() == (Counter(["r1"]), events(*range(2000)))


def test_what_a_kill_has_left_of_a_file_that_is_gone_is_told(read, tmp_path, logged, caplog):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(slate(1), click(1)))
    killed(read, path)
    path.write_bytes(clicks(2))
    read(path)
    assert f"{path}: it is gone or has changed, and 0 to " in caplog.text
    assert logged() == (Counter(["r1"]), events(2))


def test_parquet_after_a_kill_between_the_tables(read, tmp_path, logged):
    rows = [slate(n) if n % 2 else click(n) for n in range(1, 9)]
    names = dict.fromkeys(name for row in rows for name in row)
    pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), tmp_path / "a.parquet")
    killed(read, tmp_path / "a.parquet", kind="parquet")
    (tmp_path / "a.parquet").rename(tmp_path / "b.parquet")
    read(tmp_path / "b.parquet", kind="parquet")
    assert logged() == (Counter(f"r{n}" for n in (1, 3, 5, 7)), events(2, 4, 6, 8))


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.sampled_from(["read", "kill", "cut", "wait"])),
                max_size=8))
def test_whatever_grows_and_dies_each_record_is_there_once(tmp_path_factory, steps):
    root = Path(tmp_path_factory.mktemp("law"))
    config, n = Config.model_validate({"run": root / "run"}), 0

    def read(**named):
        return ingest(config, "jsonl", [str(root / "in")], **named)

    (root / "in").mkdir()
    for name, more, what in steps:
        rows = [slate(k) if k % 3 else click(k) for k in range(n, n + more)]
        n += more
        with (root / "in" / f"{name}.jsonl").open("ab") as file:
            file.write(lines(*rows)[: -5 if what == "cut" else None])
            file.flush()
            if what == "cut":
                killed(read)
                file.write(lines(*rows)[-5:])
        if what == "read":
            read()
        elif what == "kill":
            killed(read)
    read()
    log = FeedbackLog(root / "run" / "log")
    assert Counter(log.read("outcomes")["event_id"].to_pylist()) == events(*(k for k in range(n) if k % 3 == 0))
    assert Counter(log.read("impressions")["request_id"].to_pylist()) == Counter(f"r{k}" for k in range(n) if k % 3 for _ in "ab")

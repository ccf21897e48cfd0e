"""A power cut at any step of the log's work loses no acknowledged record and repeats none."""
import shutil
from collections import Counter

import pytest

from tests.data.feedback_log.power_cut import PowerCuts, leaves, put
from tfrec.data import durable_files
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.records import Outcome


def outcome(event):
    return Outcome(event_id=event, user="u", item="i", action="click", time=5)


def started(log, root):
    """A writer with little room, which commits only when it is told to."""
    return LogWriter(log, WriteAheadFile(root / "wal", "g", room_bytes=600, rewrite_bytes=500), commit_seconds=600)


def work(root, cuts):
    """Records come, are moved, the log is compacted and vacuumed, the file rewritten, the process stops and starts again."""
    log, events = FeedbackLog(root / "log"), []

    def tell(writer, count):
        for _ in range(count):
            events.append(f"e{len(events)}")
            writer.outcome(outcome(events[-1]))
            cuts.acknowledged = len(events)

    with started(log, root) as writer:
        tell(writer, 2)
        writer.flush()
        tell(writer, 1)
        writer.flush()
        tell(writer, 1)
        log.maintain()
        tell(writer, 1)
        log.maintain(retention_hours=0)
    with started(log, root) as writer:
        tell(writer, 2)
    return events


def found_after(root):
    """How often each event is in the log, after a start, one more record and a stop."""
    log = FeedbackLog(root / "log")
    with started(log, root) as writer:
        writer.outcome(outcome("after"))
    return Counter(log.read("outcomes")["event_id"].to_pylist())


def losses(tmp_path, monkeypatch):
    """Each directory that a cut left and that did not hold what it should, in words."""
    (tmp_path / "run").mkdir()
    with PowerCuts(tmp_path / "run") as cuts:
        events = work(tmp_path / "run", cuts)
    monkeypatch.setattr(durable_files.os, "fsync", lambda _: None)  # what is started now is not cut
    monkeypatch.setattr(durable_files.os, "fdatasync", lambda _: None)
    for n, (cut, way, left) in enumerate(leaves(cuts)):
        root = tmp_path / str(n)
        put(left, root)
        try:
            found = found_after(root)
        except Exception as error:
            yield f"{cut.step}, {way}: {error!r}"
            continue
        wanted = {*events[: cut.acknowledged], "after"}
        if not wanted <= found.keys() or set(found.values()) != {1}:
            yield f"{cut.step}, {way}: lost {sorted(wanted - found.keys())}, repeated {found - Counter({*found})}"
        shutil.rmtree(root)


def test_a_power_cut_at_any_step_loses_no_acknowledged_record_and_repeats_none(tmp_path, monkeypatch):
    assert list(losses(tmp_path, monkeypatch)) == []


@pytest.mark.parametrize(("synced", "for_sure"), [("", False), ("bytes", False), ("name", False), ("bytes and name", True)])
def test_a_file_survives_for_sure_once_its_bytes_and_its_name_are_synced(tmp_path, synced, for_sure):
    """The recorder itself: what it is blind to would go unseen above."""
    with PowerCuts(tmp_path) as cuts:
        (tmp_path / "a").write_bytes(b"whole")
        if "bytes" in synced:
            durable_files.sync_file(tmp_path / "a")
        if "name" in synced:
            durable_files.sync_directory(tmp_path)
        (tmp_path / "next").mkdir()
    found = [left.get("a") for cut, _, left in leaves(cuts) if cut is cuts.cuts[-1]]
    assert all(data == b"whole" for data in found) == for_sure

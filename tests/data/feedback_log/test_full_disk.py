"""On a full disk what was acknowledged stays, what is not kept is refused, and all goes on when there is room."""
import errno
import io
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfrec.data import durable_files
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.records import Outcome
from tfrec.errors import DataError

SIZES = st.integers(0, 20_000)


class Disk:
    """Files that `durable_files.open_new` makes grow by `free` bytes in all; a write beyond that is cut short, then refused."""

    def __init__(self):
        self.free, self.refused = 1 << 40, 0

    def open_new(self, path):
        disk = self

        class File(io.FileIO):
            def write(self, data):
                data = memoryview(data).cast("B")
                held = os.fstat(self.fileno()).st_size - self.tell()  # bytes that are written over
                if len(data) > held + disk.free:
                    data = data[: max(0, held + disk.free)]
                    if not data:
                        disk.refused += 1
                        raise OSError(errno.ENOSPC, "No space left on device", str(path))
                disk.free -= max(0, len(data) - max(0, held))
                return super().write(data)

        os.close(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, durable_files.PRIVATE_FILE))
        return File(path, "r+")


def started(log, root):
    """A writer with little room, which commits only when it is told to."""
    return LogWriter(log, WriteAheadFile(root / "wal", "g", room_bytes=500, rewrite_bytes=1000), commit_seconds=600)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SIZES, min_size=1, max_size=4), st.integers(1, 500))
def test_a_disk_that_fills_up_anywhere_loses_no_acknowledged_record_and_keeps_no_refused_one(tmp_path_factory, rooms, size):
    """Each room is what is free for a while of records, moves and housekeeping; a process more at the end has all it needs."""
    root, disk, kept = tmp_path_factory.mktemp("run"), Disk(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable_files, "open_new", disk.open_new)
        log, told = FeedbackLog(root / "log"), []

        def attempt(work, *given):
            try:
                work(*given)
            except DataError as error:
                told.append(str(error))
                return False
            return True

        writer = started(log, root)
        for room in rooms:
            disk.free = room
            for _ in range(3):
                event = f"e{len(kept)}-{disk.refused}"
                record = Outcome(event_id=event, user="u" * size, item="i", action="click", time=5)
                if attempt(writer.outcome, record):
                    kept.append(event)
                attempt(writer.flush)
            attempt(log.maintain)
        attempt(writer.close)
        disk.free = 1 << 40
        with started(FeedbackLog(root / "log"), root) as writer:
            writer.outcome(Outcome(event_id="after", user="u", item="i", action="click", time=5))
        log.maintain()
    found = log.read("outcomes")["event_id"].to_pylist()
    assert all("No space left on device" in words and "disk" in words for words in told)
    assert sorted(found) == sorted([*kept, "after"])


def test_a_write_ahead_file_that_cannot_be_made_says_so_and_can_later(tmp_path, monkeypatch):
    disk = Disk()
    monkeypatch.setattr(durable_files, "open_new", disk.open_new)
    disk.free = 1000
    with pytest.raises(DataError, match=r"g\.wal: no record can be kept .*No space left on device.*Free disk space"):
        WriteAheadFile(tmp_path, "g")
    assert [path.name for path in tmp_path.iterdir()] == ["g.lock"]
    disk.free = 1 << 40
    wal = WriteAheadFile(tmp_path, "g")
    assert wal.append("outcomes", ["a"]) == 1
    wal.close()

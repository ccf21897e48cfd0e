"""A write-ahead file: what was acknowledged is on disk, whatever happens to the process a moment later.

A commit to the log's tables takes tens of milliseconds, a sync of a file one or less. So a writer appends lines here, answers,
and moves the lines to the tables in groups. Calls that wait at the same time share one sync. Lines are numbered by `seq`, which
grows by one for ever, over restarts too.

Recovery keeps every line that matches its checksum. Any other line was cut short by a kill before its call returned, so nobody
was told that it was kept, or the disk has damaged it. Such a line is set aside with a reason in `<writer>.quarantine.jsonl`, as
is a record that cannot be moved to the tables.
"""
import fcntl
import json
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import IO

from tfrec.data import durable_files
from tfrec.data.feedback_log.wal_lines import Entry, decode, encode, legible
from tfrec.errors import DataError, UsageError

logger = logging.getLogger(__name__)

# A line that overwrites zeros costs the sync one write. A line that makes the file longer costs a commit of the file system's
# journal too: .4 ms against 3.9 at the median on a busy ext4, 8 against 72 at the 99th percentile.
ROOM_BYTES = 8 << 20
REWRITE_BYTES = 6 << 20
BLANK = "check"  # the kind of a line that nobody reads
_BASE, _NEW = "base", "new"  # kinds of a file's first line, which holds the seq before the next; new: nobody has said which it is


class WriteAheadFile:
    """Lines of one writer, in `<directory>/<writer>.wal`. Safe to use from many threads; one process per writer."""

    def __init__(self, directory: str | Path, writer: str, *, room_bytes: int = ROOM_BYTES,
                 rewrite_bytes: int = REWRITE_BYTES) -> None:
        """Open or create the file, and continue where the last process stopped.

        Args:
            directory: of the file.
            writer: the name of the writer, which becomes part of file names.
            room_bytes: zeros that a fresh file holds in advance.
            rewrite_bytes: forgotten lines stay in the file until it holds this many bytes.

        Raises:
            UsageError: the writer's name does not fit a file name, or another process writes under it.
            DataError: the disk refuses; what is in the file stays there.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", writer):
            raise UsageError(f"writer must be 1-64 letters, digits, dots, dashes or underscores, got {writer!r}.")
        self.writer = writer
        self.path = Path(directory) / f"{writer}.wal"
        self.quarantine = Path(directory) / f"{writer}.quarantine.jsonl"
        self.quarantined = 0  # lines set aside since the start
        self._room_bytes, self._rewrite_bytes = room_bytes, rewrite_bytes
        try:
            durable_files.make_directory(self.path.parent)
            self._lock_file = self._claim()
        except OSError as error:
            raise self._refused(error) from error
        self._write_lock = threading.Lock()  # guards the fields below; taken inside `_sync_lock`, never around it
        self._sync_lock = threading.Lock()
        self._pending: deque[Entry] = deque()
        self._pending_bytes = 0
        self._base = 0  # the seq before the first line of the file
        self._is_numbered = False
        try:
            self._recover()
            self._last = self._synced = self._pending[-1].seq if self._pending else self._base
            self._broken: OSError | None = None
            self._file = self._put_in_place(self._blank())
        except OSError as error:
            self._lock_file.close()
            raise self._refused(error) from error

    @property
    def last_seq(self) -> int:
        """The newest seq that is on disk."""
        return self._synced

    @property
    def is_numbered(self) -> bool:
        """False for a file that was just made: `skip_to` must say which numbers are taken."""
        return self._is_numbered

    @property
    def pending_bytes(self) -> int:
        """The size of all entries that were not forgotten."""
        return self._pending_bytes

    def append(self, kind: str, payloads: Sequence[str]) -> int:
        """Write lines and return the seq of the last one, once all of them are on disk.

        Raises:
            DataError: the disk refused; nothing of this call is promised.
            UsageError: a payload holds a line break, or the file is closed.
        """
        if any("\n" in payload for payload in payloads):
            raise UsageError("WriteAheadFile.append: a payload must be one line (JSON without line breaks).")
        with self._write_lock:
            self._check_usable()
            entries = [Entry(self._last + 1 + k, kind, payload) for k, payload in enumerate(payloads)]
            size = self._file.tell()
            try:
                durable_files.write_all(self._file, encode(entries))
            except OSError as error:
                self._cut_back(size)
                raise DataError(f"{self.path}: cannot be written ({error}). Free disk space and send the rows again.") from error
            self._pending.extend(entries)
            self._pending_bytes += sum(len(payload) for payload in payloads)
            self._last += len(entries)
            self._is_numbered = True
            mine = self._last
        self._sync(mine)
        return mine

    def pending(self, after_seq: int, *, most: int | None = None, most_bytes: int | None = None) -> list[Entry]:
        """Entries on disk with a higher seq, oldest first. If there are any, at least one is returned, whatever its size."""
        with self._write_lock:
            found = list(islice((entry for entry in self._pending if after_seq < entry.seq <= self._synced), most))
        if most_bytes is None:
            return found
        before = accumulate((len(entry.payload) for entry in found), initial=0)
        return [entry for entry, size in zip(found, before, strict=False) if size < most_bytes]

    def truncate(self, upto_seq: int, *, at_once: bool = False) -> None:
        """Forget entries up to this seq, which are safe elsewhere.

        The file is rewritten when it is large, or `at_once`. On a full disk it keeps the entries until there is room.
        """
        with self._write_lock:
            while self._pending and self._pending[0].seq <= upto_seq:
                self._pending_bytes -= len(self._pending.popleft().payload)
        if self._file.tell() <= self._rewrite_bytes and not at_once:
            return
        try:
            blank = self._blank()  # slow, so before the locks are taken
            with self._sync_lock, self._write_lock:
                self._rewrite(blank)
        except OSError as error:
            logger.warning("%s cannot be made shorter: %s", self.path, error)

    def forget(self, leaves: Callable[[Entry], bool]) -> int:
        """Blank the entries for which `leaves` holds, and those that were forgotten before; returns the number of the former.

        Their numbers stay taken. Nothing of them is in the file when this returns.

        Raises:
            DataError: the disk refused.
        """
        try:
            blank = self._blank()
            with self._sync_lock, self._write_lock:
                blanked = [Entry(one.seq, BLANK, "") if leaves(one) else one for one in self._pending]
                count = sum(old is not new for old, new in zip(self._pending, blanked, strict=True))
                self._pending = deque(blanked)
                self._pending_bytes = sum(len(one.payload) for one in blanked)
                self._rewrite(blank)
        except OSError as error:
            raise self._refused(error) from error
        return count

    def set_aside(self, entries: Sequence[Entry], *, reason: str) -> None:
        """Put entries that cannot be moved elsewhere into the quarantine, where they are on disk when this returns.

        Raises:
            DataError: the disk refused.
        """
        try:
            self._set_aside([{"seq": e.seq, "kind": e.kind, "reason": reason, "payload": e.payload} for e in entries])
        except OSError as error:
            raise DataError(f"{self.quarantine}: cannot be written ({error}). Free disk space.") from error

    def skip_to(self, seq: int) -> None:
        """Continue numbering after `seq` at least: entries up to it exist elsewhere, although this file was lost.

        Raises:
            DataError: the disk refused.
        """
        with self._sync_lock, self._write_lock:
            if seq > self._last or not self._is_numbered:
                self._is_numbered = True
                self._last = self._synced = max(seq, self._last)
                try:
                    self._rewrite(self._blank())
                except OSError as error:
                    raise self._refused(error) from error

    def close(self) -> None:
        """Release the file, without the forgotten entries unless the disk is full."""
        with self._sync_lock, self._write_lock:
            if not self._file.closed:
                try:
                    self._rewrite(self._blank(room_bytes=0))
                except OSError as error:
                    logger.warning("%s cannot be made shorter: %s", self.path, error)
                finally:
                    self._file.close()
                    self._lock_file.close()

    def _sync(self, seq: int) -> None:
        with self._sync_lock:
            if self._synced >= seq:  # the call that held the lock before wrote this one too
                return
            self._check_usable()
            with self._write_lock:
                target = self._last
            try:
                os.fdatasync(self._file.fileno())  # the lines and the file's new length; fsync writes its times as well
            except OSError as error:
                self._broken = error  # the kernel may have dropped the pages: no later sync can be believed
                self._check_usable()
            self._synced = target

    def _check_usable(self) -> None:
        if self._broken is not None:
            raise DataError(f"{self.path}: sync failed ({self._broken}). Check the disk and start the writer again.")
        if self._file.closed:
            raise UsageError(f"{self.path}: this write-ahead file is closed.")

    def _refused(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: no record can be kept ({error}). Free disk space, check the rights, and start again; "
                         "what was acknowledged is safe.")

    def _cut_back(self, size: int) -> None:
        """Remove what a failed write left at the end of the file."""
        try:
            self._file.truncate(size)
            self._file.seek(size)
        except OSError as error:
            self._broken = error

    def _claim(self) -> IO[bytes]:
        """Lock the writer's name for this process."""
        file = os.fdopen(os.open(self.path.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT, durable_files.PRIVATE_FILE), "ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UsageError(
                f"writer {self.writer!r} is in use by another process ({self.path}). Give each process its own writer name."
            ) from None
        return file

    def _recover(self) -> None:
        """Read what the last process left."""
        if not self.path.exists():
            return
        entries, damaged = decode(self.path.read_bytes())
        for entry in entries:
            self._is_numbered = self._is_numbered or entry.kind != _NEW
            if entry.kind in (_BASE, _NEW):
                self._base = entry.seq
            else:
                self._pending.append(entry)
                self._pending_bytes += len(entry.payload)
        if damaged:
            reason = "the line does not fit its checksum: cut short by a kill before it was acknowledged, or damaged by the disk"
            self._set_aside([{"seq": None, "kind": None, "reason": reason, **legible(line)} for line in damaged])

    def _set_aside(self, rows: Sequence[dict[str, object]]) -> None:
        durable_files.append(self.quarantine, "".join(json.dumps(row) + "\n" for row in rows).encode())
        self.quarantined += len(rows)
        logger.error("%s: %d lines set aside in %s: %s", self.path, len(rows), self.quarantine, rows[-1]["reason"])

    def _rewrite(self, blank: IO[bytes]) -> None:
        """Drop forgotten entries from the file."""
        old, self._file = self._file, self._put_in_place(blank)
        old.close()
        self._synced = self._last

    def _blank(self, *, room_bytes: int | None = None) -> IO[bytes]:
        """A file of zeros beside this one. Recovery reads no line from zeros."""
        file = durable_files.open_new(self._staging)
        try:
            durable_files.write_all(file, bytes(self._room_bytes if room_bytes is None else room_bytes))
            os.fsync(file.fileno())
            file.seek(0)
        except OSError:
            file.close()
            self._staging.unlink(missing_ok=True)  # on a full disk somebody needs these bytes
            raise
        return file

    def _put_in_place(self, blank: IO[bytes]) -> IO[bytes]:
        """Write the pending entries to the blank file, and put it in the place of the old file once it is on disk."""
        base = self._pending[0].seq - 1 if self._pending else self._last
        try:
            durable_files.write_all(blank, encode([Entry(base, _BASE if self._is_numbered else _NEW, ""), *self._pending]))
            os.fsync(blank.fileno())
            self._staging.replace(self.path)
        except OSError:
            blank.close()
            raise
        durable_files.sync_directory(self.path.parent)  # a rename is on disk when its directory is
        return blank

    @property
    def _staging(self) -> Path:
        return self.path.with_suffix(".new")

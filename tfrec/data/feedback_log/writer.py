"""Writes records to the feedback log, and acknowledges each once it is on disk.

A record is acknowledged when it is in the write-ahead file. A thread moves records to the Delta tables within about a second, or
half a minute under steady traffic, because each move leaves two small files.
"""
import logging
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType

from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.schema import KINDS, Kind, UnwritableRows
from tfrec.data.feedback_log.wal_lines import Entry, user_of
from tfrec.data.feedback_log.write_ahead_log import BLANK, WriteAheadFile
from tfrec.data.records import Impression, Outcome
from tfrec.errors import DataError

COMMIT_SECONDS = 1.0
_BURST = 120  # moves that may follow each other at this pace;
_PAUSE_SECONDS = 30.0  # after them there is one in this time: 2,880 a day
_COMMIT_ENTRIES = 10_000  # in one move, at most, which bounds memory after an outage. So many entries, or
_COMMIT_BYTES = 16 << 20  # so many bytes, are moved without waiting
ErasedAmong = Callable[[Iterable[str]], set[str]]
logger = logging.getLogger(__name__)


class LogWriter:
    """A writer of the feedback log, with a thread of its own that commits."""

    def __init__(self, log: FeedbackLog, wal: WriteAheadFile, *, commit_seconds: float = COMMIT_SECONDS,
                 erased_among: ErasedAmong = lambda _: set()) -> None:
        """Commit what an earlier process left, then start.

        When the log cannot be read or written, records are kept in the write-ahead file until it can.

        Args:
            log: the tables.
            wal: the write-ahead file, which the writer closes.
            commit_seconds: the time between two moves from the write-ahead file to the tables.
            erased_among: of some pseudonyms those that were erased, whose records go no further.

        Raises:
            DataError: the log cannot be read and the write-ahead file is new, so nobody knows which numbers are taken.
        """
        self._log = log
        self._wal = wal
        self._commit_seconds = commit_seconds
        self._erased_among = erased_among
        self._committed = 0
        self._commit_lock = threading.Lock()
        self._closing = threading.Event()
        try:
            wal.skip_to(log.last_seq(wal.writer))  # the file may be new where the log is not: numbers are never used twice
            self.flush()
        except DataError as error:
            if not wal.is_numbered:
                wal.close()
                raise
            _warn(error)
        self._thread = threading.Thread(target=self._run, name=f"log writer {wal.writer}", daemon=True)
        self._thread.start()

    def impression(self, *records: Impression) -> int:
        """Keep one or many impressions; returns the last sequence number when all of them are on disk."""
        return self._wal.append("impressions", [record.model_dump_json() for record in records])

    def outcome(self, *records: Outcome) -> int:
        """Keep one or many outcomes; returns the last sequence number when all of them are on disk."""
        return self._wal.append("outcomes", [record.model_dump_json() for record in records])

    def flush(self) -> None:
        """Commit everything acknowledged so far; returns when it is in the tables. What no table can hold is set aside."""
        self._flush()

    def behind(self) -> int:
        """The number of records that are in the write-ahead file and not yet in the tables."""
        return self._wal.last_seq - self._committed

    def set_aside(self) -> int:
        """The number of records, since the start, that could not be recovered or committed and are in the quarantine."""
        return self._wal.quarantined

    def check(self) -> None:
        """Write a line that nobody reads, as a record would be written.

        Raises:
            DataError: it cannot be written, so no record would be kept.
        """
        self._wal.append(BLANK, [""])

    def forget(self) -> int:
        """Let go of the records of people who were erased, in memory and in the file; returns their number.

        Raises:
            DataError: the disk refused.
        """
        with self._commit_lock:
            return forget_erased(self._wal, self._erased_among)

    def close(self) -> None:
        """Stop, commit the rest and release the write-ahead file. What cannot be committed stays there for the next start."""
        if not self._closing.is_set():
            self._closing.set()
            self._thread.join()
            try:
                self.flush()
            finally:
                self._wal.close()

    def __enter__(self) -> "LogWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _flush(self) -> int:
        """As `flush`; returns the number of commits."""
        moves = 0
        with self._commit_lock:
            until = self._wal.last_seq  # what arrives meanwhile is for the next call, or this one might never end
            while self._committed < until:
                entries = self._wal.pending(self._committed, most=_COMMIT_ENTRIES, most_bytes=_COMMIT_BYTES)
                if not entries:
                    break
                before = self._wal.quarantined
                erased = _of_erased(entries, self._erased_among)
                for kind in KINDS:  # impressions first, so that no reader finds an outcome without its impression
                    mine = [entry for entry in entries if entry.kind == kind and entry.seq not in erased]
                    self._move(kind, mine)
                    moves += bool(mine)
                self._committed = entries[-1].seq
                self._wal.truncate(self._committed, at_once=self._wal.quarantined > before or bool(erased))
            self._committed = max(self._committed, until)
        return moves

    def _move(self, kind: Kind, entries: list[Entry]) -> None:
        """Commit entries of one kind. Entries that no table can hold are set aside, as they would hold up all that follow."""
        try:
            self._log.append(kind, [(entry.seq, entry.payload) for entry in entries], writer=self._wal.writer)
        except UnwritableRows as error:
            if len(entries) == 1:
                self._wal.set_aside(entries, reason=str(error))
            else:
                half = len(entries) // 2
                self._move(kind, entries[:half])
                self._move(kind, entries[half:])

    def _run(self) -> None:
        """Commit every `commit_seconds`, and after a burst of commits less often."""
        allowed, then = float(_BURST), time.monotonic()
        while not self._closing.wait(self._commit_seconds):
            then, passed = time.monotonic(), time.monotonic() - then
            allowed = min(_BURST, allowed + passed / _PAUSE_SECONDS)
            if allowed < 1 and self.behind() < _COMMIT_ENTRIES and self._wal.pending_bytes < _COMMIT_BYTES:
                continue
            try:
                allowed -= min(1, self._flush())
            except Exception as error:  # whatever it was: acknowledged records are safe in the file, and this thread must go on
                _warn(error)


def forget_erased(wal: WriteAheadFile, erased_among: ErasedAmong) -> int:
    """Blank the records of people who were erased in a write-ahead file; returns their number."""
    erased = _of_erased(wal.pending(0), erased_among)
    return wal.forget(lambda entry: entry.seq in erased)


def _of_erased(entries: Iterable[Entry], erased_among: ErasedAmong) -> set[int]:
    """The `seq` of the records of people who were erased."""
    users = {entry.seq: user_of(entry.payload) for entry in entries if entry.kind in KINDS}
    erased = erased_among(set(users.values()))
    return {seq for seq, user in users.items() if user in erased}


def _warn(error: Exception) -> None:
    logger.warning("the feedback log cannot be written, trying again; records are kept in the write-ahead file: %s", error)

"""The feedback log: records in from many processes, windows of them out to the retrain.

A `LogWriter` acknowledges a record once it is on disk in its write-ahead file; a thread moves it to the Delta tables within
about a second, or half a minute under steady traffic, since each move leaves two small files. A `Window` is a range of sequence
numbers per table and writer: compaction and deletion rewrite rows into new table versions but never renumber them, so windows
tile the log, each row in exactly one.
"""
import logging
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from tfrec.data.feedback_log.schema import KINDS, SCHEMAS, Kind, UnwritableRows, to_line, to_rows
from tfrec.data.feedback_log.table import LogTable
from tfrec.data.feedback_log.write_ahead_log import Entry, WriteAheadFile
from tfrec.data.records import Impression, Outcome
from tfrec.errors import DataError, UsageError

_COMMIT_SECONDS = 1.0  # between two moves from the write-ahead file to the tables
_BURST = 120  # moves that may follow each other at this pace;
_PAUSE_SECONDS = 30.0  # after them there is one in this time: 2,880 a day
_COMMIT_ENTRIES = 10_000  # in one move, at most: bounds memory when an outage is caught up. So many, or
_COMMIT_BYTES = 16 << 20  # of lines, are moved without waiting
RETENTION_HOURS = 24.0  # that a reader may work on a version of the log; then its files may go
_NEWEST_ROWS = 1000  # of each table, that say which time it is
Seqs = dict[Kind, dict[str, int]]  # newest sequence number per table and writer
logger = logging.getLogger(__name__)


class Window(BaseModel):
    """What arrived between two retrains: per table and writer, rows with start < seq <= end.

    Labels mature with time, not with arrival, so a window also spans the time from the last one's `now` to its own.
    """

    model_config = ConfigDict(frozen=True)

    start: Seqs
    end: Seqs
    matured_from: int  # `now` of the window before, 0 for the first
    now: int  # seconds; labels whose attribution window closed before this are final
    impressions_version: int  # of the Delta tables, to read the same rows again
    outcomes_version: int

    @property
    def is_empty(self) -> bool:
        """True when no row has arrived. Labels may have matured all the same; they are in the next window too."""
        return self.start == self.end


class FeedbackLog:
    """The tables `impressions` and `outcomes` under a directory or an object store's URL."""

    def __init__(self, root: str | Path) -> None:
        """Name the tables. Those that do not exist are made at their first use."""
        self.root = str(root).rstrip("/")
        self.tables = {kind: LogTable(f"{self.root}/{kind}", SCHEMAS[kind]) for kind in KINDS}

    def append(self, kind: Kind, records: Sequence[tuple[int, dict[str, object]]], *, writer: str) -> None:
        """Commit a writer's records, (seq, fields) with seq ascending. Those that are in the table already are left out.

        Raises:
            UnwritableRows: no table can hold at least one of them; none was committed.
            DataError: the table cannot be read or written.
        """
        self.append_lines(kind, [(seq, to_line(fields)) for seq, fields in records], writer=writer)

    def append_lines(self, kind: Kind, lines: Sequence[tuple[int, str]], *, writer: str) -> None:
        """The same for records as lines of JSON (`log_rows.to_line`)."""
        if lines:
            self.tables[kind].append(to_rows(kind, lines, writer=writer), writer=writer)

    def last_seq(self, writer: str) -> int:
        """The newest sequence number of a writer that is in the tables."""
        return max(table.last_seq(writer) for table in self.tables.values())

    def window(self, after: Window | None, *, now: int) -> Window:
        """Everything that arrived, and every label that matured, since the window `after`; all of it when None.

        A `now` before that of the window `after` means that one of two clocks was wrong, and the newest rows say which. Where the
        last window ran ahead this one goes on from the true time: labels that it closed too early close again when they mature.

        Raises:
            UsageError: `now` is before that of the window `after`, and before most of the newest rows of the log.
        """
        if after and now < after.now:
            logged = self._time_of_the_newest()
            if logged is not None and now < logged:
                raise UsageError(f"window: now is {now}, before most of the newest rows of the log, of {logged}: the clock is "
                                 "behind (seconds since 1970). Set it, and run this again.")
            logger.warning("the clock was ahead in the last run, at %d; it is %d now, and this run goes on from there",
                           after.now, now)
        # outcomes first: an outcome that is seen here was committed after its impression, which is then seen too
        version = {kind: self.tables[kind].open().version() for kind in reversed(KINDS)}
        start: Seqs = after.end if after else {kind: {} for kind in KINDS}
        end: Seqs = {}
        for kind in KINDS:
            newest = self.tables[kind].newest(version[kind])
            # deletion may have taken a writer's newest rows: an end never falls behind its start
            end[kind] = {w: max(newest.get(w, 0), start[kind].get(w, 0)) for w in sorted({*newest, *start[kind]})}
        return Window(
            start=start,
            end=end,
            matured_from=min(after.now, now) if after else 0,
            now=now,
            impressions_version=version["impressions"],
            outcomes_version=version["outcomes"],
        )

    def read(self, kind: Kind, version: int | None = None) -> pa.Table:
        """All rows of a table, at a version or as it is now."""
        table = self.tables[kind]
        dataset = table.dataset(version)
        return table.checked(dataset.to_table, dataset)

    def _time_of_the_newest(self) -> int | None:
        """The median time of the rows that came last; None in an empty log."""
        times = []
        for table in self.tables.values():
            rows = table.dataset().to_table(columns=["seq", "time"])
            times += rows.take(pc.select_k_unstable(rows, k=_NEWEST_ROWS, sort_keys=[("seq", "descending")]))["time"].to_pylist()
        known = [time for time in times if time is not None]
        return int(statistics.median_low(known)) if known else None

    def compact(self) -> None:
        """Rewrite many small files as few large ones."""
        for table in self.tables.values():
            table.compact()

    def vacuum(self, *, retention_hours: float = RETENTION_HOURS) -> None:
        """Remove files that no version of the last `retention_hours` uses. A reader or a writer may still need younger ones."""
        for table in self.tables.values():
            table.vacuum(retention_hours=retention_hours)

    def maintain(self) -> None:
        """What keeps the log small and quick to open, for a job that runs now and then. Writers and readers may be at work."""
        self.compact()
        self.vacuum()


class LogWriter:
    """Records in, acknowledged once they are on disk; a thread of its own commits them to the log."""

    def __init__(self, log: FeedbackLog, wal: WriteAheadFile) -> None:
        """Commit what an earlier process left behind, then start.

        When the log cannot be read or written, records are kept in the write-ahead file until it can.

        Raises:
            DataError: that, and the write-ahead file is new: nobody knows which numbers the log has of this writer.
        """
        self._log = log
        self._wal = wal
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
            _cannot(error)
        self._thread = threading.Thread(target=self._run, name=f"log writer {wal.writer}", daemon=True)
        self._thread.start()

    def impression(self, *records: Impression) -> int:
        """Keep one or many; returns the last sequence number when all of them are on disk."""
        return self._wal.append("impressions", [record.model_dump_json() for record in records])

    def outcome(self, *records: Outcome) -> int:
        """Keep one or many; returns the last sequence number when all of them are on disk."""
        return self._wal.append("outcomes", [record.model_dump_json() for record in records])

    def flush(self) -> None:
        """Commit everything acknowledged so far to the log; returns when it is there. What no table can hold is set aside."""
        self._flush()

    def behind(self) -> int:
        """Records that are safe in the write-ahead file and not yet in the log."""
        return self._wal.last_seq - self._committed

    def set_aside(self) -> int:
        """Records, since the start, that could not be read from the write-ahead file or written to the log: its quarantine."""
        return self._wal.quarantined

    def check(self) -> None:
        """Write a line that nobody reads, as a record would be written.

        Raises:
            DataError: it cannot be: no record would be kept.
        """
        self._wal.append("check", [""])

    def close(self) -> None:
        """Stop, commit the rest, release the write-ahead file. What cannot be committed stays there for the next start."""
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
        """As `flush`; returns how often it committed."""
        moves = 0
        with self._commit_lock:
            until = self._wal.last_seq  # what arrives meanwhile is for the next call, or this one might never end
            while self._committed < until:
                entries = self._wal.pending(self._committed, most=_COMMIT_ENTRIES, most_bytes=_COMMIT_BYTES)
                if not entries:
                    break
                before = self._wal.quarantined
                for kind in KINDS:  # impressions first, so that no reader finds an outcome without its impression
                    mine = [entry for entry in entries if entry.kind == kind]
                    self._move(kind, mine)
                    moves += bool(mine)
                self._committed = entries[-1].seq
                self._wal.truncate(self._committed, at_once=self._wal.quarantined > before)
            self._committed = max(self._committed, until)
        return moves

    def _move(self, kind: Kind, entries: list[Entry]) -> None:
        """Commit entries of one kind; each that no table can hold is set aside, as it would hold up all that follow."""
        try:
            self._log.append_lines(kind, [(entry.seq, entry.payload) for entry in entries], writer=self._wal.writer)
        except UnwritableRows as error:
            if len(entries) == 1:
                self._wal.set_aside(entries, reason=str(error))
            else:
                half = len(entries) // 2
                self._move(kind, entries[:half])
                self._move(kind, entries[half:])

    def _run(self) -> None:
        moves, then = float(_BURST), time.monotonic()
        while not self._closing.wait(_COMMIT_SECONDS):
            then, passed = time.monotonic(), time.monotonic() - then
            moves = min(_BURST, moves + passed / _PAUSE_SECONDS)
            if moves < 1 and self.behind() < _COMMIT_ENTRIES and self._wal.pending_bytes < _COMMIT_BYTES:
                continue
            try:
                moves -= min(1, self._flush())
            except Exception as error:  # whatever it was: acknowledged records are safe in the file, and this thread must go on
                _cannot(error)


def _cannot(error: Exception) -> None:
    logger.warning("the feedback log cannot be written, trying again; records are kept in the write-ahead file: %s", error)

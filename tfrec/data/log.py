"""The feedback log: records in from many processes, windows of them out to the retrain.

A `LogWriter` acknowledges a record once it is on disk in its write-ahead file; a thread moves it to the Delta tables within
about a second. A `Window` is a range of sequence numbers per table and writer: compaction and deletion rewrite rows into new
table versions but never renumber them, so windows tile the log, each row in exactly one.
"""
import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from tfrec.data.log_rows import KINDS, SCHEMAS, Kind, to_line, to_rows
from tfrec.data.log_table import LogTable
from tfrec.data.records import Impression, Outcome
from tfrec.data.wal import Entry, WriteAheadFile
from tfrec.errors import UsageError

_COMMIT_SECONDS = 1.0  # between two moves from the write-ahead file to the tables
_COMMIT_ENTRIES = 10_000  # in one move, at most: bounds memory when an outage is caught up
_OLD = '"context":{'  # a write-ahead file that tfrec 0.1 left behind has the context as an object
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
        """Open the tables, creating those that do not exist."""
        self.root = str(root).rstrip("/")
        self.tables = {kind: LogTable(f"{self.root}/{kind}", SCHEMAS[kind]) for kind in KINDS}

    def append(self, kind: Kind, records: Sequence[tuple[int, dict[str, object]]], *, writer: str) -> None:
        """Commit a writer's records, (seq, fields) with seq ascending. Those that are in the table already are left out."""
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

        Raises:
            UsageError: `now` is before that of the window `after`, whose labels would mature a second time.
        """
        if after and now < after.now:
            raise UsageError(f"window: now must not be before the last window's {after.now}, got {now}. Check the clock.")
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
            matured_from=after.now if after else 0,
            now=now,
            impressions_version=version["impressions"],
            outcomes_version=version["outcomes"],
        )

    def read(self, kind: Kind, version: int | None = None) -> pa.Table:
        """All rows of a table, at a version or as it is now."""
        table = self.tables[kind]
        dataset = table.dataset(version)
        return table.checked(dataset.to_table, dataset)

    def compact(self) -> None:
        """Rewrite many small files as few large ones."""
        for table in self.tables.values():
            table.compact()

    def vacuum(self, *, retention_hours: int = 168) -> None:
        """Remove files that no version of the last `retention_hours` uses. A reader or a writer may still need younger ones."""
        for table in self.tables.values():
            table.vacuum(retention_hours=retention_hours)


class LogWriter:
    """Records in, acknowledged once they are on disk; a thread of its own commits them to the log."""

    def __init__(self, log: FeedbackLog, wal: WriteAheadFile) -> None:
        """Commit what an earlier process left behind, then start.

        Raises:
            DataError: what was left behind cannot be committed; it stays in the write-ahead file.
        """
        self._log = log
        self._wal = wal
        self._committed = 0
        self._commit_lock = threading.Lock()
        self._closing = threading.Event()
        wal.skip_to(log.last_seq(wal.writer))  # the file may be new where the log is not: numbers are never used twice
        self.flush()
        self._thread = threading.Thread(target=self._run, name=f"log writer {wal.writer}", daemon=True)
        self._thread.start()

    def impression(self, *records: Impression) -> int:
        """Keep one or many; returns the last sequence number when all of them are on disk."""
        lines = (record.model_dump_json(exclude={"context"}) for record in records)
        contexts = (json.dumps(record.context.model_dump_json()) for record in records)
        return self._wal.append("impressions", [f'{line[:-1]},"context":{c}}}' for line, c in zip(lines, contexts, strict=True)])

    def outcome(self, *records: Outcome) -> int:
        """Keep one or many; returns the last sequence number when all of them are on disk."""
        return self._wal.append("outcomes", [record.model_dump_json() for record in records])

    def flush(self) -> None:
        """Commit everything acknowledged so far to the log; returns when it is there."""
        with self._commit_lock:
            until = self._wal.last_seq  # what arrives meanwhile is for the next call, or this one might never end
            while self._committed < until and (entries := self._wal.pending(self._committed, most=_COMMIT_ENTRIES)):
                for kind in KINDS:  # impressions first, so that no reader finds an outcome without its impression
                    self._log.append_lines(kind, _lines(entries, kind), writer=self._wal.writer)
                self._committed = entries[-1].seq
                self._wal.truncate(self._committed)
            self._committed = max(self._committed, until)

    def behind(self) -> int:
        """Records that are safe in the write-ahead file and not yet in the log."""
        return self._wal.last_seq - self._committed

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

    def _run(self) -> None:
        while not self._closing.wait(_COMMIT_SECONDS):
            try:
                self.flush()
            except Exception as error:  # whatever it was: acknowledged records are safe in the file, and this thread must go on
                logger.warning("the feedback log cannot be written, trying again: %s", error)


def _lines(entries: Sequence[Entry], kind: Kind) -> list[tuple[int, str]]:
    return [(e.seq, to_line(json.loads(e.payload)) if _OLD in e.payload else e.payload) for e in entries if e.kind == kind]

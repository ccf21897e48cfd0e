"""Which part of which file has which positions: the positions of all files of a source form one growing sequence.

A file is a segment, or several when it grew after others were read: "positions from `base` on are its bytes (or rows) from
`start` on". A segment is on disk before any of its records is committed, so a record gets the same number after a kill. It is
forgotten once the log has all of it. A file is known by its first line (Parquet: by its content) and not by its name: one that
was renamed, moved or compressed is not read again. Where something does not agree, a file is read from its start as another one:
its records may then be in the log twice, where the join counts them once by their ids, and none is ever skipped.
"""
import os
import sqlite3
from pathlib import Path
from typing import NamedTuple

from tfrec.data import durable_files
from tfrec.errors import DataError, UsageError

_PRAGMAS = "PRAGMA locking_mode=EXCLUSIVE", "PRAGMA synchronous=FULL", "PRAGMA journal_mode=TRUNCATE"
_TABLES = """
CREATE TABLE IF NOT EXISTS files (id INTEGER PRIMARY KEY, key TEXT NOT NULL, path TEXT NOT NULL, consumed INTEGER NOT NULL,
  stop INTEGER NOT NULL DEFAULT 0, digest TEXT NOT NULL DEFAULT '', stamp TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS by_key ON files (key);
CREATE INDEX IF NOT EXISTS by_path ON files (path);
CREATE TABLE IF NOT EXISTS segments (base INTEGER PRIMARY KEY, start INTEGER NOT NULL, file INTEGER NOT NULL);
"""


class Stamp(NamedTuple):
    """What changes when a file does."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, file: Path | int) -> "Stamp":
        """Of a path or an open file."""
        found = os.stat(file)
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


class KnownFile(NamedTuple):
    """A file that was read, as far as `consumed` (bytes of its text, or rows)."""

    id: int
    key: str  # of its first line or its content
    path: str  # when it was last read
    consumed: int
    stop: int  # how far it was ever read, with the digest of everything before; above `consumed` after a kill
    digest: str


class Replay(NamedTuple):
    """A part of a file that must be read once more: from `start` to `stop`, with positions from `base` on."""

    file: KnownFile
    base: int
    start: int
    stop: int


class FileLedger:
    """The files of a source and their segments, in an SQLite file; one process at a time.

    Args:
        path: of the file.
        committed: the position that is in the log.
        newest: the newest position that is in any of its tables. After a kill between the two tables it is above `committed`:
            impressions are in the log under positions that were not committed. `replays` are the parts with those positions.

    Raises:
        UsageError: another process reads this source.
        DataError: the ledger cannot be read or written.
    """

    def __init__(self, path: Path, *, committed: int, newest: int) -> None:
        self._path = path
        try:
            durable_files.make_directory(path.parent)
            durable_files.append(path, b"")  # for its owner alone, as its journal then is
            self._sql = sqlite3.connect(path, timeout=0, isolation_level=None)
            try:
                for statement in (*_PRAGMAS, "BEGIN EXCLUSIVE", *_TABLES.split(";")):
                    self._sql.execute(statement)
                self.replays = self._roll_back(committed, newest)
            except sqlite3.Error:
                self._sql.close()
                raise
        except (OSError, sqlite3.Error) as error:
            if "locked" in str(error):
                raise UsageError(f"Another process reads this source ({path}). Wait for it, or give this one a name of its own: "
                                 "--set ingest.name=...") from None
            raise DataError(f"{path}: cannot be used ({error}). Restore it from a backup, or remove it: files are then read "
                            "from their start, and what was read before is counted once by its ids.") from error
        self.position = newest
        self.is_lost = newest > 0 and self._file("1 = 1") is None
        self._active = (0, 0)  # the file of the newest segment, and how far it was read

    def find(self, key: str) -> list[KnownFile]:
        """The files with this first line or content, those of which most was read first."""
        return [KnownFile(*row) for row in self._sql.execute(
            "SELECT id, key, path, consumed, stop, digest FROM files WHERE key = ? ORDER BY consumed DESC", (key,))]

    def is_done(self, path: Path, stamp: Stamp) -> bool:
        """Whether a file was read to its end, and nobody has touched it since."""
        return self._file("path = ? AND stamp = ? AND stop = consumed", str(path), str(stamp)) is not None

    def open(self, key: str, path: Path, *, file: int | None, start: int) -> int:
        """Go on with a file, a known one or (None) a new one, from its `start` on; returns its id."""
        if file is None:
            row = key, str(path), start
            file = self._sql.execute("INSERT INTO files (key, path, consumed) VALUES (?, ?, ?)", row).lastrowid
        assert file is not None
        if (file, start) != self._active:
            self._sql.execute("INSERT INTO segments VALUES (?, ?, ?)", (self.position, start, file))
            self._active = file, start
        return file

    def advance(self, start: int, stop: int, digest: str) -> int:
        """The file that was opened last is read from `start` to `stop`; returns what to add to its places to get positions."""
        shift = self.position - start
        self.position += stop - start
        file, _ = self._active
        self._active = file, stop
        self._sql.execute("UPDATE files SET consumed = ?, stop = ?, digest = ? WHERE id = ?", (stop, stop, digest, file))
        return shift

    def leave(self, file: int, *, path: Path, stamp: Stamp) -> None:
        """Note that a file was read to its end, so that it is not opened until it changes."""
        self._sql.execute("UPDATE files SET path = ?, stamp = ? WHERE id = ?", (str(path), str(stamp), file))

    def write(self) -> None:
        """Put on disk what was noted.

        Raises:
            DataError: the disk is full, or fails.
        """
        try:
            self._sql.execute("COMMIT")
            self._sql.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            raise DataError(f"{self._path}: cannot be written ({error}). Is the disk full?") from error

    def forget(self, committed: int) -> None:
        """Forget the segments that the log has whole."""
        self._sql.execute("DELETE FROM segments WHERE base < (SELECT max(base) FROM segments WHERE base <= ?)", (committed,))

    def close(self) -> None:
        """Let other processes read the source."""
        try:
            self.write()
        finally:
            self._sql.close()

    def _file(self, condition: str, *values: str | int) -> KnownFile | None:
        found = self._sql.execute(f"SELECT id, key, path, consumed, stop, digest FROM files WHERE {condition} LIMIT 1", values)
        row = found.fetchone()
        return None if row is None else KnownFile(*row)

    def _roll_back(self, committed: int, newest: int) -> list[Replay]:
        """Take back what was noted and never came to the log; returns what came there in part."""
        replays, end = list[Replay](), newest
        for base, start, id in self._sql.execute("SELECT base, start, file FROM segments ORDER BY base DESC").fetchall():
            stop = start + max(0, end - base)  # of what is in the log
            if end == newest:
                self._sql.execute("UPDATE files SET consumed = min(consumed, ?) WHERE id = ?", (stop, id))
            known = self._file("id = ?", id)
            if known is not None and max(base, committed) < end:
                done = max(0, committed - base)
                replays.insert(0, Replay(known, base + done, start + done, stop))
            end = min(end, base)
        self._sql.execute("DELETE FROM segments WHERE base >= ?", (newest,))
        self._sql.execute("DELETE FROM files WHERE consumed = 0")
        return replays

"""Reads files and directories of JSON lines or Parquet, each line or row once, and what is added to them.

A file that cannot be read does not hold up the others: it is told, and tried again when it has changed.
"""
import logging
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from tfrec.data.feedback_log.source_writer import SourceWriter
from tfrec.data.readers.files import folders_of, visible_files
from tfrec.errors import DataError, UsageError
from tfrec.ingest.decoding import Content, Decode, Fault
from tfrec.ingest.file_replay import replayed
from tfrec.ingest.json_lines import JsonLinesFile, messages_of_lines
from tfrec.ingest.ledger import FileLedger, Stamp
from tfrec.ingest.messages import Arrived, Message
from tfrec.ingest.parquet_rows import ParquetFile, messages_of_rows

_ENDINGS = {"jsonl": (".jsonl", ".jsonl.gz"), "parquet": (".parquet",)}
POLL_SECONDS = 0.5  # between two looks at files that may have grown
_PROBED = 1000  # lines or rows at the start of a file, one of which must be good
_MAX_OPEN = 32  # files that are kept open as they may grow
logger = logging.getLogger(__name__)


class FileSource:
    """Lines or rows of files.

    Args:
        paths: files, and directories whose files are read in the order of their names.
        kind: of the files.
        name: of the source, which is the writer's name.
        ledger: the file that keeps what was read, see `FileLedger`.
        writer: of the log.
        decode: of a line or row, which tells a file of another format.
        follow: go on at the end, until `stopping` is set.
        stopping: ends the reading.

    Raises:
        UsageError: a path does not exist, or another process reads this source.
        DataError: the ledger cannot be read.
    """

    def __init__(self, paths: Sequence[Path], kind: Literal["jsonl", "parquet"], *, name: str, ledger: Path,
                 writer: SourceWriter, decode: Decode, follow: bool, stopping: threading.Event) -> None:
        for path in paths:
            if not path.exists():
                raise UsageError(f"{path}: no such file or directory. Check the path.")
        self._paths, self._kind, self._name, self._decode = paths, kind, name, decode
        self._follow, self._stopping = follow, stopping
        self._ledger = FileLedger(ledger, committed=writer.position(name), newest=writer.newest(name))
        if self._ledger.is_lost:
            logger.warning("%s: the list of files that were read is gone, so all are read from their start; the join counts "
                           "records that the log has already once, by their ids", ledger)
        self._faults: dict[Path, str] = {}
        self._seen: dict[Path, Stamp] = {}
        self._ignored: set[Path] = set()
        self._open: dict[Path, tuple[JsonLinesFile, int]] = {}  # files that may grow, and their ids; the newest last
        self._unread: dict[Path, int] = {}  # bytes of lines that are not whole
        self._total_bytes = 0 if follow else sum(path.stat().st_size for path, _ in self._listed())
        self._done_bytes = 0
        self._reading: JsonLinesFile | ParquetFile | None = None

    def arrivals(self) -> Iterator[Arrived]:
        """Yield lines or rows. Ends when all files were read, unless it follows."""
        for part in replayed(self._ledger.replays, self._kind, self._listed):
            yield {self._name: part}
        while not self._stopping.is_set():
            for path, folders in self._changed():
                try:
                    for part in self._read(path, folders):
                        yield {self._name: part}
                        if self._stopping.is_set():
                            return
                    self._faults.pop(path, None)
                except DataError as error:
                    if path.exists():  # else it was renamed meanwhile, and is found again by its new name
                        logger.error("%s", error)
                        self._faults[path] = str(error)
                finally:
                    self._reading = None
            if not self._follow:
                self._tell_unread()
                return
            yield {}
            self._stopping.wait(POLL_SECONDS)

    def committing(self) -> None:
        """Write down which positions the records about to be committed have."""
        self._ledger.write()

    def committed(self, upto: Mapping[str, int]) -> None:
        """Forget what a kill can no longer take back."""
        self._ledger.forget(upto[self._name])

    def label(self, writer: str) -> str:
        """The name of the source."""
        return writer

    def lag(self) -> dict[str, int]:
        """Bytes of last lines that are not whole."""
        return {self._name: sum(self._unread.values())}

    def size(self) -> tuple[int, int] | None:
        """Bytes of the files that were read, of those that were there at the start; None when it follows."""
        now = self._reading.bytes_read if self._reading else 0
        return None if self._follow else (self._done_bytes + now, self._total_bytes)

    def faults(self) -> list[str]:
        """What is wrong with files that could not be read."""
        return list(self._faults.values())

    def close(self) -> None:
        """Let go of the files and the ledger."""
        for file, _ in self._open.values():
            file.close()
        self._ledger.close()

    def _listed(self) -> Iterator[tuple[Path, Mapping[str, str | None]]]:
        """The files of all paths, and the columns that their folders name."""
        for path in self._paths:
            if not path.is_dir():
                if path.exists():
                    yield path, {}
                continue
            for file in visible_files(path):
                if file.name.lower().endswith(_ENDINGS[self._kind]):
                    yield file, folders_of(file.relative_to(path))
                elif file not in self._ignored:
                    self._ignored.add(file)
                    logger.warning("%s: not read, as its name does not end in %s", file, " or ".join(_ENDINGS[self._kind]))

    def _changed(self) -> Iterator[tuple[Path, Mapping[str, str | None]]]:
        """Those that are new or have changed since they were read."""
        for path, folders in self._listed():
            try:
                stamp = Stamp.of(path)
            except FileNotFoundError:  # removed at this moment
                continue
            if stamp.size and self._seen.get(path) != stamp:
                self._seen[path] = stamp
                if not self._ledger.is_done(path, stamp):
                    yield path, folders
            self._done_bytes += 0 if self._follow else stamp.size

    def _tell_unread(self) -> None:
        for path, size in self._unread.items():
            if size:
                logger.warning("%s: its last line has no end yet (%s bytes), and is read when it is whole", path, f"{size:,}")

    def _read(self, path: Path, folders: Mapping[str, str | None]) -> Iterator[list[Message]]:
        if self._kind == "parquet":
            with closing(ParquetFile(path, folders)) as file:
                yield from self._rows(file)
        else:
            yield from self._grown(path)
            yield from self._lines_of(path)

    def _grown(self, path: Path) -> Iterator[list[Message]]:
        """What was added to a file that is open; if its name means another one by now, it is let go after that."""
        if (renamed := next((one for one, (file, _) in self._open.items() if file.is_still(path)), path)) != path:
            file, known = self._open.pop(renamed)
            yield from self._grown(path)
            file.path, self._open[path] = path, (file, known)
        if path in self._open:
            file, known = self._open.pop(path)
            if file.is_written_anew():
                file.close()
                return
            is_same = file.is_still(path)
            with _closed_by_errors(file):
                yield from self._numbered(file, known, "")
            self._keep(path, file, known, is_same=is_same)

    def _lines_of(self, path: Path) -> Iterator[list[Message]]:
        """What is new in a file that is not open."""
        if path in self._open:
            return
        file, known = JsonLinesFile(path), None
        with _closed_by_errors(file):
            key = file.key()
            if key is not None:
                known = next((one.id for one in self._ledger.find(key) if file.skip(one)), None)
                known = yield from self._numbered(file, known, key)
            self._unread[path] = file.unread
        self._keep(path, file, known, is_same=self._follow)

    def _keep(self, path: Path, file: JsonLinesFile, known: int | None, *, is_same: bool) -> None:
        if not is_same or known is None or file.packed:
            file.close()
            return
        self._open[path] = file, known
        if len(self._open) > _MAX_OPEN:
            oldest = next(iter(self._open))
            self._open.pop(oldest)[0].close()

    def _numbered(self, file: JsonLinesFile, known: int | None, key: str) -> Generator[list[Message], None, int | None]:
        """The lines from where the file stands, each with its positions; returns the file's id."""
        stamp, self._reading = file.stamp(), file
        for part in file.lines():
            if known is None:
                self._probe(file.path, [(line.number, line.content) for line in part if line.content is not None])
            known = self._ledger.open(key, file.path, file=known, start=part[0].start)
            yield messages_of_lines(part, self._ledger.advance(part[0].start, part[-1].stop, file.digest()), file.path)
        if known is not None:
            self._unread[file.path] = file.unread
            self._ledger.leave(known, path=file.path, stamp=stamp)
        return known

    def _rows(self, file: ParquetFile) -> Iterator[list[Message]]:
        """The rows of a file that were not read, each with its position."""
        found = self._ledger.find(file.key)
        known, start = (found[0].id, found[0].consumed) if found else (None, 0)
        self._reading = file
        for rows in file.read(start):
            if known is None:
                self._probe(file.path, list(enumerate(rows, start=1)))
            known = self._ledger.open(file.key, file.path, file=known, start=start)
            stop = start + len(rows)
            yield messages_of_rows(rows, start, self._ledger.advance(start, stop, ""), file.path)
            start = stop
        if known is not None:
            self._ledger.leave(known, path=file.path, stamp=file.stamp())

    def _probe(self, path: Path, found: Sequence[tuple[int, Content]]) -> None:
        """Refuse a file that begins with bad lines alone: it is more likely of another format than all of them are bad."""
        first: tuple[int, str] | None = None
        for line, content in found[:_PROBED]:
            for record in self._decode(content):
                if not isinstance(record, Fault):
                    return
                first = first or (line, record.reason)
        if first is not None:
            rows = f"{min(len(found), _PROBED):,}"
            raise DataError(f"{path}: none of its first {rows} rows is a record; line {first[0]}: {first[1]}. Check --format and "
                            "--from, or mend the file; nothing of it has been used.")


@contextmanager
def _closed_by_errors(file: JsonLinesFile) -> Iterator[None]:
    try:
        yield
    except BaseException:
        file.close()
        raise

"""The record of a run: every flag and every decision, one line of JSON each, in `<run>/review/record.jsonl`.

Lines are only added, by one process at a time, and are on disk when `add` returns. A line that a kill left unfinished was never
told to anybody: readers stop before it, and whoever adds next takes its place.
"""
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tfrec.data import durable_files
from tfrec.errors import DataError

DIRECTORY = "review"
MAX_TEXT = 4_000  # characters of a text that a flag keeps: more than an encoder reads
MAX_NOTE = 1_000


class FlagReason(BaseModel):
    """Why a text is flagged."""

    model_config = ConfigDict(frozen=True)

    label: str
    by: Literal["list", "classifier", "earlier"]  # earlier: another text of the item was rejected
    term: str = ""  # of the list
    score: float | None = None  # of the classifier


class ReviewEntry(BaseModel):
    """A line of the record.

    Attributes:
        do: flag: it waits for a person; clear: it waits no more; return: a text came back that was decided before; or a decision.
        item: its id.
        digest: of the text that this is about.
        time: seconds since 1970.
        text: of a flag, its beginning.
        reasons: of a flag.
        label: of a rejection, what for.
        who: of a decision, the name of a person.
        key: of a decision through the gateway, the name of the key.
        note: of a decision, in the person's words.
        why: of a clear, `gone` (from the catalogue), `text` (it has changed) or `unflagged` (nothing flags it any more).
    """

    model_config = ConfigDict(frozen=True)

    do: Literal["flag", "clear", "return", "approve", "reject"]
    item: str
    digest: str
    time: int
    text: str = ""
    reasons: tuple[FlagReason, ...] = ()
    label: str = ""
    who: str = ""
    key: str = ""
    note: str = ""
    why: Literal["", "gone", "text", "unflagged"] = ""


class ReviewRecord:
    """Reads what is added, and adds. Safe to share between threads; `take` is told each entry once, in order.

    Args:
        run: the run directory. There need be no record.
        take: told the entries.
        forget: called before everything is told again, as another file has taken the place of the one that was read.
    """

    def __init__(self, run: Path, *, take: Callable[[ReviewEntry], None], forget: Callable[[], None]) -> None:
        self.path = run / DIRECTORY / "record.jsonl"
        self._take, self._forget = take, forget
        self._read_to, self._lines, self._inode = 0, 0, 0
        self._lock = threading.RLock()

    def read(self) -> bool:
        """Tell what was added since the last call; returns whether there was anything.

        Raises:
            DataError: a line is damaged, or the file is gone; nothing of what was added is told.
        """
        with self._lock:
            try:
                found = self.path.stat()
            except FileNotFoundError:
                found = None
            is_another = found is None or found.st_ino != self._inode or found.st_size < self._read_to
            if found is None and self._lines:
                raise DataError(f"{self.path}: the record is gone. Put it back from a copy, or restart to begin a new one.")
            was_told = is_another and self._lines > 0
            if was_told:
                self._forget()
            if is_another:
                self._read_to, self._lines = 0, 0
            if found is None:
                return False
            self._inode = found.st_ino
            return (found.st_size > self._read_to and self._read_lines()) or was_told

    @contextmanager
    def adding(self) -> Iterator[Callable[[Sequence[ReviewEntry]], None]]:
        """Tell what is there, and let nobody else add while the block runs; yields what adds entries, and tells them.

        Raises:
            DataError: a line is damaged.
        """
        durable_files.make_directory(self.path.parent)
        with self._lock, durable_files.appending(self.path) as file:
            self.read()

            def add(entries: Sequence[ReviewEntry]) -> None:
                if entries:
                    os.ftruncate(file.fileno(), self._read_to)  # an unfinished line
                    text = "".join(f"{entry.model_dump_json(exclude_defaults=True)}\n" for entry in entries)
                    durable_files.write_all(file, text.encode())
                    os.fsync(file.fileno())
                    durable_files.sync_directory(self.path.parent)
                    self.read()

            yield add

    def _read_lines(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            whole, newline, _ = file.read().rpartition(b"\n")
        entries = []
        for number, line in enumerate(whole.split(b"\n") if newline else (), start=self._lines + 1):
            try:
                entries.append(ReviewEntry.model_validate_json(line))
            except ValidationError as error:
                raise DataError(f"{self.path} line {number}: expected a flag or a decision, got {line[:100]!r}. Put the file "
                                "back from a copy, or remove the line: what it said is then lost.") from error
        for entry in entries:
            self._take(entry)
        self._read_to += len(whole) + len(newline)
        self._lines += len(entries)
        return bool(entries)

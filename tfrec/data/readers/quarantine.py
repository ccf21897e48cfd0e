"""Rows that cannot be used: set aside in a file, or an error where there is no such file."""
import copy
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from tfrec.data import durable_files
from tfrec.errors import DataError

_TAIL_BYTES = 64 << 20  # more than a source reads between two commits
log = logging.getLogger(__name__)


class Quarantine:
    """A file of rows that could not be used, one JSON object a line: `file`, `line`, `reason`, `row`.

    Args:
        path: the file.
        keep: go on after what an earlier run set aside, as its rows are not read again. What it read and did not get to commit is
            read again, and is not set aside twice. Else start empty.
    """

    def __init__(self, path: str | Path, *, keep: bool = False) -> None:
        self.path = Path(path)
        self.keeps_rows = True
        self._reasons: Counter[str] = Counter()
        self._before = _lines_before(self.path) if keep else set()
        if not keep:
            self.path.unlink(missing_ok=True)

    @property
    def count(self) -> int:
        """The number of rows set aside."""
        return self._reasons.total()

    def without_rows(self) -> "Quarantine":
        """The same quarantine for rows that name people: it keeps their file, line and reason, and not the row."""
        other = copy.copy(self)
        other.keeps_rows = False
        return other

    def add(self, file: str | Path, line: int | str, *, reason: str, row: Any) -> None:
        """Set a row aside.

        Raises:
            DataError: the file cannot be written.
        """
        self._reasons[reason] += 1
        entry = {"file": str(file), "line": line, "reason": reason} | ({"row": row} if self.keeps_rows else {})
        # half of a surrogate pair has no UTF-8, but an escape
        text = json.dumps(entry, ensure_ascii=False, default=str).encode(errors="backslashreplace")
        if text in self._before:
            return
        try:
            if not self.path.exists():
                durable_files.make_directory(self.path.parent)
                durable_files.append(self.path, b"")  # for its owner alone: rows name people
            with durable_files.appending(self.path) as out:  # reopened each time: nothing to close, nothing lost by a kill
                durable_files.write_all(out, text + b"\n")
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror}). Is the disk full?") from error

    def sync(self) -> None:
        """Put what was set aside on disk."""
        if self.path.exists():
            durable_files.sync_file(self.path)

    def most_common_reason(self) -> tuple[str, int]:
        """The reason of most rows, the first where all differ, and their number."""
        return self._reasons.most_common(1)[0]

    def summary(self) -> str:
        """One line for the user."""
        if not self.count:
            return "no rows set aside"
        rows = "bad row" if self.count == 1 else "bad rows"
        return f"{self.count} {rows} set aside in {self.path}, each with its file, line and reason"


def _lines_before(path: Path) -> set[bytes]:
    """The last rows of a quarantine; a line that a kill has cut short is ended."""
    if not path.exists():
        return set()
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        lines = file.read().split(b"\n")
    if lines[-1]:
        durable_files.append(path, b"\n")
    return set(lines)


def reject(quarantine: Quarantine | None, file: str | Path, line: int | str, *, reason: str, row: Any) -> None:
    """Set a bad row aside.

    Raises:
        DataError: there is no quarantine.
    """
    if quarantine is None:
        raise DataError(f"{file} line {line}: {reason}. Fix the row or pass --skip-bad-rows.")
    quarantine.add(file, line, reason=reason, row=row)


class GoodRows:
    """Counts the good rows of a path, so that a quarantine does not silently take all or most of its rows."""

    def __init__(self, path: str | Path, quarantine: Quarantine | None) -> None:
        """Start counting. `quarantine` may hold rows of other files already."""
        self._path, self._quarantine = path, quarantine
        self._before = 0 if quarantine is None else quarantine.count
        self.count = 0

    def check(self) -> None:
        """Warn when most rows were set aside.

        Raises:
            DataError: every row was set aside.
        """
        if self._quarantine is None or (bad := self._quarantine.count - self._before) <= self.count:
            return
        reason, times = self._quarantine.most_common_reason()
        why = f"{times:,} times: {reason}. They are in {self._quarantine.path}"
        if not self.count:
            raise DataError(f"{self._path}: no row is good, {bad:,} are bad; {why}. Mend the file, not single rows of it.")
        log.warning("%s: most rows are bad: %s of %s; %s", self._path, f"{bad:,}", f"{bad + self.count:,}", why)

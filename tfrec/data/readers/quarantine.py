"""Rows that cannot be used: set aside in a file, or an error where there is no such file."""
import copy
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

from tfrec.errors import DataError

log = logging.getLogger(__name__)


class Quarantine:
    """A file of rows that could not be used, one JSON object a line: `file`, `line`, `reason`, `row`."""

    def __init__(self, path: str | Path) -> None:
        """Start empty: what an earlier run set aside in the same file is removed."""
        self.path = Path(path)
        self.keeps_rows = True
        self._reasons: Counter[str] = Counter()
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
        """Set a row aside."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        entry = {"file": str(file), "line": line, "reason": reason} | ({"row": row} if self.keeps_rows else {})
        with self.path.open("a", encoding="utf-8") as out:  # reopened each time: nothing to close, nothing lost by a kill
            out.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")
        self._reasons[reason] += 1

    def most_common_reason(self) -> tuple[str, int]:
        """The reason of most rows, the first where all differ, and their number."""
        return self._reasons.most_common(1)[0]

    def summary(self) -> str:
        """One line for the user."""
        if not self.count:
            return "no rows set aside"
        rows = "bad row" if self.count == 1 else "bad rows"
        return f"{self.count} {rows} set aside in {self.path}, each with its file, line and reason"


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

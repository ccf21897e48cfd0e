"""Rows out of a user's file, whatever its format: JSON lines, CSV (both also gzipped) or Parquet in, dictionaries out.

Every row keeps its line, so that a row which does not fit is reported as file, line, field and value. Without a `Quarantine`
the first such row stops the read; with one, bad rows are set aside in a file of their own and the rest is used. A file that
cannot be read to its end is an error either way: nobody can say what the missing part held.
"""
import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from tfrec.errors import DataError

Row = dict[str, Any]
R = TypeVar("R", bound=BaseModel)

FORMATS = (".jsonl", ".csv", ".parquet")
_SHOWN = 80  # characters of a wrong value that a message repeats
csv.field_size_limit(1 << 26)  # the default, 131,072 characters, is less than one long article


class Quarantine:
    """Rows that could not be used, one JSON object a line: `file`, `line`, `reason`, `row`. `count` says how many."""

    def __init__(self, path: str | Path) -> None:
        """Start empty: what an earlier run set aside in the same file is removed."""
        self.path = Path(path)
        self.count = 0
        self.path.unlink(missing_ok=True)

    def add(self, file: str | Path, line: int | str, *, reason: str, row: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        entry = {"file": str(file), "line": line, "reason": reason, "row": row}
        with self.path.open("a", encoding="utf-8") as out:  # reopened each time: nothing to close, nothing lost by a kill
            out.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")
        self.count += 1

    def summary(self) -> str:
        """One line for the user."""
        if not self.count:
            return "no rows set aside"
        rows = "bad row" if self.count == 1 else "bad rows"
        return f"{self.count} {rows} set aside in {self.path}, each with its file, line and reason"


def reject(quarantine: Quarantine | None, file: str | Path, line: int | str, *, reason: str, row: Any) -> None:
    """Set a bad row aside, or raise `DataError` when there is no quarantine."""
    if quarantine is None:
        raise DataError(f"{file} line {line}: {reason}. Fix the row or pass --skip-bad-rows.")
    quarantine.add(file, line, reason=reason, row=row)


def read_rows(path: str | Path, *, quarantine: Quarantine | None) -> Iterator[tuple[int, Row]]:
    """Yield (line, row). Lines count from 1, a CSV's header included; a Parquet file's lines are its row numbers.

    Cells that are empty or null are left out of the row, so that a default applies or the field is reported as missing.

    Raises:
        DataError: the file is absent, truncated or not of a known format; or a row is bad and there is no quarantine.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file. Expected {', '.join(FORMATS)} (text also as .gz).")
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix not in FORMATS or path.name.endswith(".parquet.gz"):
        raise DataError(f"{path}: unknown format {path.suffix!r}. Expected {', '.join(FORMATS)} (text also as .gz).")
    read = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}[suffix]
    try:
        for line, row in read(path, quarantine):
            yield line, {k: v for k, v in row.items() if v is not None and v != ""}
    except (EOFError, zlib.error, OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8.") from error


def read_records(path: str | Path, record: type[R], *, quarantine: Quarantine | None) -> Iterator[R]:
    """Rows checked against a record type, e.g. `read_records("log.jsonl", Outcome, quarantine=None)`."""
    for line, row in read_rows(path, quarantine=quarantine):
        checked = check(record, row, file=Path(path), line=line, quarantine=quarantine)
        if checked is not None:
            yield checked


def check(record: type[R], row: Row, *, file: Path, line: int, quarantine: Quarantine | None) -> R | None:
    """One row as a record, or None when it was set aside."""
    try:
        return record.model_validate(row)
    except ValidationError as error:
        reject(quarantine, file, line, reason=explain(error), row=row)
        return None


def explain(error: ValidationError) -> str:
    """A pydantic error in one line: field, what was expected, what came."""
    parts = []
    for e in error.errors(include_url=False, include_context=False):
        field = ".".join(str(p) for p in e["loc"]) or "row"
        got = "" if e["type"] == "missing" else f", got {_brief(e['input'])}"
        parts.append(f'"{field}": {e["msg"][:1].lower()}{e["msg"][1:]}{got}')
    return "; ".join(parts)


def unreadable(path: str | Path, error: Exception | str) -> DataError:
    """The error for a file that stops in the middle or is not what its name says."""
    detail = " ".join(str(error).split())[:200]
    return DataError(f"{path}: truncated or damaged ({detail}). Copy or write the file again; nothing of it has been used.")


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _read_jsonl(path: Path, quarantine: Quarantine | None) -> Iterator[tuple[int, Row]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            if not raw.strip():
                continue
            try:
                row = json.loads(raw.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                reject(quarantine, path, number, reason=f"not JSON ({error})", row=raw.decode("utf-8", "replace").rstrip("\n"))
                continue
            if isinstance(row, dict):
                yield number, row
            else:
                reject(quarantine, path, number, reason=f"expected a JSON object, got {_brief(row)}", row=row)


def _read_csv(path: Path, quarantine: Quarantine | None) -> Iterator[tuple[int, Row]]:
    opener: Callable[..., TextIO] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as text:
        rows = csv.reader(text)
        header = next(rows, None)
        if not header:
            raise DataError(f"{path}: empty. Expected a header line with column names, then one line a row.")
        while True:
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                reject(quarantine, path, rows.line_num, reason=f"not CSV ({error})", row=None)
                continue
            if not cells:
                continue
            if len(cells) == len(header):
                yield rows.line_num, dict(zip(header, cells, strict=True))
            else:
                reason = f"expected {len(header)} columns ({','.join(header)[:_SHOWN]}), got {len(cells)}"
                reject(quarantine, path, rows.line_num, reason=reason, row=cells)


def _read_parquet(path: Path, _quarantine: Quarantine | None) -> Iterator[tuple[int, Row]]:
    line = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=16_384):
            for row in batch.to_pylist():
                line += 1
                yield line, row

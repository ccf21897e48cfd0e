"""Rows out of a user's file, whatever its format: JSON lines, CSV (both also gzipped) or Parquet in, dictionaries out.

Every row keeps its line, so that a row which does not fit is reported as file, line, field and value. Without a `Quarantine`
the first such row stops the read; with one, bad rows are set aside in a file of their own and the rest is used. A file that
cannot be read to its end is an error either way: nobody can say what the missing part held. So is one of which no row is good:
then it is not the rows that are wrong.
"""
import copy
import json
import logging
import math
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from tfrec.data.readers.columns import ColumnNames, check_header, hint
from tfrec.data.readers.csv_lines import csv_lines
from tfrec.data.readers.files import EMPTY, DataFile, data_files, not_utf8
from tfrec.data.readers.files import unreadable as unreadable
from tfrec.errors import DataError

log = logging.getLogger(__name__)

Row = dict[str, Any]
R = TypeVar("R", bound=BaseModel)

_SHOWN = 80  # characters of a wrong value that a message repeats
_TIMES = {"time", "created_at", "history_time"}  # fields in seconds since 1970
_IDS = ("id", "item", "user", "action")  # that no line break can be in
_FINER = ((1e17, 1_000_000_000, "nanoseconds"), (1e14, 1_000_000, "microseconds"), (1e11, 1000, "milliseconds"))


class Quarantine:
    """Rows that could not be used, one JSON object a line: `file`, `line`, `reason`, `row`. `count` says how many."""

    def __init__(self, path: str | Path) -> None:
        """Start empty: what an earlier run set aside in the same file is removed."""
        self.path = Path(path)
        self._reasons: Counter[str] = Counter()
        self._keeps_rows = True
        self.path.unlink(missing_ok=True)

    @property
    def count(self) -> int:
        return self._reasons.total()

    def without_rows(self) -> "Quarantine":
        """The same one, for rows that name people: of those it keeps file, line and reason, and not the row."""
        other = copy.copy(self)
        other._keeps_rows = False
        return other

    def add(self, file: str | Path, line: int | str, *, reason: str, row: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        entry = {"file": str(file), "line": line, "reason": reason} | ({"row": row} if self._keeps_rows else {})
        with self.path.open("a", encoding="utf-8") as out:  # reopened each time: nothing to close, nothing lost by a kill
            out.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")
        self._reasons[reason] += 1

    def commonest(self) -> tuple[str, int]:
        """The reason that most rows have, and how many; the first one where all differ."""
        return self._reasons.most_common(1)[0]

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


class Placed(NamedTuple):
    """A row and where it stands."""

    file: Path
    line: int
    row: Row


def read_rows(path: str | Path, *, quarantine: Quarantine | None) -> Iterator[tuple[int, Row]]:
    """Yield (line, row). Lines count from 1, a CSV's header included; a Parquet file's lines are its row numbers.

    Cells that are empty or null are left out of the row, so that a default applies or the field is reported as missing.

    Raises:
        DataError: the file is absent, truncated or not of a known format; or a row is bad and there is no quarantine.
    """
    for file in data_files(path):
        yield from rows_of(file, quarantine=quarantine)


def rows_of(file: DataFile, *, quarantine: Quarantine | None) -> Iterator[tuple[int, Row]]:
    """The same of one file."""
    read = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}[file.format]
    try:
        for line, row in read(file, quarantine):
            row = file.folders | row if file.folders else row
            kept = {k: v for k, v in row.items() if v is not None and v != ""}
            if any("\0" in v for v in kept.values() if type(v) is str):
                broken = next(k for k, v in kept.items() if type(v) is str and "\0" in v)
                reject(quarantine, file.path, line, reason=f'"{broken}": holds a zero byte: the file may be damaged', row=row)
                continue
            yield line, kept
    except UnicodeDecodeError as error:
        raise not_utf8(file, error) from error
    except (EOFError, zlib.error, OSError, pa.ArrowException) as error:
        raise unreadable(file.path, error) from error


def placed_rows(path: str | Path, names: ColumnNames, *, quarantine: Quarantine | None) -> Iterator[Placed]:
    """Rows of the file, or of each file of a directory, whose header is checked first.

    Raises:
        DataError: as `read_rows`; or a column of `names` is missing, or no row is good.
    """
    for file in data_files(path):
        check_names(file, names)
        for line, row in rows_of(file, quarantine=quarantine):
            yield Placed(file.path, line, row)


def check_names(file: DataFile, names: ColumnNames) -> None:
    """Refuse a file without the columns of `names`, and warn of those that are not read; JSON lines have no header."""
    columns = header_of(file)
    if columns is not None:
        for warning in check_header(file.path, [*columns, *(name for name in file.folders if name not in columns)], names):
            log.warning("%s", warning)


def header_of(file: DataFile) -> list[str] | None:
    """The names of the columns, or None where each row has its own."""
    try:
        if file.format == ".parquet":
            return list(pq.read_schema(file.path).names)
        if file.format == ".csv":
            with file.text() as text:
                first = next(csv_lines(text, name=str(file.path)), None)
            return None if first is None or first.fault else first.cells
    except UnicodeDecodeError as error:
        raise not_utf8(file, error) from error
    except (EOFError, zlib.error, OSError, pa.ArrowException) as error:
        raise unreadable(file.path, error) from error
    return None


def read_records(path: str | Path, record: type[R], *, quarantine: Quarantine | None) -> Iterator[R]:
    """Rows checked against a record type, e.g. `read_records("log.jsonl", Outcome, quarantine=None)`.

    Raises:
        DataError: the file or, without a quarantine, a row cannot be used; or there are rows, and none is good.
    """
    names, tally = ColumnNames.of(record), Tally(path, quarantine)
    for file, line, row in placed_rows(path, names, quarantine=quarantine):
        checked = check(record, row, file=file, line=line, quarantine=quarantine, names=names)
        if checked is not None:
            tally.good += 1
            yield checked
    tally.end()


class Tally:
    """Counts what of a path is used, so that a quarantine does not take all of it without a word."""

    def __init__(self, path: str | Path, quarantine: Quarantine | None) -> None:
        self._path, self._quarantine = path, quarantine
        self._before = 0 if quarantine is None else quarantine.count
        self.good = 0

    def end(self) -> None:
        """Raise `DataError` when every row was set aside; warn when most were."""
        if self._quarantine is None or (bad := self._quarantine.count - self._before) <= self.good:
            return
        reason, times = self._quarantine.commonest()
        why = f'{times:,} times: {reason}. They are in {self._quarantine.path}'
        if not self.good:
            raise DataError(f"{self._path}: no row is good, {bad:,} are bad; {why}. Mend the file, not single rows of it.")
        log.warning("%s: most rows are bad: %s of %s; %s", self._path, f"{bad:,}", f"{bad + self.good:,}", why)


def check(record: type[R], row: Row, *, file: Path, line: int, quarantine: Quarantine | None,
          names: ColumnNames | None = None) -> R | None:
    """One row as a record, or None when it was set aside. `names` are those of the columns, for a hint at misspelt ones."""
    for name in _IDS:
        if isinstance(value := row.get(name), str) and ("\n" in value or "\r" in value):
            reason = f'"{name}": expected one line, got {_brief(value)}; was a quote left open in the lines before?'
            reject(quarantine, file, line, reason=reason, row=row)
            return None
    try:
        return record.model_validate(row)
    except ValidationError as error:
        reason, missing = explain(error), [str(e["loc"][0]) for e in error.errors() if e["type"] == "missing"]
        if missing and names is not None:
            reason += hint(row, missing, names)
        reject(quarantine, file, line, reason=reason, row=row)
        return None


def explain(error: ValidationError) -> str:
    """A pydantic error in one line: field, what was expected, what came."""
    parts = []
    for e in error.errors(include_url=False, include_context=False):
        field = ".".join(str(p) for p in e["loc"]) or "row"
        got = "" if e["type"] == "missing" else f", got {_brief(e['input'])}"
        unit = _unit(e["input"]) if _TIMES & {*e["loc"]} and e["type"] != "missing" else ""
        parts.append(f'"{field}": {e["msg"][:1].lower()}{e["msg"][1:]}{unit}{got}')
    return "; ".join(parts)


def _unit(value: Any) -> str:
    """What a time should have been, for one that is none: the likely unit, and the value in seconds where that is clear."""
    said = ": expected whole seconds since 1970 UTC"
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            try:
                value = datetime.fromisoformat(value.strip())
            except ValueError:
                return said
    if isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        zone = "" if value.tzinfo is not None else ", if it is in UTC"
        return f"{said}, {math.floor(moment.timestamp())} for this date{zone}"
    if isinstance(value, (int, float)) and math.isfinite(value):
        for least, factor, name in _FINER:
            if value >= least:
                return f"{said}, and these seem to be {name} (divide by {factor:,})"
        if value % 1:
            return f"{said} (cut the fraction off: {math.floor(value)})"
    return said


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _read_jsonl(file: DataFile, quarantine: Quarantine | None) -> Iterator[tuple[int, Row]]:
    number = 0
    with file.lines() as lines:
        for block in lines:
            for raw in block.splitlines():  # a lone carriage return ends a line too
                number += 1
                if not raw.strip():
                    continue
                try:
                    row = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_once)
                except UnicodeDecodeError as error:
                    reason = f"not UTF-8 (byte 0x{raw[error.start]:02x}). Save the file as UTF-8"
                    reject(quarantine, file.path, number, reason=reason, row=raw.decode("utf-8", "replace"))
                    continue
                except (ValueError, RecursionError) as error:
                    array = "; a JSON array becomes lines by: jq -c '.[]'" if raw.strip() in (b"[", b"{") else ""
                    reject(quarantine, file.path, number, reason=f"not JSON ({error}){array}", row=raw.decode("utf-8", "replace"))
                    continue
                if isinstance(row, dict):
                    yield number, row
                else:
                    array = "; an array becomes lines by: jq -c '.[]'" if isinstance(row, list) else ""
                    reject(quarantine, file.path, number, reason=f"expected a JSON object, got {_brief(row)}{array}", row=row)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)
        raise ValueError(f'the key "{twice}" is there twice')
    return found


def _read_csv(file: DataFile, quarantine: Quarantine | None) -> Iterator[tuple[int, Row]]:
    with file.text() as text:
        lines = csv_lines(text, name=str(file.path))
        first = next(lines, None)
        if first is None:
            raise DataError(f"{file.path}: empty. {EMPTY['.csv']}")
        if first.fault:
            raise DataError(f"{file.path} line {first.number}: {first.fault}. Mend the header.")
        header = first.cells
        for number, cells, fault in lines:
            if not fault and len(cells) == len(header):
                yield number, dict(zip(header, cells, strict=True))
                continue
            if not fault:
                fault = f"expected {len(header)} columns ({','.join(header)[:_SHOWN]}), got {len(cells)}"
                if len(cells) > len(header):
                    fault += ": a value with a comma in it needs quotes" if any(cells[len(header):]) else \
                             ": the line ends with commas"
            reject(quarantine, file.path, number, reason=fault, row=cells)


def _read_parquet(file: DataFile, _quarantine: Quarantine | None) -> Iterator[tuple[int, Row]]:
    line = 0
    with pq.ParquetFile(file.path) as table:
        for batch in table.iter_batches(batch_size=16_384):
            for row in batch.to_pylist():
                line += 1
                yield line, row

"""Checks rows of a user's file against a record type, and says what is wrong with one in a sentence."""
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tfrec.data.readers.columns import ColumnNames, hint
from tfrec.data.readers.quarantine import GoodRows, Quarantine, reject
from tfrec.data.readers.rows import Row, brief, located_rows

R = TypeVar("R", bound=BaseModel)

_TIMES = {"time", "created_at", "history_time"}  # fields in seconds since 1970
_IDS = ("id", "item", "user", "action")  # fields in which a line break is an error
_FINER = ((1e17, 1_000_000_000, "nanoseconds"), (1e14, 1_000_000, "microseconds"), (1e11, 1000, "milliseconds"))


def read_records(path: str | Path, record: type[R], *, quarantine: Quarantine | None) -> Iterator[R]:
    """Yield the rows of a path as records, e.g. `read_records("log.jsonl", Outcome, quarantine=None)`.

    Raises:
        DataError: the file or, without a quarantine, a row cannot be used; or there are rows, and none is good.
    """
    names, good = ColumnNames.of(record), GoodRows(path, quarantine)
    for file, line, row in located_rows(path, names, quarantine=quarantine):
        checked = check_row(record, row, file=file, line=line, quarantine=quarantine, names=names)
        if checked is not None:
            good.count += 1
            yield checked
    good.check()


def check_row(record: type[R], row: Row, *, file: Path, line: int, quarantine: Quarantine | None,
              names: ColumnNames | None = None) -> R | None:
    """One row as a record, or None when it was set aside. With the columns' `names`, a message hints at misspelt ones."""
    found = validate(record, row, names=names)
    if isinstance(found, str):
        reject(quarantine, file, line, reason=found, row=row)
        return None
    return found


def validate(record: type[R], row: Row, *, names: ColumnNames | None = None) -> R | str:
    """One row as a record, or in a sentence why it is none. With the columns' `names`, it hints at misspelt ones."""
    for name in _IDS:
        if isinstance(value := row.get(name), str) and ("\n" in value or "\r" in value):
            return f'"{name}": expected one line, got {brief(value)}; was a quote left open in the lines before?'
    try:
        return record.model_validate(row)
    except ValidationError as error:
        missing = [str(e["loc"][0]) for e in error.errors() if e["type"] == "missing"]
        return explain(error) + (hint(row, missing, names) if missing and names is not None else "")


def explain(error: ValidationError) -> str:
    """A pydantic error in one line: the field, what was expected, and what was found."""
    parts = []
    for e in error.errors(include_url=False, include_context=False):
        field = ".".join(str(p) for p in e["loc"]) or "row"
        got = "" if e["type"] == "missing" else f", got {brief(e['input'])}"
        unit = _unit(e["input"]) if _TIMES & {*e["loc"]} and e["type"] != "missing" else ""
        parts.append(f'"{field}": {e["msg"][:1].lower()}{e["msg"][1:]}{unit}{got}')
    return "; ".join(parts)


def _unit(value: Any) -> str:
    """For a wrong time: what was expected, the unit that was probably meant, and the value in seconds where that is clear."""
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

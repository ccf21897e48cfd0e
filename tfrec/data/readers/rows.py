"""Reads rows of a user's file as dictionaries: JSON lines, CSV (both also gzipped) or Parquet.

Every row keeps its line, so a bad row is reported by file, line, field and value. Without a `Quarantine` the first bad row stops
the read; with one, bad rows are set aside and the others are used. A file that cannot be read to its end is an error either way,
as nobody can say what the missing part held.
"""
import json
import logging
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tfrec.data.readers.columns import ColumnNames, check_header
from tfrec.data.readers.csv_lines import csv_lines
from tfrec.data.readers.files import EMPTY, DataFile, data_files, not_utf8, unreadable
from tfrec.data.readers.quarantine import Quarantine, reject
from tfrec.errors import DataError

log = logging.getLogger(__name__)

Row = dict[str, Any]

_SHOWN = 80  # characters of a wrong value that a message repeats


class LocatedRow(NamedTuple):
    """A row with its file and line."""

    file: Path
    line: int
    row: Row


def rows_of(file: DataFile, *, quarantine: Quarantine | None) -> Iterator[tuple[int, Row]]:
    """Yield (line, row) of a file. Lines count from 1, a CSV's header included; a Parquet file's lines are its row numbers.

    Cells that are empty or null are left out of the row, so that a default applies or the field is reported as missing.

    Raises:
        DataError: the file is truncated; or a row is bad and there is no quarantine.
    """
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


def located_rows(path: str | Path, names: ColumnNames, *, quarantine: Quarantine | None) -> Iterator[LocatedRow]:
    """Yield the rows of the file, or of each file of a directory, after a check of its header.

    Raises:
        DataError: as `rows_of`; there is no file of a known format, or a column of `names` is missing.
    """
    for file in data_files(path):
        check_names(file, names)
        for line, row in rows_of(file, quarantine=quarantine):
            yield LocatedRow(file.path, line, row)


def check_names(file: DataFile, names: ColumnNames) -> None:
    """Check the header of a file, and warn of columns that are not read. JSON lines have no header.

    Raises:
        DataError: a column of `names` is missing.
    """
    columns = header_of(file)
    if columns is not None:
        for warning in check_header(file.path, [*columns, *(name for name in file.folders if name not in columns)], names):
            log.warning("%s", warning)


def header_of(file: DataFile) -> list[str] | None:
    """The names of a file's columns, or None where each row has its own.

    Raises:
        DataError: the file cannot be read.
    """
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


def parse_json(text: bytes) -> Any:
    """A value from JSON in UTF-8, in which a key that is there twice is an error.

    Raises:
        ValueError: it is not JSON; a `UnicodeDecodeError` when it is not UTF-8.
        RecursionError: it is nested too deep.
    """
    return json.loads(text.decode("utf-8-sig"), object_pairs_hook=_once)


def brief(value: Any, *, most: int = _SHOWN) -> str:
    """A value as JSON for a message, cut after `most` characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= most else text[:most] + "..."


def _read_jsonl(file: DataFile, quarantine: Quarantine | None) -> Iterator[tuple[int, Row]]:
    number = 0
    with file.lines() as lines:
        for block in lines:
            for raw in block.splitlines():  # a lone carriage return ends a line too
                number += 1
                if not raw.strip():
                    continue
                try:
                    row = parse_json(raw)
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
                    reject(quarantine, file.path, number, reason=f"expected a JSON object, got {brief(row)}{array}", row=row)


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

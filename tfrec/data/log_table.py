"""One Delta table of the feedback log: appends that happen once, reads at a version, errors that name the broken file.

Every commit carries the writer's newest sequence number as a Delta application transaction. Two processes that replay the
same rows cannot both succeed: the second finds the number taken, looks again, and has nothing left to add.
"""
import contextlib
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from tfrec.data.rows import unreadable
from tfrec.errors import DataError

_ATTEMPTS = 20  # at a commit that others keep overtaking; waits grow to half a second, so about six seconds in all
T = TypeVar("T")


class LogTable:
    """A table with the columns `writer` and `seq` (its ingest id) beside those of its schema."""

    def __init__(self, uri: str, schema: pa.Schema) -> None:
        self.uri = uri
        self.schema = schema

        def create() -> None:
            if not DeltaTable.is_deltatable(uri):
                DeltaTable.create(uri, schema=schema, mode="ignore")
                return
            known = {field.name for field in self.open().schema().fields}
            if new := [field for field in schema if field.name not in known]:  # a log from before there were these columns
                DeltaTable(uri).alter.add_columns(Schema.from_arrow(pa.schema(new)).fields)

        self._attempt(create)
        self._appending: DeltaTable | None = None  # kept between commits: to read the whole Delta log for each costs ever more

    def append(self, rows: pa.Table, *, writer: str) -> None:
        """Commit a writer's rows, `seq` ascending. Those that are in the table already are left out."""

        def commit() -> None:
            table = self._appending = self.open(self._appending)
            new = rows.filter(pc.greater(rows["seq"], table.transaction_version(writer) or 0))
            if new.num_rows:
                mark = CommitProperties(app_transactions=[Transaction(writer, new["seq"][-1].as_py())])
                write_deltalake(table, new, mode="append", commit_properties=mark)

        self._attempt(commit)

    def last_seq(self, writer: str) -> int:
        """The newest sequence number that this writer committed."""
        return self.open().transaction_version(writer) or 0

    def newest(self, version: int) -> dict[str, int]:
        """The newest sequence number per writer among the rows of a version."""
        dataset = self.dataset(version)
        rows = self.checked(lambda: dataset.to_table(columns=["writer", "seq"]), dataset)
        newest = rows.group_by("writer").aggregate([("seq", "max")])
        return dict(zip(newest["writer"].to_pylist(), newest["seq_max"].to_pylist(), strict=True))

    def dataset(self, version: int | None = None) -> pyarrow.dataset.Dataset:
        """The table as an Arrow dataset, read lazily. A version whose files were vacuumed gives the table as it is now.

        Rows keep their ingest ids, so a window's rows are the same in every later version, less those deleted since.
        """
        current = self.open()
        if version is None or version == current.version():
            return current.to_pyarrow_dataset()
        if version > current.version():
            raise DataError(f"{self.uri}: version {version} asked for, the newest is {current.version()}. Is this the right log?")
        try:
            pinned = DeltaTable(self.uri, version=version).to_pyarrow_dataset()
        except DeltaError:  # its log entry was cleaned up
            return current.to_pyarrow_dataset()
        found = pinned.filesystem.get_file_info(pinned.files)
        gone = any(file.type == pyarrow.fs.FileType.NotFound for file in found)
        return current.to_pyarrow_dataset() if gone else pinned

    def compact(self) -> None:
        """Rewrite many small files as few large ones."""
        self._attempt(lambda: self.open().optimize.compact())

    def vacuum(self, *, retention_hours: int) -> None:
        """Remove files that no version of the last `retention_hours` uses."""
        self.open().vacuum(retention_hours=retention_hours, dry_run=False, enforce_retention_duration=False)

    def open(self, known: DeltaTable | None = None) -> DeltaTable:
        """The table as it is now; `known` of an earlier call is brought up to date.

        Raises:
            DataError: its Delta log cannot be read; names the file.
        """
        if known is not None:
            with contextlib.suppress(DeltaError):  # entries that it needs were cleaned up, or one is broken
                known.update_incremental()
                return known
        try:
            return DeltaTable(self.uri)
        except DeltaError as error:
            raise unreadable(self._broken_commit() or self.uri, _brief(error)) from error

    def checked(self, work: Callable[[], T], dataset: pyarrow.dataset.Dataset) -> T:
        """Do `work`, which reads the dataset.

        Raises:
            DataError: it failed because a Parquet file is truncated or damaged; names the file.
        """
        try:
            return work()
        except Exception as error:
            for name in dataset.files:
                try:
                    with dataset.filesystem.open_input_file(name) as file:
                        pq.read_table(file)
                except (pa.ArrowException, OSError) as cause:
                    raise unreadable(f"{self.uri}/{name}", cause) from error
            raise

    def _attempt(self, work: Callable[[], object]) -> None:
        """Do `work`, again when another process committed in between."""
        for attempt in range(_ATTEMPTS):
            try:
                work()
                return
            except CommitFailedError as error:
                if attempt == _ATTEMPTS - 1:
                    raise DataError(f"{self.uri}: overtaken by other processes {_ATTEMPTS} times ({_brief(error)}).") from error
                time.sleep(random.uniform(0, min(0.5, 0.01 * 2**attempt)))
            except DeltaError as error:
                raise DataError(f"{self.uri}: cannot be written ({_brief(error)}).") from error

    def _broken_commit(self) -> Path | None:
        for commit in sorted(Path(self.uri).glob("_delta_log/*.json")):
            try:
                for line in commit.read_bytes().splitlines():
                    json.loads(line)
            except ValueError:
                return commit
        return None


def _brief(error: Exception) -> str:
    """The first line: a Delta error carries a backtrace below it."""
    return str(error).partition("\n")[0]

"""One Delta table of the feedback log: appends that happen once, reads at a version, and errors that name the broken file.

Every commit carries the writer's newest sequence number as a Delta application transaction. Two processes that replay the same
rows cannot both succeed: the second finds the number taken, looks again, and has nothing left to add. What a local table commits
is on disk when the call returns; an object store keeps what it acknowledges.
"""
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from tfrec.data.feedback_log.column_reader import ColumnReader
from tfrec.data.feedback_log.commits import ADVICE, Action, Commits
from tfrec.data.feedback_log.compaction import TIERS, merge_small_files
from tfrec.data.feedback_log.creation import open_or_create, properties_of
from tfrec.data.feedback_log.outdated import MARK, Outdated, drop_outdated, drop_outdated_remote
from tfrec.data.feedback_log.parquet_file import write_parquet
from tfrec.data.feedback_log.schema import UnwritableRows
from tfrec.data.readers.files import unreadable
from tfrec.errors import DataError

_ATTEMPTS = 20  # at a commit that others keep overtaking; waits grow to half a second, so about six seconds in all
_COMMITS = 100  # a table is opened by reading about so many commits one by one; after them there is a checkpoint
T = TypeVar("T")
OpenTable = Callable[[], DeltaTable]


class _Seen(NamedTuple):
    """What is known of a table: its newest version, and how far some writers' rows are in it."""

    version: int
    seqs: dict[str, int]


class WriterRows(NamedTuple):
    """Rows of one writer, `seq` ascending, and how far it is once they are in the table: their last `seq`, or more."""

    rows: pa.Table
    upto: int


class LogTable:
    """A table whose rows end with their ingest id, the columns `writer` and `seq`. It is created at its first use."""

    def __init__(self, uri: str, schema: pa.Schema) -> None:
        """Name the table, in a local directory or at an object store's URL."""
        self.uri = uri
        self.schema = schema
        directory = uri.removeprefix("file://")
        self._commits = None if "://" in directory else Commits(Path(directory))
        self._seen: _Seen | None = None  # kept between appends, as opening the table for each of them costs ever more
        self._appending: DeltaTable | None = None  # the same for an object store

    def exists(self) -> bool:
        """Whether the table has been created.

        Raises:
            DataError: an object store does not answer.
        """
        try:
            return DeltaTable.is_deltatable(self.uri)
        except (DeltaError, OSError) as error:
            raise self._not_opened(error) from error

    def append(self, rows: pa.Table, *, writer: str) -> None:
        """Commit a writer's rows, `seq` ascending. Those that are in the table already are left out.

        Raises:
            UnwritableRows: Parquet cannot hold them.
            DataError: the table cannot be read or written.
        """
        if rows.num_rows:
            self.append_all({writer: WriterRows(rows, rows["seq"][-1].as_py())})

    def append_all(self, parts: Mapping[str, WriterRows]) -> dict[str, int]:
        """Commit rows of several writers at once, as `append`. A writer without rows moves on to its `upto` all the same.

        Returns:
            How far each writer was before: its rows up to this `seq` were in the table already.

        Raises:
            UnwritableRows: Parquet cannot hold at least one row; none was committed.
            DataError: the table cannot be read or written.
        """
        commits = self._commits
        return self._attempt(lambda: self._append_remote(parts) if commits is None else self._append(commits, parts))

    def last_seq(self, writer: str) -> int:
        """The newest sequence number that this writer committed."""
        return self.last_seqs([writer])[writer]

    def last_seqs(self, writers: Iterable[str]) -> dict[str, int]:
        """The newest sequence number that each of these writers committed."""
        table = self.open()
        return {writer: table.transaction_version(writer) or 0 for writer in writers}

    def newest(self, version: int, *, since: int | None = None) -> dict[str, int]:
        """The newest sequence number per writer among the rows of a version; with `since`, in the files that it lacks."""
        dataset = self.added(version, since=since)
        found: dict[str, int] = {}
        for batch in self.checked(lambda: list(self._newest_of_batches(dataset)), dataset):
            for writer, seq in batch:
                if writer is not None and seq is not None:  # rows of other tools have none
                    found[writer] = max(seq, found.get(writer, 0))
        return found

    @staticmethod
    def _newest_of_batches(dataset: pyarrow.dataset.Dataset) -> Iterator[list[tuple[str | None, int | None]]]:
        """The newest sequence number per writer, batch by batch, since a log may be larger than memory."""
        for batch in dataset.to_batches(columns=["writer", "seq"]):
            newest = pa.Table.from_batches([batch]).group_by("writer").aggregate([("seq", "max")])
            yield list(zip(newest["writer"].to_pylist(), newest["seq_max"].to_pylist(), strict=True))

    def added(self, version: int, *, since: int | None) -> pyarrow.dataset.Dataset:
        """The files of a version that the older version `since` lacks; all when that is None, or is known no more.

        They hold every row that came after `since`, and may hold older ones: compaction and deletion rewrite rows.
        """
        whole = self.dataset(version)
        if since is None:
            return whole
        try:
            known = {Path(uri).name for uri in DeltaTable(self.uri, version=since).file_uris()}
        except DeltaError:  # its log entry was cleaned up
            return whole
        return pyarrow.dataset.FileSystemDataset([part for part in whole.get_fragments() if Path(part.path).name not in known],
                                                 whole.schema, whole.format, whole.filesystem)

    def dataset(self, version: int | None = None) -> pyarrow.dataset.Dataset:
        """The table as an Arrow dataset, read lazily. A version whose files were vacuumed gives the table as it is now.

        Rows keep their ingest ids, so the rows of a window are the same in every later version, less those deleted since.
        """
        current = self.open()
        if version is None or version == current.version():
            return self._arrow(current)
        if version > current.version():
            raise DataError(f"{self.uri}: version {version} asked for, the newest is {current.version()}. Is this the right log?")
        try:
            pinned = self._arrow(DeltaTable(self.uri, version=version))
        except DeltaError:  # its log entry was cleaned up
            return self._arrow(current)
        found = pinned.filesystem.get_file_info(pinned.files)
        gone = any(file.type == pyarrow.fs.FileType.NotFound for file in found)
        return self._arrow(current) if gone else pinned

    def within(self, since: int, until: int) -> pyarrow.dataset.Dataset:
        """The files with rows of these seconds, ends included, by the bounds that commits name; they may have others too."""
        whole, time = self.dataset(), pyarrow.dataset.field("time")
        files = list(whole.get_fragments((time >= since) & (time <= until)))
        return pyarrow.dataset.FileSystemDataset(files, whole.schema, whole.format, whole.filesystem)

    def _arrow(self, table: DeltaTable) -> pyarrow.dataset.Dataset:
        """The dataset of an open table.

        Arrow itself reads local files: the reader of deltalake calls Python from Arrow's threads, which ends a program that exits
        meanwhile with SIGABRT.
        """
        if self._commits is None:
            return table.to_pyarrow_dataset()
        here = str(Path(self.uri.removeprefix("file://")).absolute())
        return table.to_pyarrow_dataset(filesystem=pyarrow.fs.SubTreeFileSystem(here, pyarrow.fs.LocalFileSystem()))

    def columns(self, *, since: int, complete: Sequence[str] = ()) -> ColumnReader:
        """The rows of `since` (seconds) or later that have a value in each column of `complete`, as the table is now."""
        return ColumnReader(self.dataset(), uri=self.uri, since=since, complete=complete)

    def time_of_newest(self, rows: int) -> int:
        """A time since which the table has at least `rows` rows, or 0, by the bounds that commits name of each file."""
        files = pa.table(self.open().get_add_actions(flatten=True))
        bounds = ("min.time", "num_records")
        if any(name not in files.column_names or files[name].null_count for name in bounds):
            return 0
        files = files.sort_by([("min.time", "descending")])
        enough = np.flatnonzero(np.cumsum(files["num_records"].to_numpy()) >= rows)
        return int(files["min.time"][int(enough[0])].as_py()) if len(enough) else 0

    def compact(self) -> None:
        """Rewrite small files as few large ones: one below 8 MiB is left, and at most 15 below 128 MiB."""
        commits = self._commits
        if commits is None:
            self._attempt(lambda: self.open().optimize.compact())
            return
        for limit, most in TIERS:
            self._attempt(partial(merge_small_files, commits, self._open_to_write, limit=limit, most=most))

    def vacuum(self, *, retention_hours: float) -> None:
        """Remove the files that no version of the last `retention_hours` uses, and the commits before those versions."""
        if self._commits is None:
            table = self.open()
            table.create_checkpoint()
            table.cleanup_metadata()
            # not a full vacuum, which would also remove files that a writer is about to commit
            table.vacuum(retention_hours=int(retention_hours), dry_run=False, enforce_retention_duration=False)
            return
        commits, now = self._commits, time.time()
        self.open()
        self._attempt(lambda: commits.checkpoint(commits.newest()))
        self._attempt(lambda: commits.clean(before=now - 3600 * retention_hours))

    def maintain(self, *, retention_hours: float) -> None:
        """Keep the table small and quick to open, which changes no row. Writers and readers may be at work meanwhile."""
        self.compact()
        self.vacuum(retention_hours=retention_hours)

    def drop(self, outdated: Outdated) -> None:
        """Remove the rows that are outdated."""
        self.change(lambda commits, opened: drop_outdated(commits, opened, outdated),
                    lambda table: drop_outdated_remote(table, outdated))

    def change(self, local: Callable[[Commits, OpenTable], T], remote: Callable[[DeltaTable], T]) -> T:
        """Change rows in a local directory by `local`, at an object store by `remote`, which may be called again."""
        commits = self._commits
        return self._attempt(lambda: remote(self.open()) if commits is None else local(commits, self._open_to_write))

    def gone(self) -> int:
        """The greatest value of `Outdated.told` among the rows that were removed; 0 when none was."""
        return self.last_seq(MARK)

    def open(self) -> DeltaTable:
        """The table as it is now.

        Raises:
            DataError: its Delta log cannot be read; names the file.
        """
        try:
            if self._commits is None:
                return open_or_create(self.uri, self.schema)
            self._commits.check()
            if self._commits.newest() < 0:
                self._commits.create(self.schema, properties_of(self.schema))
            return DeltaTable(self.uri)
        except DeltaError as error:
            raise unreadable(self.uri, _brief(error), advice=ADVICE) from error
        except OSError as error:
            raise self._not_opened(error) from error

    def replace(self, rows: pyarrow.dataset.Dataset, *, writer: str, last: int) -> None:
        """Put other rows in the place of all rows, at an object store, in one commit.

        Args:
            rows: with the columns of the table.
            writer: of all of them.
            last: the newest sequence number among them.

        Raises:
            DataError: the table cannot be read or written.
        """
        mark = CommitProperties(app_transactions=[Transaction(writer, last)])
        self._attempt(lambda: write_deltalake(self.open(), rows.scanner().to_reader(), mode="overwrite", commit_properties=mark))

    def _not_opened(self, error: Exception) -> DataError:
        reason, advice = _brief(error), "Check the disk and its rights"
        if self._commits is None:
            reason = " ".join(re.sub(r"\x1b\[\d+m", "", str(error)).split())[:500]  # in colours, a cause a line
            advice = ("Check the address, and what the environment says of the store and the credentials: AWS_REGION, "
                      "AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID; GOOGLE_APPLICATION_CREDENTIALS; AZURE_STORAGE_ACCOUNT_NAME")
        return DataError(f"{self.uri}: cannot be opened ({reason}). {advice}.")

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
                        pq.ParquetFile(file, page_checksum_verification=True).read()
                except (pa.ArrowException, OSError) as cause:
                    if isinstance(cause, FileNotFoundError) and dataset.files != self.dataset().files:
                        raise DataError(f"{self.uri}: rows left it while it was read. Run this again.") from error
                    raise unreadable(f"{self.uri}/{name}", cause, advice=ADVICE) from error
            raise

    def _append(self, commits: Commits, parts: Mapping[str, WriterRows]) -> dict[str, int]:
        seen = self._look(commits, parts)
        before = {writer: seen.seqs[writer] for writer in parts}
        new, upto = _new(parts, before, self.schema)
        if not upto:
            return before
        actions: list[Action] = [{"txn": {"appId": writer, "version": seq, "lastUpdated": time.time_ns() // 1_000_000}}
                                 for writer, seq in upto.items()]
        file = commits.new_file()
        try:
            if new.num_rows:
                try:
                    count, bounds = write_parquet(file, self.schema, [new])
                except (ValueError, TypeError, MemoryError, NotImplementedError) as error:  # Arrow's; a disk gives an OSError
                    raise UnwritableRows(f"{self.uri}: Parquet cannot hold these rows ({_brief(error)})") from error
                actions.insert(0, commits.added(file, count, bounds, is_new=True))
            if not commits.commit(seen.version + 1, actions, operation="WRITE"):
                raise CommitFailedError("another process committed first")
        except Exception:
            file.unlink(missing_ok=True)
            raise
        self._seen = _Seen(seen.version + 1, {**seen.seqs, **upto})
        if seen.version - max(commits.checkpoints(), default=0) >= _COMMITS:
            commits.checkpoint(seen.version + 1)
        return before

    def _look(self, commits: Commits, writers: Iterable[str]) -> _Seen:
        """The table's state, once all commits are on disk, also those of other processes and of one that died before its sync."""
        seen, newest = self._seen, commits.newest()
        known = seen is not None and seen.seqs.keys() >= set(writers)
        if seen is not None and known and not set(range(seen.version + 1, newest + 1)) - {*commits.versions()}:
            seqs, arrived = dict(seen.seqs), range(seen.version + 1, newest + 1)
            for action in (action for version in arrived for action in commits.read(version)):
                if "txn" in action and action["txn"]["appId"] in seqs:
                    seqs[action["txn"]["appId"]] = action["txn"]["version"]
            if arrived:
                commits.sync(arrived)
            if newest >= seen.version and not _changes_the_table(commits, arrived):
                self._seen = _Seen(newest, seqs)
                return self._seen
        table = self._open_to_write()
        since = max(commits.checkpoints(), default=-1)
        commits.sync(version for version in commits.versions() if version > since)
        asked = {*writers, *(seen.seqs if seen else ())}
        self._seen = _Seen(table.version(), {writer: table.transaction_version(writer) or 0 for writer in asked})
        return self._seen

    def _open_to_write(self) -> DeltaTable:
        """Open the table, and refuse one to which another tool gave rules that the commits here would break."""
        table = self.open()
        rules, partitions = table.protocol(), table.metadata().partition_columns
        missing = {field.name for field in self.schema} - {field.name for field in table.schema().fields}
        if rules.min_writer_version > 2 or partitions or missing:
            raise DataError(f"{self.uri}: expected a Delta table of writer version 2 or less, without partitions and with the "
                            f"columns of {self.schema.names}; got version {rules.min_writer_version}, partitions "
                            f"{partitions}, missing columns {sorted(missing)}. Move it away to begin a new log.")
        return table

    def _append_remote(self, parts: Mapping[str, WriterRows]) -> dict[str, int]:
        table = self._appending
        if table is None:
            table = self.open()
        else:
            try:
                table.update_incremental()
            except DeltaError:  # entries that it needs were cleaned up, or one is broken
                table = self.open()
        self._appending = table
        before = {writer: table.transaction_version(writer) or 0 for writer in parts}
        new, upto = _new(parts, before, self.schema)
        if upto:
            # no second try by the library: rows that another process replayed meanwhile must be left out of it
            marks = [Transaction(writer, seq) for writer, seq in upto.items()]
            properties = CommitProperties(app_transactions=marks, max_commit_retries=0)
            write_deltalake(table, new, mode="append", commit_properties=properties)
        return before

    def _attempt(self, work: Callable[[], T]) -> T:
        """Do `work`, again when another process committed in between."""
        attempt = 0
        while True:
            try:
                return work()
            except CommitFailedError as error:
                attempt += 1
                if attempt == _ATTEMPTS:
                    raise DataError(f"{self.uri}: overtaken by other processes {_ATTEMPTS} times ({_brief(error)}).") from error
                time.sleep(random.uniform(0, min(0.5, 0.005 * 2**attempt)))
            except DeltaError as error:
                raise DataError(f"{self.uri}: cannot be written ({_brief(error)}).") from error
            except OSError as error:
                raise DataError(f"{self.uri}: cannot be written ({error}). Is the disk full?") from error


def _new(parts: Mapping[str, WriterRows], before: Mapping[str, int], schema: pa.Schema) -> tuple[pa.Table, dict[str, int]]:
    """The rows that are not in the table, and how far those writers are after them that move on."""
    new = [part.rows.slice(int(np.searchsorted(part.rows["seq"].to_numpy(), before[writer], side="right")))  # copies no row
           for writer, part in parts.items()]
    return pa.concat_tables([schema.empty_table(), *new]), {w: part.upto for w, part in parts.items() if part.upto > before[w]}


def _changes_the_table(commits: Commits, versions: Iterable[int]) -> bool:
    return any("metaData" in action or "protocol" in action for version in versions for action in commits.read(version))


def _brief(error: Exception) -> str:
    """The first line of an error; a Delta error carries a backtrace below it."""
    return str(error).partition("\n")[0]

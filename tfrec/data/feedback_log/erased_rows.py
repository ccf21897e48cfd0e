"""Removes the rows of people who were erased: from a table, and from the files of its earlier versions.

A row leaves by a rewrite of its file, as in `outdated.py`: killed at any time, a file has all rows or the erased ones not. Until
then the file stays on disk for readers, for a day; `purge` removes it at once, where it holds such rows. No commit names anybody.
"""
import time
from collections.abc import Collection, Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable

from tfrec.data import durable_files
from tfrec.data.feedback_log.commits import ADVICE, Commits
from tfrec.data.feedback_log.compaction import rewrite
from tfrec.data.feedback_log.table import LogTable, OpenTable
from tfrec.data.readers.files import unreadable
from tfrec.errors import DataError

_GROUP_BYTES = 128 << 20  # of files that are rewritten as one
_ROUNDS = 20  # in which compaction may be faster
_ABANDONED_SECONDS = 3600  # a file that no commit names after this time was left by a process that was killed


def rows_of(table: LogTable, names: Collection[str], columns: list[str]) -> pa.Table:
    """Some columns of the rows whose `user` is one of `names`.

    Raises:
        DataError: the table cannot be read; names the file.
    """
    dataset = table.dataset()
    return table.checked(lambda: dataset.to_table(columns=columns, filter=pc.field("user").isin(list(names))), dataset)


def users_of(table: LogTable) -> set[str]:
    """All users of a table."""
    dataset = table.dataset()

    def run() -> set[str]:
        return {user for batch in dataset.to_batches(columns=["user"]) for user in pc.unique(batch["user"]).to_pylist() if user}

    return table.checked(run, dataset)


def erase(table: LogTable, names: Collection[str]) -> None:
    """Remove the rows whose `user` is one of `names`. Killed at any time, it may be done again.

    Raises:
        DataError: the table cannot be read or written.
    """
    table.change(lambda commits, opened: _erase(commits, opened, names), lambda remote: _erase_remote(remote, names))


def purge(table: LogTable, names: Collection[str]) -> list[str]:
    """Remove the files of earlier versions that hold rows of `names`, which nobody may be reading.

    Returns:
        Files that hold such rows and that another process has begun to write. It will commit them or be gone within an hour.
    """
    return table.change(lambda commits, opened: _purge(commits, opened, names), _purge_remote)


def _erase(commits: Commits, opened: OpenTable, names: Collection[str]) -> None:
    value_set = pa.array(list(names), pa.string())
    for _ in range(_ROUNDS):
        holders = [path for path in _paths(opened()) if _holds(commits.directory / path, value_set)]
        if not holders:
            return
        for group in _groups(commits.directory, holders):
            rewrite(commits, opened, group, keep=lambda rows: rows.filter(pc.invert(pc.is_in(rows["user"], value_set))))
    raise DataError(f"{commits.directory}: rows could not be removed, as other processes rewrote their files {_ROUNDS} times "
                    "meanwhile. Run it again.")


def _groups(directory: Path, paths: Iterable[str]) -> Iterator[list[str]]:
    """Small files together, large ones on their own."""
    group, size = list[str](), 0
    for path in paths:
        group.append(path)
        size += (directory / path).stat().st_size
        if size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _erase_remote(table: DeltaTable, names: Collection[str]) -> None:
    digests = ", ".join(f"'{sha256(name.encode()).hexdigest()}'" for name in sorted(names))
    # the store keeps the condition with the commit, so it must name nobody: a pseudonym is not found from its hash
    table.delete(f"""encode(sha256("user"), 'hex') IN ({digests})""", commit_properties=CommitProperties(max_commit_retries=0))


def _purge(commits: Commits, opened: OpenTable, names: Collection[str]) -> list[str]:
    value_set = pa.array(list(names), pa.string())
    current, named, left = set(_paths(opened())), commits.named(), []
    commits.sync()  # what takes the place of these files is on disk before they go
    for file in commits.directory.glob("*.parquet"):
        if file.name in current:
            continue
        try:
            if not _holds(file, value_set):
                continue
            if file.name in named or file.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                file.unlink(missing_ok=True)
            else:
                left.append(str(file))
        except (DataError, FileNotFoundError):  # it is being written, or it is gone
            continue
    durable_files.sync_directory(commits.directory)
    return left


def _purge_remote(table: DeltaTable) -> list[str]:
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    return []


def _paths(table: DeltaTable) -> list[str]:
    found: list[str] = pa.table(table.get_add_actions(flatten=True))["path"].to_pylist()
    return found


def _holds(path: Path, names: pa.Array) -> bool:
    """Whether a file has a row of one of `names`."""
    try:
        with pq.ParquetFile(path, read_dictionary=["user"], page_checksum_verification=True) as file:
            if "user" not in file.schema_arrow.names:
                return False
            users = file.read(["user"], use_threads=False)["user"]
            return any(pc.any(pc.is_in(chunk.dictionary.take(pc.unique(chunk.indices).drop_null()), names)).as_py()
                       for chunk in users.chunks)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise unreadable(path, error, advice=ADVICE) from error

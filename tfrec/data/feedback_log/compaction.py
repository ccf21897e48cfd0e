"""Rewrites files of a local log table: small ones as few large ones, or without some of their rows."""
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from tfrec.data.feedback_log.commits import ADVICE, Action, Commits
from tfrec.data.feedback_log.parquet_file import write_parquet
from tfrec.data.readers.files import unreadable

TIERS = ((8 << 20, 2), (128 << 20, 16))  # (bytes, files): below this size, fewer files than this are left; a row moves rarely
_GROUP_BYTES = 64 << 20  # of rows in memory that become one row group of a rewritten file
_ATTEMPTS = 20  # at a commit that others keep overtaking


def merge_small_files(commits: Commits, open_table: Callable[[], DeltaTable], *, limit: int, most: int) -> None:
    """Leave fewer than `most` files below `limit` bytes, unless another process merges them meanwhile."""
    count, some = _below(open_table(), limit)
    while count >= most and len(some) > 1 and rewrite(commits, open_table, some):
        count, some = _below(open_table(), limit)


def _below(table: DeltaTable, limit: int) -> tuple[int, list[str]]:
    """How many files of the table are smaller than `limit` bytes, and the oldest of them, about `limit` bytes in all."""
    found = pa.table(table.get_add_actions(flatten=True)).select(["modification_time", "path", "size_bytes"])
    small = sorted(zip(*(column.to_pylist() for column in found.filter(pc.less(found["size_bytes"], limit)).columns),
                       strict=True))
    before = itertools.accumulate((size for _, _, size in small), initial=0)
    return len(small), [path for (_, path, _), size in zip(small, before, strict=False) if size < limit]


def rewrite(commits: Commits, open_table: Callable[[], DeltaTable], paths: list[str], *,
            keep: Callable[[pa.Table], pa.Table] | None = None, also: Sequence[Action] = ()) -> bool:
    """Put the rows of some files into one file; False when another process removed one of them meanwhile.

    Args:
        commits: of the table.
        open_table: opens it as it is now.
        paths: of the files.
        keep: of the rows of each group those that stay; None keeps all.
        also: other actions of the same commit.
    """
    schema = open_table().to_pyarrow_dataset().schema
    file, changes = commits.new_file(), keep is not None
    groups = _row_groups(commits.directory, paths, schema)
    try:
        count, bounds = write_parquet(file, schema, groups if keep is None else map(keep, groups))
        now = time.time_ns() // 1_000_000
        actions: list[Action] = [{"remove": {"path": path, "deletionTimestamp": now, "dataChange": changes}} for path in paths]
        if count:
            actions.append(commits.added(file, count, bounds, is_new=changes))
        else:
            file.unlink()
        actions += also
        for _ in range(_ATTEMPTS):
            current = open_table()
            if not set(paths) <= set(pa.table(current.get_add_actions(flatten=True))["path"].to_pylist()):
                break
            if commits.commit(current.version() + 1, actions, operation="DELETE" if changes else "OPTIMIZE"):
                return True
        file.unlink(missing_ok=True)
        return False
    except Exception:
        file.unlink(missing_ok=True)
        raise


def _row_groups(directory: Path, paths: list[str], schema: pa.Schema) -> Iterable[pa.Table]:
    """The rows of some files, a row group at a time. Small groups are joined, or the new file would have as many."""
    held: list[pa.Table] = []
    for path in paths:
        try:
            with pq.ParquetFile(directory / path, page_checksum_verification=True) as file:
                for group in range(file.num_row_groups):
                    held.append(_with_columns(schema, file.read_row_group(group)))
                    if sum(table.nbytes for table in held) > _GROUP_BYTES:
                        yield pa.concat_tables(held)
                        held = []
        except (pa.ArrowException, OSError) as error:
            raise unreadable(directory / path, error, advice=ADVICE) from error
    if held:
        yield pa.concat_tables(held)


def _with_columns(schema: pa.Schema, rows: pa.Table) -> pa.Table:
    """Rows with the columns of `schema`; a column that the file lacks is null."""
    columns = [rows[field.name].cast(field.type) if field.name in rows.schema.names else pa.nulls(len(rows), field.type)
               for field in schema]
    return pa.table(columns, schema=schema)

"""Removes rows that are older than a run keeps (`data.keep_days`), from a local table or an object store.

Rows leave in one commit: killed at any time, the table has them all or none of them. What the table knows besides rows stays: how
far each writer came, and with it that no record is written twice. Their files go when no reader can be at work on them any more
(`LogTable.vacuum`).
"""
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction

from tfrec.data.feedback_log.commits import ADVICE, Commits
from tfrec.data.feedback_log.compaction import rewrite
from tfrec.data.readers.files import unreadable

MARK = "outdated rows"  # the name of the Delta transaction that tells what has left


@dataclass(frozen=True)
class Outdated:
    """Which rows are outdated: those of before a time that everybody who needs them has read. A row without a time stays.

    Attributes:
        before: seconds since 1970.
        upto: by writer, the newest sequence number that everybody has read. Rows of other writers stay.
        times: columns of seconds; the first that has a value is the time of a row.
        told: the column whose greatest value among the rows that left is known afterwards (`LogTable.gone`).
    """

    before: int
    upto: Mapping[str, int]
    times: tuple[str, ...] = ("time",)
    told: str = "time"

    @property
    def columns(self) -> list[str]:
        """What `mask` reads."""
        return [*self.times, "writer", "seq"]

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """`[rows]`: whether each of some rows is outdated."""
        writer = pc.index_in(rows["writer"], value_set=pa.array(self.upto.keys(), pa.string()))
        is_read = pc.less_equal(rows["seq"], pa.array(self.upto.values(), pa.int64()).take(writer.combine_chunks()))
        is_old = pc.less(pc.coalesce(*(rows[name] for name in self.times)), self.before)
        return pc.fill_null(pc.and_(is_old, is_read), False)  # noqa: FBT003  a value

    def files(self, table: DeltaTable) -> list[str]:
        """The files that may hold outdated rows, by the bounds that commits name of each file."""
        found = pa.table(table.get_add_actions(flatten=True))
        bounds = [found[f"min.{name}"].to_pylist() if f"min.{name}" in found.column_names else [None] * len(found)
                  for name in self.times]
        lowest = [min((value for value in values if value is not None), default=None) for values in zip(*bounds, strict=True)]
        return [path for path, low in zip(found["path"].to_pylist(), lowest, strict=True) if low is None or low < self.before]


def drop_outdated(commits: Commits, open_table: Callable[[], DeltaTable], outdated: Outdated) -> None:
    """Remove the outdated rows of a local table; what else their files hold is written anew as one file."""
    newest, paths = 0, []
    for path in outdated.files(open_table()):
        try:
            with pq.ParquetFile(commits.directory / path, page_checksum_verification=True) as file:
                rows = file.read([name for name in outdated.columns if name in file.schema_arrow.names], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(commits.directory / path, error, advice=ADVICE) from error
        if all(name in rows.column_names for name in outdated.columns):  # what another tool wrote stays
            leaving = rows.filter(outdated.mask(rows))
            if leaving.num_rows:
                paths.append(path)
                newest = max(newest, pc.max(leaving[outdated.told]).as_py() or 0)
    if paths:
        mark = {"txn": {"appId": MARK, "version": max(newest, open_table().transaction_version(MARK) or 0)}}
        rewrite(commits, open_table, paths, keep=lambda rows: rows.filter(pc.invert(outdated.mask(rows))), also=[mark])


def drop_outdated_remote(table: DeltaTable, outdated: Outdated) -> None:
    """Remove the outdated rows of a table in an object store."""
    if not outdated.files(table):
        return
    old = pc.coalesce(*(pc.field(name) for name in outdated.times)) < outdated.before
    rows = table.to_pyarrow_dataset().to_table(columns=outdated.columns, filter=old)
    leaving = rows.filter(outdated.mask(rows))
    if leaving.num_rows:
        newest = max(pc.max(leaving[outdated.told]).as_py() or 0, table.transaction_version(MARK) or 0)
        mark = CommitProperties(app_transactions=[Transaction(MARK, newest)], max_commit_retries=0)
        table.delete(_predicate(outdated, pc.unique(leaving["writer"]).to_pylist()), commit_properties=mark)


def _predicate(outdated: Outdated, writers: list[str]) -> str:
    """The condition in SQL. It names the writers that have outdated rows only, as there may be thousands in all."""
    def named(writer: str) -> str:
        return f"""(writer = '{writer.replace("'", "''")}' AND seq <= {outdated.upto[writer]})"""

    time = f"COALESCE({', '.join(outdated.times)})" if len(outdated.times) > 1 else outdated.times[0]
    return f"{time} < {outdated.before} AND ({' OR '.join(map(named, writers))})"

"""Runs the statements of the join in this process, on DuckDB."""
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa
import pyarrow.dataset

from tfrec.data.feedback_log.duckdb_view import connected, create_view

# DuckDB takes filters to keep a fifth of the rows, and after the join's chain of them expects one row of a million: it would then
# build hash tables of the wide columns. The statements name the smaller relation on the right of each join.
WITHOUT = "join_order,build_side_probe_side"


@contextmanager
def duckdb_engine() -> Iterator["DuckDbEngine"]:
    """An engine with names of its own, which are gone when the block ends."""
    with connected(without_optimizers=WITHOUT) as db:
        yield DuckDbEngine(db)


class DuckDbEngine:
    """A `SqlEngine`."""

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        """Take a connection, on which the engine makes temporary views."""
        self._db = db

    def open_table(self, name: str, uri: str, dataset: pyarrow.dataset.Dataset, schema: pa.Schema) -> None:
        """Name the table at `uri`, of which `dataset` has the files. Columns of `schema` that its files lack are null."""
        create_view(self._db, name, uri, dataset, schema)

    def register(self, name: str, rows: pa.Table) -> None:
        """Name a table in memory."""
        self._db.register(name, rows)

    def create_view(self, name: str, select: str) -> None:
        """Name a SELECT statement; one of that name is replaced."""
        self._db.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {select}")

    def query(self, select: str) -> pa.Table:
        """The answer of a SELECT statement."""
        return self._db.sql(select).to_arrow_table()

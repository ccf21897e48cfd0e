"""What the join asks of an engine that runs its statements. They are written once, in DuckDB's dialect."""
from typing import Protocol

import pyarrow as pa
import pyarrow.dataset


class SqlEngine(Protocol):
    """Relations by name, and the answers of statements about them."""

    def open_table(self, name: str, uri: str, dataset: pyarrow.dataset.Dataset, schema: pa.Schema) -> None:
        """Name the table at `uri`, of which `dataset` has the files. Columns of `schema` that its files lack are null."""

    def register(self, name: str, rows: pa.Table) -> None:
        """Name a table in memory."""

    def create_view(self, name: str, select: str) -> None:
        """Name a SELECT statement; one of that name is replaced."""

    def query(self, select: str) -> pa.Table:
        """The answer of a SELECT statement."""

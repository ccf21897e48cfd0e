"""Connections to DuckDB, and what gives it a table of the log to query.

To create a database takes 20 ms, and a retrain asks a dozen times. So a process has one database, in memory, and each question
gets a connection of its own. Names are temporary, so no connection sees those of another, and they are gone with it.
"""
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa
import pyarrow.dataset

_SETTINGS = {
    "python_enable_replacements": False,  # names are relations, never Python variables
    "enable_external_file_cache": False,  # it would keep what was read of each file for as long as the process lives
}
_lock = threading.Lock()
_databases: dict[tuple[int, str], duckdb.DuckDBPyConnection] = {}  # by process too: a fork has none of the threads of a database


@contextmanager
def connected(*, without_optimizers: str = "") -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for the block.

    Args:
        without_optimizers: those that are switched off, as DuckDB names them. They are a setting of the database, so each choice
            has a database of its own.
    """
    key = os.getpid(), without_optimizers
    with _lock:
        if key not in _databases:
            _databases[key] = duckdb.connect(config=dict(_SETTINGS))
            _databases[key].execute(f"SET disabled_optimizers = '{without_optimizers}'")
        database = _databases[key]
        connection = database.cursor()
    try:
        with connection:
            yield connection
    except duckdb.Error:  # a fatal one ends the database: the next connection gets a new one
        with _lock:
            if _databases.get(key) is database:
                del _databases[key]
        raise


def create_view(db: duckdb.DuckDBPyConnection, name: str, uri: str, dataset: pyarrow.dataset.Dataset, schema: pa.Schema) -> None:
    """Create the temporary view `name` of a dataset at `uri`. Columns of `schema` that files of other tools lack are null.

    DuckDB reads the files itself where it can, 7 times faster than through Arrow. It cannot read an object store without
    downloading an extension, and would misread a path with wildcards in it.

    A NaN in a column of numbers is a row like any other, in WHERE too. Only a MAX of all rows of such a column is not to be asked
    for, as DuckDB answers it with the bounds of the files.
    """
    if dataset.files and "://" not in uri and not re.search(r"[*?\[]", uri):
        files = ", ".join("'" + f"{uri}/{file}".replace("'", "''") + "'" for file in dataset.files)
        # By name, as files of other tools may order columns otherwise. And `can_have_nan`, as the bounds that Parquet keeps of a
        # column leave NaN out: DuckDB would drop a condition that they meet, and skip row groups where they do not meet one.
        source = f"read_parquet([{files}], union_by_name = true, can_have_nan = true)"
    else:
        db.register(f"{name}_dataset", dataset)
        source = f"{name}_dataset"
    select = f"SELECT * FROM {source}"
    if not set(schema.names) <= set(db.sql(select).columns):
        db.register(f"{name}_schema", schema.empty_table())
        select += f" UNION ALL BY NAME SELECT * FROM {name}_schema"
    db.execute(f"CREATE TEMP VIEW {name} AS {select}")

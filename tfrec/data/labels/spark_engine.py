"""Runs the statements of the join on Spark, for a log that one machine cannot join.

Spark reads the Parquet files of the pinned table versions by name, so it needs no Delta extension. sqlglot translates the
statements. An answer leaves Spark as Arrow: the examples of the window must fit into the memory of this process, and the log need
not.
"""
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset

from tfrec.errors import DataError, UsageError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from sqlglot import exp

_INSTALL = "pip install 'tfrec[spark]'"
_JAVA = "Install Java 17 or a later one (apt-get install openjdk-17-jre-headless), or set JAVA_HOME to where it is"
_SCHEMES = {"s3": "s3a"}  # Hadoop's name for it


@contextmanager
def spark_engine() -> Iterator["SparkEngine"]:
    """An engine in the running Spark session or, without one, in a new one by the settings of `spark-defaults.conf`.

    Raises:
        UsageError: PySpark or Java is missing, or Spark does not start.
    """
    session = _running() or _started()
    # views of its own, so no name of the caller's session is replaced
    yield SparkEngine(session.newSession())


class SparkEngine:
    """A `SqlEngine`."""

    def __init__(self, session: "SparkSession") -> None:
        """Take a session, in which the engine makes temporary views."""
        self._spark = session

    def open_table(self, name: str, uri: str, dataset: pyarrow.dataset.Dataset, schema: pa.Schema) -> None:
        """Name the table at `uri`, of which `dataset` has the files. Columns of `schema` that its files lack are null."""
        if not dataset.files:
            self.register(name, schema.empty_table())
            return
        from pyspark.sql.pandas.types import from_arrow_schema

        paths = [hadoop_path(f"{uri}/{file}") for file in dataset.files]
        self._spark.read.schema(from_arrow_schema(schema)).parquet(*paths).createOrReplaceTempView(name)

    def register(self, name: str, rows: pa.Table) -> None:
        """Name a table in memory."""
        self._spark.createDataFrame(rows).createOrReplaceTempView(name)

    def create_view(self, name: str, select: str) -> None:
        """Name a SELECT statement; one of that name is replaced."""
        self._spark.sql(translated(parsed(select))).createOrReplaceTempView(name)

    def query(self, select: str) -> pa.Table:
        """The answer of a SELECT statement.

        Spark puts the text of a common table expression, or of a view, in each place that names it, and plans and runs each copy:
        hundreds in the join's chain of twenty. So what is named more than once is run once, and its rows stand in the plan.

        Raises:
            DataError: Spark cannot run it or read a file.
        """
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException
        from sqlglot import exp

        tree = parsed(select)
        names = Counter(table.name for table in tree.find_all(exp.Table))
        try:
            for part in tree.find_all(exp.CTE):
                rows = self._spark.sql(translated(part.this))
                rows = rows.localCheckpoint() if names[part.alias] > 1 else rows
                rows.createOrReplaceTempView(part.alias)
            for clause in list(tree.find_all(exp.With)):
                clause.pop()
            return self._spark.sql(translated(tree)).toArrow()
        except (PySparkException, Py4JError) as error:
            raise DataError(f"Spark could not join the log: {_brief(error)}") from error


def parsed(select: str) -> "exp.Expr":
    """A statement of DuckDB's dialect."""
    import sqlglot

    return sqlglot.parse_one(select, read="duckdb")


def translated(query: "exp.Expr") -> str:
    """A statement in Spark's dialect."""
    import sqlglot

    return query.sql("spark", unsupported_level=sqlglot.ErrorLevel.RAISE, comments=False)


def hadoop_path(path: str) -> str:
    """A local path or URL as Hadoop takes it: with its names of schemes, and characters that would be wildcards escaped."""
    scheme, found, rest = path.partition("://")
    # a bare path would be a name of the cluster's own file system
    path = f"{_SCHEMES.get(scheme, scheme)}://{rest}" if found else f"file://{Path(path).absolute()}"
    return re.sub(r"([*?\[\]{}\\])", r"\\\1", path)


def _running() -> "SparkSession | None":
    try:
        import sqlglot  # noqa: F401
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise UsageError(f"The engine spark needs PySpark and sqlglot ({error}): {_INSTALL}") from error
    return SparkSession.getActiveSession()


def _started() -> "SparkSession":
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    home = os.environ.get("JAVA_HOME")
    java = Path(home, "bin", "java") if home else shutil.which("java")
    if "SPARK_REMOTE" not in os.environ and (java is None or not Path(java).is_file()):
        raise UsageError(f"The engine spark needs Java, got {'none' if java is None else f'no {java}'}. {_JAVA}.")
    try:
        session = SparkSession.builder.appName("tfrec join").config("spark.ui.showConsoleProgress", "false").getOrCreate()
    except PySparkException as error:
        raise UsageError(f"Spark does not start: {_brief(error)} {_JAVA}.") from error
    return session


def _brief(error: Exception) -> str:
    """The first line of an error; below it is Java's stack."""
    return str(error).strip().partition("\n")[0]

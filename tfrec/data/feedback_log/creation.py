"""Creates a Delta table of the feedback log at its first use, also when several processes use it first at the same moment."""
import contextlib

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from tfrec.data.feedback_log.parquet_file import BOUNDED


def properties_of(schema: pa.Schema) -> dict[str, str | None]:
    """What a new table tells its readers and writers, those of other tools among them."""
    return {
        "delta.dataSkippingStatsColumns": ",".join(name for name in BOUNDED if name in schema.names),
        "delta.deletedFileRetentionDuration": "interval 1 days",
        "delta.logRetentionDuration": "interval 1 days",
    }


def open_or_create(uri: str, schema: pa.Schema) -> DeltaTable:
    """Open the table at an object store's URL, and create it if there is none.

    Raises:
        DeltaError: its Delta log cannot be read.
        OSError: the store does not answer.
    """
    with contextlib.suppress(TableNotFoundError):  # not asked beforehand: each question is a request
        return DeltaTable(uri)
    try:
        DeltaTable.create(uri, schema=schema, mode="ignore", configuration=properties_of(schema))
    except CommitFailedError:
        with contextlib.suppress(TableNotFoundError):  # another process created it in between
            return DeltaTable(uri)
        raise
    return DeltaTable(uri)

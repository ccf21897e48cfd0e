"""A catalogue file as a table, for those who have no use for its texts. Arrow reads it, not Python."""
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.json

from tfrec.errors import DataError

_BLOCK = 64 << 20  # bytes: no item is longer


def read_items(path: Path, columns: Sequence[str] = ()) -> pa.Table:
    """`id`, `tags` and `available` of the items of a catalogue file, null where the default holds, and some of their numbers.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return _read(path, columns)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: the catalogue cannot be read: {error}. Publish the version again.") from error


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    numeric = [("numeric", pa.struct([(name, pa.float64()) for name in columns]))] if columns else []
    schema = pa.schema([("id", pa.string()), ("tags", pa.list_(pa.string())), ("available", pa.bool_()), *numeric])
    return pa.json.read_json(path, read_options=pa.json.ReadOptions(block_size=_BLOCK), parse_options=pa.json.ParseOptions(
        explicit_schema=schema, unexpected_field_behavior="ignore")).combine_chunks()

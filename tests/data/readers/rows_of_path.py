"""All rows behind a path, without a record type."""
from collections.abc import Iterator
from pathlib import Path

from tfrec.data.readers.files import data_files
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.readers.rows import Row, rows_of


def read_rows(path: Path, *, quarantine: Quarantine | None) -> Iterator[tuple[int, Row]]:
    for file in data_files(path):
        yield from rows_of(file, quarantine=quarantine)

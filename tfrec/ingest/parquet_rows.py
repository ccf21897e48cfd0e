"""The rows of a Parquet file, which is known by its content."""
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tfrec.data.readers.files import check_content, named, unreadable
from tfrec.errors import DataError
from tfrec.ingest.ledger import Stamp
from tfrec.ingest.messages import Message, damaged

_BATCH_ROWS = 4096


class ParquetFile:
    """A file that does not change once it is whole.

    Args:
        path: the file.
        folders: the columns that its folders name.

    Raises:
        DataError: the file cannot be read, or is not whole yet.
    """

    def __init__(self, path: Path, folders: Mapping[str, str | None]) -> None:
        check_content(named(path, default=".parquet"))
        self.path, self._folders = path, folders
        try:
            self._stamp = Stamp.of(path)
            with path.open("rb") as file:
                self.key = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            self._table = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(path, error) from error
        self.rows: int = self._table.metadata.num_rows
        self._read = 0

    def read(self, start: int, *, stop: int | None = None) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows from number `start` on, up to `stop`, in parts.

        Raises:
            DataError: the file is damaged, or was changed meanwhile.
        """
        stop = self.rows if stop is None else stop
        try:
            for batch in self._table.iter_batches(batch_size=_BATCH_ROWS):
                first, self._read = self._read, self._read + batch.num_rows
                rows = batch.slice(max(0, start - first), max(0, stop - max(first, start))).to_pylist()
                if Stamp.of(self.path) != self._stamp:
                    raise DataError(f"{self.path}: it was changed while it was read. Rows that are in the log already are known "
                                    "by their ids; run this again when it is whole, and write such files under another name "
                                    "first.")
                if rows:
                    yield [{**self._folders, **row} for row in rows] if self._folders else rows
                if self._read >= stop:
                    return
        except (OSError, pa.ArrowException) as error:
            raise damaged(self.path, error) from error

    @property
    def bytes_read(self) -> int:
        """About how many bytes of the file were read."""
        return self._stamp.size * self._read // max(1, self.rows)

    def stamp(self) -> Stamp:
        """The state of the file when it was opened."""
        return self._stamp

    def close(self) -> None:
        """Let go of the file."""
        self._table.close()


def messages_of_rows(rows: Sequence[Mapping[str, Any]], start: int, shift: int, path: Path) -> list[Message]:
    """Rows from number `start` on as messages, whose positions are their numbers plus `shift`."""
    return [Message(n + shift, n + shift, str(path), n, row) for n, row in enumerate(rows, start=start + 1)]

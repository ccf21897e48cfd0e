"""Reads parts of files once more that a kill has left between the two tables of the log, under the positions that they had.

Impressions of such a part are in the log and outcomes are not. The file may have another name by now, so others are tried, too.
"""
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

from tfrec.errors import DataError
from tfrec.ingest.json_lines import JsonLinesFile, messages_of_lines
from tfrec.ingest.ledger import Replay
from tfrec.ingest.messages import Message
from tfrec.ingest.parquet_rows import ParquetFile, messages_of_rows

Folders = Mapping[str, str | None]  # columns that the folders of a file name
logger = logging.getLogger(__name__)


def replayed(replays: Sequence[Replay], kind: Literal["jsonl", "parquet"],
             listed: Callable[[], Iterable[tuple[Path, Folders]]]) -> Iterator[list[Message]]:
    """Yield the messages of the parts. A file that is gone, or has changed, is told.

    Args:
        replays: the parts.
        kind: of the files.
        listed: all files of the source.

    Raises:
        DataError: a file is where it was, and cannot be read.
    """
    read = _rows if kind == "parquet" else _lines
    for replay in replays:
        known = Path(replay.file.path)
        for path, folders in [(known, {}), *listed()]:
            try:
                if path.is_file() and (yield from read(path, folders, replay)):
                    break
            except DataError as error:
                if path == known:
                    raise DataError(f"{error} A kill has left it half in the log, so it comes first. If it cannot be mended, "
                                    "remove it to go on without the rest of it.") from error
        else:
            logger.error("%s: it is gone or has changed, and %s to %s of it may be missing in the log", known,
                         f"{replay.start:,}", f"{replay.stop:,}")


def _rows(path: Path, folders: Folders, replay: Replay) -> Generator[list[Message], None, bool]:
    """Yield the rows of the part; returns False when it is another file."""
    with closing(ParquetFile(path, folders)) as file:
        if file.key != replay.file.key:
            return False
        start = replay.start
        for rows in file.read(start, stop=replay.stop):
            yield messages_of_rows(rows, start, replay.base - replay.start, path)
            start += len(rows)
        return True


def _lines(path: Path, _: Folders, replay: Replay) -> Generator[list[Message], None, bool]:
    """Yield the lines of the part; returns False when it is another file."""
    with closing(JsonLinesFile(path)) as file:
        if not file.skip(replay.file._replace(consumed=replay.start)):
            return False
        for part in file.lines():
            yield messages_of_lines([line for line in part if line.stop <= replay.stop], replay.base - replay.start, path)
            if part[-1].stop >= replay.stop:
                break
        return True

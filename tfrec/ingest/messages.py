"""What a source gives: messages in order, each with its place, so that every record has a number and none is taken twice."""
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tfrec.errors import DataError


class Message(NamedTuple):
    """A message of a topic, a line or a row. Its records are numbered `seq`, `seq` + 1 and so on, all at most `upto`."""

    seq: int
    upto: int  # the position of its writer after it
    origin: str  # the file, or topic and partition
    line: int  # the line or row, from 1, or the offset
    content: bytes | Mapping[str, Any] | None  # JSON or a row; None: there is nothing, as in a tombstone of a topic


Arrived = Mapping[str, Sequence[Message]]  # by writer


class Source(Protocol):
    """A source of messages of one or many writers, which starts where the log says that each writer is."""

    def arrivals(self) -> Iterator[Arrived]:
        """Yield what arrives, and an empty mapping when nothing has for a moment. Ends when all of it was read."""

    def committing(self) -> None:
        """What was yielded is about to be committed."""

    def committed(self, upto: Mapping[str, int]) -> None:
        """What was yielded is in the log, up to these positions."""

    def label(self, writer: str) -> str:
        """What people call the writer's part of the source."""

    def lag(self) -> Mapping[str, int]:
        """What is there and was not read yet, by writer: messages of a topic, bytes of files."""

    def size(self) -> tuple[int, int] | None:
        """How much of the source was read, and of how much, in bytes or messages; None when there is no end."""

    def faults(self) -> list[str]:
        """What is wrong with parts of the source that could not be read."""

    def close(self) -> None:
        """Let go of connections and files."""


def damaged(path: Path, error: Exception) -> DataError:
    """The error for a file that cannot be read to its end."""
    return DataError(f"{path}: truncated or damaged ({error}). What was read before is in the log. Write the file again, and run "
                     "this again.")

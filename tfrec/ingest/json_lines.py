"""A file of JSON lines, also gzipped, that may grow while it is read: whole lines, and the digest of what was read."""
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, cast

from tfrec.data.readers.files import check_content, named
from tfrec.errors import DataError
from tfrec.ingest.ledger import KnownFile, Stamp
from tfrec.ingest.messages import Message, damaged

_CHUNK_BYTES = 1 << 20
MAX_LINE_BYTES = 64 << 20
_DIGEST_BYTES = 16
_TAIL_BYTES = 256


class Line(NamedTuple):
    """A line without its end. It ends before byte `stop` of the text; None: an empty line."""

    number: int
    start: int
    stop: int
    content: bytes | None


class JsonLinesFile:
    """An open file, read from its start or from where it was left.

    Raises:
        DataError: the file cannot be opened, or is not what its name says.
    """

    def __init__(self, path: Path) -> None:
        check_content(named(path, default=".jsonl"))
        self.path = path
        self.number, self.position, self._rest = 0, 0, b""  # lines and bytes that were given, and what was read beyond them
        try:
            self._raw = path.open("rb")
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}.") from error
        self.packed = self._raw.read(2) == b"\x1f\x8b"
        self._rewind()

    def key(self) -> str | None:
        """The digest of the first line; None when there is none yet. The file is read from its start afterwards."""
        first = next((line.content for part in self.lines() for line in part if line.content is not None), None)
        self._rewind()
        return None if first is None else _digest(first)

    def skip(self, known: KnownFile) -> bool:
        """Move to where a known file was left, if this is that file; else to the start."""
        self._rewind()
        is_known = self._skip_to(known.stop) and self.digest() == known.digest
        if not is_known or known.consumed < known.stop:
            self._rewind()
        return is_known and self._skip_to(known.consumed)

    def lines(self) -> Iterator[list[Line]]:
        """Yield whole lines, in parts, up to the end that the file has now. A last line without an end is one if it is whole.

        Raises:
            DataError: a packed file is truncated or damaged, or a line is endless.
        """
        while chunk := self._read():
            text, end, rest = (self._rest + chunk).rpartition(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise DataError(f"{self.path} line {self.number + 1}: more than {MAX_LINE_BYTES:,} bytes. Expected one JSON "
                                "object a line; a JSON array becomes lines by: jq -c '.[]' in.json > out.jsonl.")
            self._rest = rest
            if end:
                yield self._lines(text, end)
        if _is_whole(self._rest):
            rest, self._rest = self._rest, b""
            yield self._lines(rest, b"")

    @property
    def unread(self) -> int:
        """Bytes of a last line that is not whole."""
        return len(self._rest)

    def digest(self) -> str:
        """The digest of everything up to the last line of the last part."""
        return self._hash.hexdigest()

    @property
    def bytes_read(self) -> int:
        """Bytes of the file, packed or not, that were read."""
        return self._raw.tell()

    def stamp(self) -> Stamp:
        """The state of the file that is open, whatever its name means by now."""
        return Stamp.of(self._raw.fileno())

    def is_still(self, path: Path) -> bool:
        """Whether `path` means this file."""
        try:
            return Stamp.of(path).inode == self.stamp().inode
        except FileNotFoundError:
            return False

    def is_written_anew(self) -> bool:
        """Whether the end of what was read has changed: the file was cut off."""
        return os.pread(self._raw.fileno(), len(self._tail), self._raw.tell() - len(self._tail)) != self._tail

    def close(self) -> None:
        """Let go of the file."""
        self._raw.close()

    def _rewind(self) -> None:
        self._raw.seek(0)
        self._text: IO[bytes] = cast(IO[bytes], gzip.GzipFile(fileobj=self._raw)) if self.packed else self._raw
        self._rest, self._hash = b"", hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self.number, self.position, self._tail = 0, 0, b""

    def _read(self, most: int = _CHUNK_BYTES) -> bytes:
        try:
            chunk = self._text.read(most)
            self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
            return chunk
        except (EOFError, zlib.error, OSError) as error:
            raise damaged(self.path, error) from error

    def _lines(self, text: bytes, end: bytes) -> list[Line]:
        """The lines of a text, the last of which has this end."""
        self._hash.update(text + end)
        found = []
        for number, line in enumerate(text.split(b"\n"), start=self.number + 1):
            start, self.position = self.position, self.position + len(line) + 1
            content = line.strip(b" \t\r")
            found.append(Line(number, start, self.position, content or None))
        self.number += len(found)
        if not end:  # which is then read as an empty line of the same number
            self.position, self.number = self.position - 1, self.number - 1
            found[-1] = found[-1]._replace(stop=self.position)
        return found

    def _skip_to(self, stop: int) -> bool:
        """Read on to a byte of the text; False when the text ends before."""
        while self.position < stop:
            chunk = self._read(min(_CHUNK_BYTES, stop - self.position))
            if not chunk:
                return False
            self._hash.update(chunk)
            self.position += len(chunk)
            self.number += chunk.count(b"\n")
        return True


def messages_of_lines(lines: Sequence[Line], shift: int, path: Path) -> list[Message]:
    """Lines as messages, whose positions are their bytes plus `shift`."""
    return [Message(line.start + shift + 1, line.stop + shift, str(path), line.number, line.content) for line in lines]


def _is_whole(text: bytes) -> bool:
    """Whether it is a JSON object or list; of a number, more digits may follow."""
    if text.lstrip()[:1] not in (b"{", b"["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()

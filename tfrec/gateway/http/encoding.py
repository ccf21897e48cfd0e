"""How a body is written: JSON in UTF-8, as it is or packed by gzip. Anything else is refused by name, with what to send.

What is packed is unpacked up to a bound, not beyond it: a thousandth of a body may be the whole of another.
"""
import re
import zlib
from enum import Enum

_JSON = re.compile(rb"(application/(json|[\w.+-]+\+json)|text/json)", re.IGNORECASE)
_CHARSET = re.compile(rb"""charset\s*=\s*["']?([^"';\s]+)""", re.IGNORECASE)
_UTF_8 = (b"utf-8", b"utf8", b"us-ascii", b"ascii")
_GZIP = 16 + zlib.MAX_WBITS  # zlib's way to say it
_MEMBERS = 20  # a body may be several gzip files, one behind the other; each costs a copy of what follows it


class Coding(Enum):
    """How a body is packed."""

    NONE = ""
    GZIP = "gzip"


class NotReadable(Exception):
    """A body that is not written as it should be; `status` is HTTP's."""

    def __init__(self, status: int, message: str, *headers: tuple[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


def coding_of(content_type: bytes | None, content_encoding: bytes | None) -> Coding:
    """How the body is packed, by its headers.

    Raises:
        NotReadable: 415, it is no JSON in UTF-8, or packed in another way.
    """
    kind = (content_type or b"").partition(b";")[0].strip()
    if kind and not _JSON.fullmatch(kind):
        raise NotReadable(415, f"A body is JSON, not {_shown(kind)}. Send the header `Content-Type: application/json`.",
                          ("accept", "application/json"))
    charset = _CHARSET.search(content_type or b"")
    if charset and charset[1].lower() not in _UTF_8:
        raise NotReadable(415, f"JSON is written in UTF-8, not {_shown(charset[1])}.", ("accept", "application/json"))
    coding = (content_encoding or b"").strip().lower()
    if coding in (b"", b"identity"):
        return Coding.NONE
    if coding in (b"gzip", b"x-gzip"):
        return Coding.GZIP
    raise NotReadable(415, f"A body may be packed by gzip, not by {_shown(coding)}.", ("accept-encoding", "gzip"))


def unpacked(raw: bytes, coding: Coding, *, most: int) -> bytes:
    """The body itself, of at most `most` bytes.

    Raises:
        NotReadable: 413, it is larger; 400, it is not packed as its header says, or cut short.
    """
    if coding is Coding.NONE:
        return raw
    parts, size, rest = [], 0, raw
    try:
        for _ in range(_MEMBERS):
            reader = zlib.decompressobj(_GZIP)
            parts.append(reader.decompress(rest, most - size + 1))
            size += len(parts[-1])
            if size > most:
                raise NotReadable(413, f"A body may have {most} bytes when it is unpacked. Send fewer requests at once.")
            if not reader.eof:
                raise NotReadable(400, "The gzip of the body is cut short.")
            rest = reader.unused_data
            if not rest:
                return b"".join(parts)
        raise NotReadable(400, f"The body is more than {_MEMBERS} gzip files, one behind the other. Send one.")
    except zlib.error:
        raise NotReadable(400, "The body is no gzip, as its Content-Encoding says.") from None


def _shown(word: bytes) -> str:
    return word.decode("ascii", "replace")[:50]

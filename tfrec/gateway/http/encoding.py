"""The encoding of bodies: JSON in UTF-8, plain or compressed by gzip. Anything else is refused by name, with what to send."""
import re
import zlib
from enum import Enum

from tfrec.gateway.http.refusal import RequestRefused

_JSON = re.compile(rb"(application/(json|[\w.+-]+\+json)|text/json)", re.IGNORECASE)
_CHARSET = re.compile(rb"""charset\s*=\s*["']?([^"';\s]+)""", re.IGNORECASE)
_UTF_8 = (b"utf-8", b"utf8", b"us-ascii", b"ascii")
_GZIP = 16 + zlib.MAX_WBITS  # how zlib is told that the data is gzip
_MAX_MEMBERS = 20  # a body may be several gzip files in a row; each costs a copy of what follows it


class Coding(Enum):
    """How a body is compressed."""

    NONE = ""
    GZIP = "gzip"


def coding_of(content_type: bytes | None, content_encoding: bytes | None) -> Coding:
    """How the body is compressed, by its headers.

    Raises:
        RequestRefused: 415, it is not JSON in UTF-8, or it is compressed by something else.
    """
    kind = (content_type or b"").partition(b";")[0].strip()
    if kind and not _JSON.fullmatch(kind):
        raise RequestRefused(415, f"A body is JSON, not {_shown(kind)}. Send the header `Content-Type: application/json`.",
                             ("accept", "application/json"))
    charset = _CHARSET.search(content_type or b"")
    if charset and charset[1].lower() not in _UTF_8:
        raise RequestRefused(415, f"JSON is written in UTF-8, not {_shown(charset[1])}.", ("accept", "application/json"))
    coding = (content_encoding or b"").strip().lower()
    if coding in (b"", b"identity"):
        return Coding.NONE
    if coding in (b"gzip", b"x-gzip"):
        return Coding.GZIP
    raise RequestRefused(415, f"A body may be compressed by gzip, not by {_shown(coding)}.", ("accept-encoding", "gzip"))


def unpacked(raw: bytes, coding: Coding, *, max_bytes: int) -> bytes:
    """The body itself, of at most `max_bytes`: it is not unpacked beyond that, as a body may grow a thousandfold.

    Raises:
        RequestRefused: 413, it is larger; 400, it is not compressed as its header says, or it is cut short.
    """
    if coding is Coding.NONE:
        return raw
    parts, size, rest = [], 0, raw
    try:
        for _ in range(_MAX_MEMBERS):
            reader = zlib.decompressobj(_GZIP)
            parts.append(reader.decompress(rest, max_bytes - size + 1))
            size += len(parts[-1])
            if size > max_bytes:
                raise RequestRefused(413, f"An unpacked body may have {max_bytes} bytes. Send fewer requests at once.")
            if not reader.eof:
                raise RequestRefused(400, "The gzip of the body is cut short.")
            rest = reader.unused_data
            if not rest:
                return b"".join(parts)
        raise RequestRefused(400, f"The body is more than {_MAX_MEMBERS} gzip files in a row. Send one.")
    except zlib.error:
        raise RequestRefused(400, "The body is not gzip, as its Content-Encoding says.") from None


def _shown(word: bytes) -> str:
    return word.decode("ascii", "replace")[:50]

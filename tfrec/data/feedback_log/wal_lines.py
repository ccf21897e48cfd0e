"""The lines of a write-ahead file, each with a checksum by which a line that was cut short or damaged is found.

    crc32 seq kind payload        e.g.  5f1c03aa 41 outcomes {"event_id": ...}

The checksum is that of the rest of the line. Zeros between or after lines are room for lines to come.
"""
import base64
import re
import zlib
from collections.abc import Sequence
from typing import NamedTuple

_USER = re.compile(r'"user":"([^"\\]*)"')


class Entry(NamedTuple):
    """A line of the file."""

    seq: int
    kind: str
    payload: str  # one line of JSON


def encode(entries: Sequence[Entry]) -> bytes:
    """The lines of some entries."""
    bodies = [f"{entry.seq} {entry.kind} {entry.payload}".encode() for entry in entries]
    return b"".join(_checksum(body) + b" " + body + b"\n" for body in bodies)


def decode(data: bytes) -> tuple[list[Entry], list[bytes]]:
    """The entries of a file, and the lines that do not match their checksums."""
    entries, damaged = [], []
    for line in data.split(b"\n"):
        match line.split(b" ", 3):
            case [crc, seq, kind, payload] if _checksum(line[9:]) == crc:
                entries.append(Entry(int(seq), kind.decode(), payload.decode()))
            case _ if line.strip(b"\0"):
                damaged.append(line.strip(b"\0"))
    return entries, damaged


def legible(line: bytes) -> dict[str, str]:
    """A damaged line as a field of JSON: `line` where it is text, else `line_base64`."""
    try:
        return {"line": line.decode()}
    except UnicodeDecodeError:
        return {"line_base64": base64.b64encode(line).decode()}


def user_of(payload: str) -> str:
    """The user of a record as JSON, a pseudonym; empty if there is none."""
    found = _USER.search(payload)
    return found[1] if found else ""


def _checksum(body: bytes) -> bytes:
    return b"%08x" % zlib.crc32(body)

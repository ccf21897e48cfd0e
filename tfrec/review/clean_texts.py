"""The texts with which nothing was wrong, as digests in a file, so that they are looked at once."""
from collections.abc import Iterable
from pathlib import Path

from tfrec.data import durable_files

_SIZE = 16  # bytes of a digest


class CleanTexts:
    """Digests in a file. One that is damaged, or of another judge, is read as empty: it is a cache.

    Args:
        path: of the file.
        identity: of what judged them.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._path, self._head = path, f"{identity}\n".encode()
        self._kept = self._read()
        self._now = self._kept

    def __contains__(self, digest: str) -> bool:
        return bytes.fromhex(digest) in self._kept

    def keep_only(self, digests: Iterable[str]) -> None:
        """From the next `write` on, these are the clean ones."""
        self._now = {bytes.fromhex(digest) for digest in digests}

    def write(self) -> None:
        """Put them on disk, if they have changed."""
        if self._now != self._kept or not self._path.is_file():
            durable_files.replace(self._path, self._head + b"".join(sorted(self._now)))

    def _read(self) -> set[bytes]:
        try:
            head, _, body = self._path.read_bytes().partition(b"\n")
        except OSError:
            return set()
        if head + b"\n" != self._head or len(body) % _SIZE:
            return set()
        return {body[start : start + _SIZE] for start in range(0, len(body), _SIZE)}

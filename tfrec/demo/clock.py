"""The time of a replay. The process that replays tells it to the process that answers, through eight bytes of a file."""
import os
import struct
from pathlib import Path

_SECOND = struct.Struct("<q")


class ReplayClock:
    """A clock that stands still until it is told the time. The file `path` holds it, in seconds since 1970."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def tell(self, second: int) -> None:
        """Set the time."""
        os.pwrite(self._file, _SECOND.pack(second), 0)

    def __call__(self) -> float:
        """The time that was told last; 0 before the first."""
        told = os.pread(self._file, _SECOND.size, 0)
        return float(_SECOND.unpack(told)[0]) if told else 0.0

    def close(self) -> None:
        """Close the file without removing it."""
        os.close(self._file)

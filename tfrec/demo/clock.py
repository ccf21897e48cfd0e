"""The second in which a replay is, told by the process that replays to the one that answers, through eight bytes of a file."""
import os
import struct
from pathlib import Path

_SECOND = struct.Struct("<q")


class ReplayClock:
    """A clock that stands until it is told: seconds since 1970 in `path`."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def tell(self, second: int) -> None:
        """From now on it is `second`."""
        os.pwrite(self._file, _SECOND.pack(second), 0)

    def __call__(self) -> float:
        """The second that was told last; 0 before the first."""
        told = os.pread(self._file, _SECOND.size, 0)
        return float(_SECOND.unpack(told)[0]) if told else 0.0

    def close(self) -> None:
        """Close the file, which stays."""
        os.close(self._file)

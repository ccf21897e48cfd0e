"""How long to wait for a process, by the processor time that it uses and not by the wall clock.

On a busy machine everything takes longer, and a fixed time limit fails good servers. A process that is slowed down goes on using
processor time, of which it has the same budget as ever; one that hangs uses none.
"""
import os
import time
from pathlib import Path

from tfrec.errors import ServingError


class Patience:
    """Call it repeatedly while waiting; it raises when waiting longer is of no use.

    Args:
        pid: of the process; its children count.
        seconds: of processor time that it may use from now on, and of wall clock that it may use none.
    """

    def __init__(self, pid: int, seconds: float) -> None:
        self._pid, self._seconds = pid, seconds
        self._began = self._moved = time.monotonic()
        self._first = self._last = _used(pid)

    def __call__(self) -> None:
        """Raise `ServingError` when the process has used its time, or uses none."""
        used, now = _used(self._pid), time.monotonic()
        if used is None or self._first is None or self._last is None:  # no /proc: by the clock
            spent = now - self._began
        else:
            if used > self._last:
                self._last, self._moved = used, now
            spent = used - self._first
            if now - self._moved > self._seconds:
                raise ServingError(f"The model server did not answer: it has done nothing for {self._seconds:g} s.")
        if spent > self._seconds:
            raise ServingError(f"The model server did not answer within {self._seconds:g} s of processor time.")


def _used(pid: int) -> float | None:
    """Seconds of processor time of a process and its children; None without /proc."""
    try:
        total = _ticks(pid)
        children = Path(f"/proc/{pid}/task/{pid}/children")
        total += sum(_ticks(int(child)) for child in (children.read_text().split() if children.is_file() else ()))
    except (OSError, ValueError, IndexError):
        return None
    return float(total / os.sysconf("SC_CLK_TCK"))


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])  # utime, stime: the 14th and 15th of proc(5)

"""The moments at which a job that runs on begins a run: at a fixed rhythm, whatever a run takes."""
import math
import threading
import time
from collections.abc import Callable, Iterator


def beats(every: float, stopping: threading.Event, *, clock: Callable[[], float] = time.monotonic) -> Iterator[int]:
    """Yield at each beat how many were missed since the one before, until `stopping` is set.

    Beats are whole multiples of `every` after the first, so they do not drift. A beat that falls into a run is skipped, not made
    up for: the next run reads what has come meanwhile.

    Args:
        every: seconds from beat to beat.
        stopping: ends a wait at once.
        clock: seconds that only grow.
    """
    first, number, missed = clock(), 0, 0
    while not stopping.is_set():
        yield missed
        following = max(number + 1, math.ceil((clock() - first) / every))
        missed, number = following - number - 1, following
        stopping.wait(max(0.0, first + number * every - clock()))

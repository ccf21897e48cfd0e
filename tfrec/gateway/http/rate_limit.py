"""The rate limit of a key: a token bucket. A list costs as many calls as it has entries."""
import math
import threading
import time
from collections.abc import Callable

from tfrec.gateway.http.refusal import RequestRefused
from tfrec.gateway.metrics import Metrics

_BURST_SECONDS = 2.0  # of its rate that a caller may use at once after a rest
_MIN_WAIT = 1e-3  # seconds; a caller that is refused waits at least that long


class TokenBucket:
    """`rate` calls a second, and two seconds' worth at once after a rest. Safe to share between threads.

    Args:
        rate: calls a second; None: no limit.
        clock: monotonic seconds.
    """

    def __init__(self, rate: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._clock = clock
        self._capacity = max(1.0, (rate or 0.0) * _BURST_SECONDS)
        self._tokens, self._filled_at = self._capacity, clock()
        self._lock = threading.Lock()

    @property
    def burst(self) -> int:
        """Calls that may come at once after a rest."""
        return int(self._capacity)

    def take(self, n: int = 1) -> float:
        """Take `n` calls and return 0, or take none and return the seconds until there may be as many.

        A caller never owes calls. More than `burst` at once are always refused, however long the rest was.
        """
        if self.rate is None:
            return 0.0
        with self._lock:
            now = self._clock()
            self._tokens, self._filled_at = min(self._capacity, self._tokens + (now - self._filled_at) * self.rate), now
            if n <= self._tokens:
                self._tokens -= n
                return 0.0
            return max(_MIN_WAIT, (min(n, self._capacity) - self._tokens) / self.rate)


def charge_call(bucket: TokenBucket, metrics: Metrics) -> None:
    """Take one call, before anything is read.

    Raises:
        RequestRefused: 429, the rate is used up.
    """
    if wait := bucket.take():
        metrics.shed.labels("rate").inc()
        raise RequestRefused(429, "This key's rate is used up.", ("retry-after", str(math.ceil(wait))))


def charge_list(bucket: TokenBucket, n: int, metrics: Metrics) -> None:
    """Take what a list of `n` entries costs beyond the one call that was taken before it was read.

    Raises:
        RequestRefused: 429, the rate is used up.
    """
    if n > 1 and (wait := bucket.take(n - 1)):
        metrics.shed.labels("rate").inc()
        allowed = f"{bucket.burst} at once, {bucket.rate:g} a second"
        raise RequestRefused(429, f"A list counts as many calls as it has entries, here {n}; this key may make {allowed}. "
                             "Send shorter lists, or later.", ("retry-after", str(math.ceil(wait))))

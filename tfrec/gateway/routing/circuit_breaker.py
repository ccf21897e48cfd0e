"""A circuit breaker: after a few calls without an answer, the model server is left alone for a while.

While the circuit is open, every call fails at once with the last error, so users get a fallback and not a timeout. After
`open_seconds` one call is let through as a probe; the others keep failing until the probe's result is known.
"""
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tfrec.client import deadline
from tfrec.client.request_errors import RequestFailed
from tfrec.gateway.metrics import Metrics

T = TypeVar("T")


class CircuitBreaker:
    """Calls the model server unless it counts as down. Safe to share between threads.

    Args:
        call_seconds: how long a call usually may take. A timeout of a call that had less says nothing about the server.
        metrics: counts errors and measures the time of answers.
        failures: calls in a row without an answer after which the circuit opens.
        open_seconds: how long it stays open before a probe.
        clock: monotonic seconds.
    """

    def __init__(
        self, *, call_seconds: float, metrics: Metrics, failures: int = 3, open_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call_seconds = call_seconds
        self._metrics = metrics
        self._max_failures = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._failures = 0  # in a row
        self._open_until = 0.0
        self._last_error: RequestFailed | None = None  # set while the circuit is open
        self._lock = threading.Lock()

    def call(self, ask: Callable[[], T], *, timeout_counts: bool = True) -> T:
        """Return what `ask` returns.

        Args:
            ask: calls the model server.
            timeout_counts: whether a timeout of this call is a sign that the server is down.

        Raises:
            RequestFailed: the call failed, or the circuit is open.
        """
        allowed = deadline.allowed(self._call_seconds)
        self._enter(allowed)
        began = time.perf_counter()
        try:
            answer = ask()
        except RequestFailed as error:
            self._metrics.model_errors.labels(error.code).inc()
            is_timeout = error.code == "DEADLINE_EXCEEDED"
            self._failed(error, counts=not is_timeout or (timeout_counts and allowed >= self._call_seconds))
            raise
        self._close()
        self._metrics.model_seconds.observe(time.perf_counter() - began)
        return answer

    def _enter(self, allowed: float) -> None:
        """Raise the last error while the circuit is open, or become the probe, for as long as this call is `allowed`."""
        with self._lock:
            if self._last_error is None:
                return
            if self._clock() < self._open_until:
                raise RequestFailed(str(self._last_error), code=self._last_error.code)
            self._open_until = self._clock() + allowed

    def _failed(self, error: RequestFailed, *, counts: bool) -> None:
        if not error.down:  # the server answered
            self._close()
            return
        with self._lock:
            if counts:
                self._failures += 1
                if self._failures >= self._max_failures:
                    self._last_error, self._open_until = error, self._clock() + self._open_seconds
            elif self._last_error is not None:  # a probe without a result: the next call probes again
                self._open_until = self._clock()

    def _close(self) -> None:
        with self._lock:
            self._failures, self._last_error = 0, None

"""The deadline of the call that a thread works on.

A call sets its deadline once. Long work checks it before each piece, and a request to the model server takes no longer than is
left.

    with Deadline(seconds=0.3, chosen=True).current():
        client.recommend(...)    # at most 0.3 s, retries included
"""
import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

from tfrec.errors import ServingError

_CURRENT: ContextVar["Deadline | None"] = ContextVar("deadline", default=None)


class CallEnded(ServingError):
    """The deadline has passed, or the caller has gone: nobody waits for the rest of the work."""


class Deadline:
    """The end of one call.

    Args:
        seconds: from now.
        chosen: whether the caller chose it; then a single request to the model server may take all of it.
    """

    def __init__(self, seconds: float, *, chosen: bool = False) -> None:
        self.seconds = seconds
        self.chosen = chosen
        self._end = time.monotonic() + seconds
        self._is_abandoned = False

    @property
    def left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self._end - time.monotonic()

    def abandon(self) -> None:
        """Say that nobody waits for the answer any more. Any thread may call this."""
        self._is_abandoned = True

    def check(self, *, within: float = 0.0) -> None:
        """Raise `CallEnded` if the caller has gone, or if at most `within` seconds are left."""
        if self._is_abandoned:
            raise CallEnded("The caller has gone.")
        if self.left <= within:
            advice = "Send fewer requests at once, or allow more time" if self.chosen else "Send fewer requests at once"
            raise CallEnded(f"The call was not done within {self.seconds:g} s. {advice}.")

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make this the deadline of what the thread does inside the `with`."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)


def check(*, within: float = 0.0) -> None:
    """Raise `CallEnded` if the call that this thread works on has ended, or ends `within` so many seconds."""
    if (deadline := _CURRENT.get()) is not None:
        deadline.check(within=within)


def allowed(usual: float) -> float:
    """The seconds that one request of this thread may take, if it usually may take `usual`."""
    deadline = _CURRENT.get()
    if deadline is None:
        return usual
    return max(0.001, deadline.left if deadline.chosen else min(usual, deadline.left))

"""How long the call that is being worked on may still take, and whether anybody waits for its answer.

A call sets its deadline once, for the thread that works on it; whoever does a long piece of that work asks here before the next
one, and a question to the model server takes no longer than is left.

    with Deadline(seconds=0.3, chosen=True).current():
        client.recommend(...)    # at most .3 s, retries included
"""
import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

from tfrec.errors import ServingError

_CURRENT: ContextVar["Deadline | None"] = ContextVar("deadline", default=None)


class CallEnded(ServingError):
    """The time of a call is up, or its caller has gone: what is left of its work is for nobody."""


class Deadline:
    """The end of one call.

    Args:
        seconds: from now.
        chosen: whether the caller said so; then a single question to the model server may take all of it.
    """

    def __init__(self, seconds: float, *, chosen: bool = False) -> None:
        self.seconds = seconds
        self.chosen = chosen
        self._end = time.monotonic() + seconds
        self._left_alone = False

    @property
    def left(self) -> float:
        """Seconds; negative when it has passed."""
        return self._end - time.monotonic()

    def abandon(self) -> None:
        """Nobody waits for the answer any more. May be called by any thread."""
        self._left_alone = True

    def check(self, *, within: float = 0.0) -> None:
        """Raise `CallEnded` when what is left of the work is for nobody, now or `within` so many seconds."""
        if self._left_alone:
            raise CallEnded("The caller has gone.")
        if self.left <= within:
            advice = "Send fewer requests at once" if self.chosen is False else "Send fewer requests at once, or allow more time"
            raise CallEnded(f"The call was not done within {self.seconds:g} s. {advice}.")

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Let it be that of this thread's work."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)


def check(*, within: float = 0.0) -> None:
    """Raise `CallEnded` when the work of this thread is for nobody any more, now or `within` so many seconds."""
    if (deadline := _CURRENT.get()) is not None:
        deadline.check(within=within)


def allowed(usual: float) -> float:
    """Seconds that one question of this thread's may take, which usually may take `usual`."""
    deadline = _CURRENT.get()
    if deadline is None:
        return usual
    return max(0.001, deadline.left if deadline.chosen else min(usual, deadline.left))

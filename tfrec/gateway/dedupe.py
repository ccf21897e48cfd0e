"""Event ids that the log holds, each with its user, so that an outcome sent again (nobody heard the first answer) is acknowledged
and not written twice.

The newest ids are remembered, those of the log after a restart; the join drops older copies. An id that another call is writing
at this moment is neither new nor safe: its second sender waits for the first one's fate.
"""
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


class Deduplicator:
    """The newest `most` event ids. Safe to share between threads."""

    def __init__(self, *, most: int = 500_000) -> None:
        self.most = most  # about 150 bytes each
        self._known: OrderedDict[Hashable, Future[None]] = OrderedDict()  # done when it is on disk
        self._lock = threading.Lock()

    def fill(self, ids: Iterable[Hashable]) -> None:
        """Remember ids that are in the log, the oldest first."""
        safe: Future[None] = Future()
        safe.set_result(None)
        with self._lock:
            self._known.update((event, safe) for event in ids)
            self._forget()

    @contextmanager
    def writing(self, ids: Sequence[T]) -> Iterator[set[T]]:
        """Which of `ids` are new, for the caller to put on disk inside the `with`; leaves it when the others are on disk too."""
        mine: Future[None] = Future()
        with self._lock:
            others = {self._known[event] for event in ids if event in self._known}
            new = {event for event in ids if event not in self._known}
            self._known.update((event, mine) for event in ids if event in new)
            self._forget()
        try:
            yield new
        except BaseException as error:
            with self._lock:
                for event in new:
                    self._known.pop(event, None)
            mine.set_exception(error)
            raise
        mine.set_result(None)
        for other in others:
            other.result()  # raises what stopped it

    def _forget(self) -> None:
        while len(self._known) > self.most:
            self._known.popitem(last=False)

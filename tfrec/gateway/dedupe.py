"""Drops outcomes that were sent twice: an outcome whose event id is in the log is acknowledged and not written again.

A client that heard no answer sends its outcome again. The newest ids are remembered, also across a restart; the join drops older
copies. If another call is writing an id at this moment, the second sender waits until that call has succeeded or failed.
"""
import threading
from collections import OrderedDict
from collections.abc import Container, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

from tfrec.data.feedback_log.writer import ErasedAmong

T = TypeVar("T", bound=Hashable)


class Deduplicator:
    """Remembers the newest `most` ids, of about 150 bytes each, and those of the log. Safe to share between threads."""

    def __init__(self, *, most: int = 500_000) -> None:
        self._most = most
        self._known: OrderedDict[Hashable, Future[None]] = OrderedDict()  # by id; the future is done when the outcome is on disk
        self._logged: Container[Hashable] = ()
        self._lock = threading.Lock()

    def fill(self, logged: Container[Hashable]) -> None:
        """Know the ids that are in the log; `logged` is asked from then on."""
        self._logged = logged

    @contextmanager
    def writing(self, ids: Sequence[T]) -> Iterator[set[T]]:
        """Yield the ids that are new, for the caller to write inside the `with`; on leaving, wait until the others are on disk.

        Raises whatever stopped another call from writing one of `ids`; then nothing may be acknowledged.
        """
        mine: Future[None] = Future()
        unlogged = {event for event in ids if event not in self._logged}
        with self._lock:
            others = {self._known[event] for event in unlogged if event in self._known}
            new = {event for event in unlogged if event not in self._known}
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
            other.result()

    def note(self, ids: Iterable[T]) -> set[T]:
        """Remember ids that are safe elsewhere; returns those that are new."""
        safe: Future[None] = Future()
        safe.set_result(None)
        unlogged = {event for event in ids if event not in self._logged}
        with self._lock:
            new = {event for event in unlogged if event not in self._known}
            self._known.update((event, safe) for event in new)
            self._forget()
        return new

    def erase(self, erased_among: ErasedAmong) -> None:
        """Forget the ids that begin with users who were erased."""
        with self._lock:
            ids = list(self._known)
        gone = erased_among({one[0] for one in ids if isinstance(one, tuple)})
        with self._lock:
            for one in ids:
                if isinstance(one, tuple) and one[0] in gone:
                    self._known.pop(one, None)

    def _forget(self) -> None:
        while len(self._known) > self._most:
            self._known.popitem(last=False)

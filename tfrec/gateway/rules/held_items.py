"""Items that are not shown because a person has rejected them, or has yet to review them, as the record says by now.

The record only grows, so a look reads what was added since the last one. Where it is damaged or gone, what was hidden stays so.
"""
import logging
import threading
import time

from tfrec.config import Config
from tfrec.errors import DataError
from tfrec.gateway.metrics import Metrics
from tfrec.review.standing import ReviewState

log = logging.getLogger(__name__)


class HeldItems:
    """Of a run. Safe to share between threads.

    Args:
        config: names the run, and says whether what waits is hidden.
        metrics: show how many wait and how many are hidden.
        look_seconds: how often the record is looked at.

    Raises:
        DataError: the record is damaged.
    """

    def __init__(self, config: Config, *, metrics: Metrics, look_seconds: float = 1.0) -> None:
        self._state = ReviewState.of(config.run)
        self._hold, self._look_seconds = config.review.hold, look_seconds
        self._lock = threading.Lock()
        self._looked_at = time.monotonic()
        self._ids, self._waiting, self._problem = self._state.hidden(hold=self._hold), len(self._state.waiting()), ""
        metrics.review_waiting.set_function(self._count_waiting)
        metrics.review_hidden.set_function(lambda: float(len(self.ids())))
        metrics.review_problem.set_function(lambda: float(bool(self.problem())))

    def ids(self) -> tuple[str, ...]:
        """The items that no answer may have."""
        self._look()
        return self._ids

    def problem(self) -> str:
        """What is wrong with the record; "" if nothing is."""
        self._look()
        return self._problem

    def _count_waiting(self) -> float:
        self._look()
        return float(self._waiting)

    def _look(self) -> None:
        """Now and then, read what was added."""
        if time.monotonic() - self._looked_at < self._look_seconds or not self._lock.acquire(blocking=False):
            return
        try:
            self._looked_at = time.monotonic()
            if self._state.record.read():
                self._ids, self._waiting = self._state.hidden(hold=self._hold), len(self._state.waiting())
            self._problem = ""
        except (DataError, OSError) as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.error("what was hidden before stays hidden: %s", error)
        finally:
            self._lock.release()

"""Since when people are known, so that what newcomers choose is counted apart (`tfrec/data/behaviour/newcomers.py`)."""
import threading
from collections import OrderedDict
from collections.abc import Iterable

from tfrec.data.behaviour.newcomers import HISTORY_SECONDS


class FirstSeen:
    """The second in which each of the `most` people who acted last was first met. Safe to share between threads.

    It is the second of arrival: what an outcome claims makes nobody known for longer. Who is forgotten is new again.
    """

    def __init__(self, *, most: int = 500_000) -> None:
        self._most = most  # about 150 bytes each
        self._since: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def fill(self, users: Iterable[str], since: Iterable[int]) -> None:
        """People who are known since these seconds; the earlier second stays."""
        with self._lock:
            for user, second in zip(users, since, strict=True):
                self._since[user] = min(second, self._since.get(user, second))
                self._since.move_to_end(user)
            while len(self._since) > self._most:
                self._since.popitem(last=False)

    def is_newcomer(self, user: str, time: int, *, now: int) -> bool:
        """Whether `user`, who acts at `time` and is met at `now`, is a newcomer."""
        self.fill([user], [now])
        with self._lock:
            return time - self._since.get(user, now) < HISTORY_SECONDS

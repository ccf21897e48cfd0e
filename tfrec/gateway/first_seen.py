"""Since when users are known, so that newcomers' choices are counted apart (`data/behaviour/newcomers.py`)."""
import threading
from collections import OrderedDict
from collections.abc import Iterable

from tfrec.data.behaviour.newcomers import HISTORY_SECONDS


class FirstSeen:
    """When each of the `most` users who acted last first came. Safe to share between threads.

    This is the time of arrival. The time that an outcome claims makes no user known for longer. A user who is forgotten is new
    again.
    """

    def __init__(self, *, most: int = 500_000) -> None:
        self._most = most  # about 150 bytes each
        self._since: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def fill(self, users: Iterable[str], since: Iterable[int]) -> None:
        """Know `users` since these seconds; of two seconds the earlier one stays."""
        with self._lock:
            for user, second in zip(users, since, strict=True):
                self._since[user] = min(second, self._since.get(user, second))
                self._since.move_to_end(user)
            while len(self._since) > self._most:
                self._since.popitem(last=False)

    def is_newcomer(self, user: str, time: int, *, now: int) -> bool:
        """Whether `user` is a newcomer, who acted at `time` and whose outcome arrived at `now`."""
        self.fill([user], [now])
        with self._lock:
            return time - self._since.get(user, now) < HISTORY_SECONDS

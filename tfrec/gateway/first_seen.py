"""Since when users are known, so that newcomers' choices are counted apart (`data/behaviour/newcomers.py`)."""
import threading
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.behaviour.newcomers import HISTORY_SECONDS
from tfrec.data.feedback_log.writer import ErasedAmong
from tfrec.gateway.name_index import NameIndex


class FirstSeen:
    """When users first came: those of the log, and the `most` others who acted last. Safe to share between threads.

    This is the time of arrival. The time that an outcome claims makes no user known for longer. A user who is forgotten is new
    again.
    """

    def __init__(self, *, most: int = 500_000) -> None:
        self._most = most  # about 150 bytes each
        self._since: OrderedDict[str, int] = OrderedDict()
        self._logged: list[tuple[NameIndex, npt.NDArray[np.int64]]] = []
        self._lock = threading.Lock()

    def know(self, users: pa.Table) -> None:
        """Know users (column `user`, each once) since a second (column `time`), as long as this process lives."""
        users = users.combine_chunks().sort_by("user")
        if users.num_rows:
            self._logged.append((NameIndex(users["user"].combine_chunks()), users["time"].to_numpy()))

    def fill(self, users: Iterable[str], since: Iterable[int]) -> None:
        """Know `users` since these seconds; of two seconds the earlier one stays."""
        with self._lock:
            for user, second in zip(users, since, strict=True):
                known = self._since.get(user)
                self._since[user] = min(second, self._logged_since(user, second) if known is None else known)
                self._since.move_to_end(user)
            while len(self._since) > self._most:
                self._since.popitem(last=False)

    def erase(self, erased_among: ErasedAmong) -> None:
        """Forget users who were erased."""
        with self._lock:
            names = list(self._since)
        erased = erased_among(names)
        kept = []
        for index, seconds in self._logged:
            shorter, stay = index.without(erased_among(index.names.to_pylist()))
            kept.append((index, seconds) if stay.all() else (shorter, seconds[stay]))
        with self._lock:
            for user in erased:
                self._since.pop(user, None)
            self._logged = kept

    def is_newcomer(self, user: str, time: int, *, now: int) -> bool:
        """Whether `user` is a newcomer, who acted at `time` and whose outcome arrived at `now`."""
        self.fill([user], [now])
        with self._lock:
            return time - self._since.get(user, now) < HISTORY_SECONDS

    def newcomers(self, users: pa.StringArray, time: npt.NDArray[np.int64], *, now: int) -> npt.NDArray[np.bool_]:
        """`[n]`: the same for many acts of users who are known by `know` or not at all."""
        since = np.full(len(users), now, np.int64)
        for index, seconds in self._logged:
            place = pc.index_in(users, value_set=index.names)
            found = np.flatnonzero(place.is_valid())
            since[found] = np.minimum(since[found], seconds[place.drop_null().to_numpy()])
        return np.asarray(np.minimum(time, now) - since < HISTORY_SECONDS)

    def _logged_since(self, user: str, second: int) -> int:
        found = ((index.find(user), seconds) for index, seconds in self._logged)
        return min((int(seconds[place]) for place, seconds in found if place is not None), default=second)

"""The outcomes that the log held when the gateway started, found by user.

They stay columns: most users of a log never come again, and objects would take ten times the memory.
"""
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.gateway.name_index import NameIndex
from tfrec.gateway.user_acts import Act, in_time

_COLUMNS = ("time", "event_id", "item", "action", "request_id")


class LoggedOutcomes:
    """The acts of each user, and which events of theirs are logged. It does not change.

    Args:
        users: their names.
        starts: `[users + 1]`, the row at which those of each user begin.
        rows: of the log, by user and of each in order of time.
        gain: `[n]`, what each outcome is worth.
        counts_once: `[n]`, whether a repeat of it counts nothing.
    """

    def __init__(self, users: NameIndex, starts: npt.NDArray[np.int64], rows: pa.Table, gain: npt.NDArray[np.float64],
                 counts_once: npt.NDArray[np.bool_]) -> None:
        self._users, self._starts, self._rows = users, starts, rows
        self._gain, self._counts_once = gain, counts_once

    @classmethod
    def of(cls, outcomes: pa.Table, gain: npt.NDArray[np.float64], counts_once: npt.NDArray[np.bool_]) -> "LoggedOutcomes":
        """Of rows of the log as `newest_outcomes` gives them."""
        user = outcomes["user"].combine_chunks()
        users = NameIndex(user.dictionary)
        starts = np.searchsorted(user.indices.to_numpy(), np.arange(len(users) + 1))
        return cls(users, starts, outcomes.select(_COLUMNS), gain, counts_once)

    def __contains__(self, event: object) -> bool:
        """Whether an outcome is logged, by (user, event id). It takes some 20 us."""
        user, event_id = event if isinstance(event, tuple) and len(event) == 2 else (None, None)
        place = self._users.find(user) if isinstance(user, str) and isinstance(event_id, str) else None
        if place is None:
            return False
        start, stop = self._starts[place : place + 2].tolist()
        return bool(pc.index(self._rows["event_id"].slice(start, stop - start), pa.scalar(event_id, pa.string())).as_py() >= 0)

    def find(self, user: str) -> int | None:
        """The number of a user here; None if the log has nothing of theirs."""
        return self._users.find(user)

    @property
    def users(self) -> list[str]:
        """All users, by their numbers."""
        found: list[str] = self._users.names.to_pylist()
        return found

    def without(self, users: set[str]) -> tuple["LoggedOutcomes", npt.NDArray[np.bool_]]:
        """The same without some users, and `[users]`, which of them stay; these are numbered anew, in their order."""
        names, kept = self._users.without(users)
        number = np.diff(self._starts)
        rows, starts = np.repeat(kept, number), np.concatenate([[0], np.cumsum(number[kept])])
        return LoggedOutcomes(names, starts, self._rows.filter(pa.array(rows)), self._gain[rows], self._counts_once[rows]), kept

    def by_last_act(self) -> npt.NDArray[np.intp]:
        """The numbers of all users, in the order of their newest act."""
        has_some = np.flatnonzero(np.diff(self._starts))
        last = self._rows["time"].to_numpy()[self._starts[1:][has_some] - 1]
        return np.asarray(has_some[np.argsort(last, kind="stable")])

    def acts(self, number: int, *, most: int) -> list[Act]:
        """The acts of a user, oldest first: the newest `most` that gained something, and as many others."""
        start, stop = self._starts[number : number + 2].tolist()
        gained = self._gain[start:stop] > 0
        kept = start + np.sort(np.concatenate([np.flatnonzero(gained)[-most:], np.flatnonzero(~gained)[-most:]]))
        columns = (self._rows[name].take(pa.array(kept)).to_pylist() for name in _COLUMNS)
        time, event_id, item, action, request_id = columns
        acts = zip(time, event_id, item, action, self._gain[kept].tolist(), request_id, self._counts_once[kept].tolist(),
                   strict=True)
        return sorted((Act(*act) for act in acts), key=in_time)

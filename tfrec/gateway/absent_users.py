"""The users of the log who have not come since the gateway started."""
import numpy as np
import numpy.typing as npt

from tfrec.gateway.logged_outcomes import LoggedOutcomes
from tfrec.gateway.user_acts import Act

_ROWS_PER_EVENT = 4  # rows of the log that are read of a user, for each event: of acts that gained something, and of others


class AbsentUsers:
    """The users who acted last, with their acts in the log.

    Args:
        logged: the log.
        max_users: the number of users to keep.
        max_events: the number of events that are answered for each.
    """

    def __init__(self, logged: LoggedOutcomes, *, max_users: int, max_events: int) -> None:
        self._logged = logged
        self._most = _ROWS_PER_EVENT * max_events
        self._queue = logged.by_last_act()[-max_users:]
        self._next = 0  # who is forgotten first, or came before
        self._is_here = np.zeros(int(self._queue.max(initial=-1)) + 1, np.bool_)
        self._is_here[self._queue] = True
        self._count = len(self._queue)

    def __len__(self) -> int:
        return self._count

    def pop(self, user: str) -> list[Act]:
        """The acts of a user, oldest first; they are forgotten here."""
        number = self._logged.find(user)
        return [] if number is None or not self._remove(number) else self._logged.acts(number, most=self._most)

    def forget_oldest(self) -> None:
        """Forget the user whose newest act is the oldest."""
        while not self._remove(int(self._queue[self._next])):
            self._next += 1

    def renumber(self, logged: LoggedOutcomes, kept: npt.NDArray[np.bool_]) -> None:
        """Go on with the log without some users: `kept` as `LoggedOutcomes.without` gives it."""
        here = self._queue[self._is_here[self._queue]]
        here = here[kept[here]]
        self._logged, self._queue, self._next, self._count = logged, (np.cumsum(kept) - 1)[here], 0, len(here)
        self._is_here = np.zeros(int(self._queue.max(initial=-1)) + 1, np.bool_)
        self._is_here[self._queue] = True

    def _remove(self, number: int) -> bool:
        """Whether the user was here until now."""
        if number >= len(self._is_here) or not self._is_here[number]:
            return False
        self._is_here[number] = False
        self._count -= 1
        return True

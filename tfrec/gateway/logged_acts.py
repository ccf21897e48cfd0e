"""The acts that the log held when the gateway started, found by user.

They stay in one table until their user comes: most users of a log never do, and objects would take ten times the memory.
"""
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tfrec.gateway.user_acts import Act, in_time

_ROWS_PER_EVENT = 4  # rows of the log that are kept of a user, for each event: of acts that gained something, and of others


class LoggedActs:
    """The newest acts of the users who acted last.

    Args:
        outcomes: rows of the log (`newest_outcomes`).
        gain: `[n]`, what each outcome is worth.
        counts_once: `[n]`, whether a repeat of it counts nothing.
        max_users: the number of users to keep.
        max_events: the number of events that are answered for each.
    """

    def __init__(
        self, outcomes: pa.Table, gain: npt.NDArray[np.float64], counts_once: npt.NDArray[np.bool_], *, max_users: int,
        max_events: int,
    ) -> None:
        users = outcomes["user"].combine_chunks().dictionary_encode()
        user, time = users.indices.to_numpy(zero_copy_only=False).astype(np.int64), outcomes["time"].to_numpy()
        group = 2 * user + (gain > 0)  # of each user, acts that gained something and others
        order = np.lexsort((time, group))
        group_ends = np.searchsorted(group[order], group[order], side="right")
        order = order[group_ends - np.arange(len(order)) <= _ROWS_PER_EVENT * max_events]  # the newest of each group
        starts = np.flatnonzero(np.diff(user[order], prepend=-1))
        stops = np.append(starts[1:], len(order))
        last_time = np.maximum.reduceat(time[order], starts) if len(order) else starts
        newest = np.argsort(last_time, kind="stable")[-max_users:]
        names = users.dictionary.take(pa.array(user[order[starts[newest]]])).to_pylist()
        spans = map(slice, starts[newest].tolist(), stops[newest].tolist())
        self._spans: dict[str, slice] = dict(zip(names, spans, strict=True))  # rows of each user; who acted last comes last
        self._rows = outcomes.select(["time", "event_id", "item", "action", "request_id"]).take(pa.array(order))
        self._gain, self._counts_once = gain[order], counts_once[order]

    def __len__(self) -> int:
        return len(self._spans)

    def pop(self, user: str) -> list[Act]:
        """The acts of a user, oldest first; they are forgotten here."""
        span = self._spans.pop(user, None)
        if span is None:
            return []
        some = self._rows.slice(span.start, span.stop - span.start)
        time, event_id, item, action, request_id = (some[name].to_pylist() for name in some.column_names)
        acts = zip(time, event_id, item, action, self._gain[span].tolist(), request_id, self._counts_once[span].tolist(),
                   strict=True)
        return sorted((Act(*act) for act in acts), key=in_time)

    def forget_oldest(self) -> None:
        """Forget the user whose newest act is the oldest."""
        del self._spans[next(iter(self._spans))]

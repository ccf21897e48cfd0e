"""Actions that say nothing new: repeats, and actions faster than a person can act.

A repeat is the same action on the same item again within `REPEAT_SECONDS`, unless the values of the action add up (seconds
watched). `join.sql` applies the same rule to the log, and the gateway to what it remembers.
"""
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

REPEAT_SECONDS = 30 * 60  # the usual length of a session
MINUTE_LIMIT = 600  # actions of one user in a minute; nobody does ten a second for a minute (MovieLens: at most 193)

Codes = npt.NDArray[np.int64]


def repeated_or_too_fast(user: Codes, same_action: Sequence[Codes], time: npt.NDArray[np.int64], *,
                         can_repeat: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """`[n]`: whether each action is a repeat, or one of more than `MINUTE_LIMIT` of its user in a minute.

    `same_action` are the columns `[n]` in which a repeat agrees with the action before it; `can_repeat` is false for actions
    whose values add up. Of equal actions in one second the first is kept.
    """
    n = len(time)
    if not n:
        return np.zeros(0, np.bool_)
    order = np.lexsort((np.arange(n), time, *same_action))
    same = np.zeros(n, np.bool_)
    same[1:] = np.logical_and.reduce([np.diff(column[order]) == 0 for column in same_action])
    soon = np.diff(time[order], prepend=time[order[0]]) < REPEAT_SECONDS
    repeated = np.zeros(n, np.bool_)
    repeated[order] = same & soon & can_repeat[order]
    minutes, minute = np.unique(time // 60, return_inverse=True)
    _, of_user, count = np.unique(user * len(minutes) + minute, return_inverse=True, return_counts=True)
    return np.asarray(repeated | (count[of_user] > MINUTE_LIMIT))

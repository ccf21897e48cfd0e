"""Actions that say nothing new: repeats, and actions faster than a person can act.

A repeat is the same action on the same item again within `REPEAT_SECONDS`, unless the values of the action add up (seconds
watched). `join.sql` applies the same rule to the log, and the gateway to what it remembers.
"""
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

REPEAT_SECONDS = 30 * 60  # the usual length of a session
MINUTE_LIMIT = 600  # actions of one user in a minute; nobody does ten a second for a minute (MovieLens: at most 193)

_LARGEST = 1 << 62  # of a code

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
    same_as = one_code(same_action)
    order = np.lexsort((time, same_as))
    same = np.diff(same_as[order], prepend=-1) == 0
    soon = np.diff(time[order], prepend=time[order[0]]) < REPEAT_SECONDS
    found = np.zeros(n, np.bool_)
    found[order] = same & soon & can_repeat[order]
    rows = np.flatnonzero(np.bincount(user)[user] > MINUTE_LIMIT)  # who does no more in all does no more in a minute
    if len(rows):
        _, of_user, count = np.unique(one_code([user[rows], time[rows] // 60]), return_inverse=True, return_counts=True)
        found[rows] |= count[of_user] > MINUTE_LIMIT
    return found


def one_code(columns: Sequence[Codes]) -> Codes:
    """`[n]`: one code for each combination of codes, which are not negative."""
    code = columns[0].astype(np.int64)
    for column in columns[1:]:
        span = int(column.max(initial=0)) + 1
        if int(code.max(initial=0)) >= _LARGEST // span:
            code = np.unique(code, return_inverse=True)[1]
        code = code * span + column
    return code

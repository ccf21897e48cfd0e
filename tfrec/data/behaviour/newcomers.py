"""Bounds how much the choices of newcomers count towards what everybody sees.

A newcomer is a user who first acted less than `HISTORY_SECONDS` ago; other users are established. New accounts cost nothing, so
a push by new accounts must not decide what is popular. Newcomers' events of an item count up to `RATIO` times the number that the
choices of established users make one expect; an item that no established user has chosen yet is expected to be an average one.
When established users choose the item too, the bound rises and earlier events of newcomers count again: nothing is thrown away.
"""
import numpy as np
import numpy.typing as npt

from tfrec.data.behaviour.interactions import Interactions

HISTORY_SECONDS = 86_400  # accounts that are made for one purpose are used the same day
RATIO = 3.0  # some items are really preferred by newcomers; in two logs of films, few items exceed three times

Floats = npt.NDArray[np.float64]


def by_newcomers(inter: Interactions) -> npt.NDArray[np.bool_]:
    """`[n]`: whether the event's user first acted less than `HISTORY_SECONDS` before it."""
    _, first, user = np.unique(inter.user, return_index=True, return_inverse=True)  # the first is the earliest
    return np.asarray(inter.time - inter.time[first[user]] < HISTORY_SECONDS)


def bounded_counts(established: Floats, newcomers: Floats, *, totals: Floats, chosen: int) -> Floats:
    """`[..., V]`: as how many the newcomers' events of each item count, at most as many as they are.

        expected(i) = RATIO * (e(i) / (E - e(i) + 1) + 1 / (n(i) + 1))
        f1(i) = min(f(i), expected(i) * (F - f(i) + 1)),   f'(i) = min(f(i), expected(i) * (F1 - f1(i) + 1))

    e and f are the events of established users and of newcomers; E, F and F1 are the sums of e, f and f1 over all items; n(i) is
    the number of other items that established users chose, so an item that none of them chose is expected to be an average one.
    The bound does not depend on f(i), and events that do not count for one item do not loosen the bound of another. Where no
    user is established, the bound is `RATIO` times what newcomers did with all other items, so a young log counts as it is.

    Args:
        established: `[..., V]`, e.
        newcomers: `[..., V]`, f.
        totals: `[2, ...]`, E and F.
        chosen: the number of items that established users chose.
    """
    total_established, total_newcomers = totals
    odds = established / (np.maximum(total_established[..., None] - established, 0) + 1)
    expected = RATIO * (odds + 1 / (chosen - (established > 0) + 1))
    first = np.minimum(newcomers, expected * (np.maximum(total_newcomers[..., None] - newcomers, 0) + 1))
    return np.asarray(np.minimum(newcomers, expected * (np.maximum(first.sum(-1, keepdims=True) - first, 0) + 1)))

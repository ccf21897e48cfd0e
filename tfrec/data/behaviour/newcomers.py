"""How much the choices of newcomers count towards what everybody sees.

A newcomer is somebody who first acted less than `HISTORY_SECONDS` ago. New accounts cost nothing, so what only they choose is
taken with care: their events of an item count up to `RATIO` times the number that the choices of people with a history make one
expect, and an item that nobody with a history chose yet counts as if it were an average one. As people with a history choose it
too, the bound rises, and what newcomers did before counts again: nothing is thrown away.
"""
import numpy as np
import numpy.typing as npt

from tfrec.data.behaviour.interactions import Interactions

HISTORY_SECONDS = 86_400  # accounts that are made for one purpose are used the same day
RATIO = 3.0  # items that newcomers really prefer exist; three times was exceeded by few items of two logs of films

Floats = npt.NDArray[np.float64]


def by_newcomers(inter: Interactions) -> npt.NDArray[np.bool_]:
    """`[n]`: whether the event's user first acted less than `HISTORY_SECONDS` before it."""
    _, first, user = np.unique(inter.user, return_index=True, return_inverse=True)  # events are in the order of time
    return np.asarray(inter.time - inter.time[first[user]] < HISTORY_SECONDS)


def agreed(established: Floats, newcomers: Floats, *, totals: Floats, chosen: int) -> Floats:
    """What newcomers' events of each item count, at most what they are.

        expected(i) = RATIO * (e(i) / (E - e(i) + 1) + 1 / (n(i) + 1))
        f1(i) = min(f(i), expected(i) * (F - f(i) + 1)),   f'(i) = min(f(i), expected(i) * (F1 - f1(i) + 1))

    e, f: events of people with a history and of newcomers; E, F, F1: of all items (F1 of f1); n(i): how many other items people
    with a history chose, so that an item which none of them chose is expected to be an average one. The bound does not depend
    on f(i), and what does not count for one item loosens no other's. Where nobody has a history it is 3 times what newcomers
    did with all other items: a log that begins counts as it is.

    Args:
        established: `[..., V]`, e.
        newcomers: `[..., V]`, f.
        totals: `[2, ...]`, E and F.
        chosen: items that people with a history chose, in all.
    """
    of_old, of_new = totals
    odds = established / (np.maximum(of_old[..., None] - established, 0) + 1)
    expected = RATIO * (odds + 1 / (chosen - (established > 0) + 1))
    found = np.minimum(newcomers, expected * (np.maximum(of_new[..., None] - newcomers, 0) + 1))
    others = np.maximum(found.sum(-1, keepdims=True) - found, 0) + 1  # what does not count for an item does not for others
    return np.asarray(np.minimum(newcomers, expected * others))

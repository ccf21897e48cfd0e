"""Damps the training weight of events by which a few users could decide what is learnt.

New accounts and clicks cost nothing, so whoever wants an item to rise can send as many events as everybody else. Two bounds hold:
newcomers' events of one item count as far as the choices of established users make one expect (`newcomers.bounded_counts`), and
the events of one user weigh at most a share of all. Nothing is dropped: a damped event is still history of its user, and the next
run computes the weights anew, by what established users have chosen by then.
"""
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.newcomers import bounded_counts, by_newcomers

FEW = 5  # this many events of newcomers on an item always count: they are no burst, and a small log may have no others
LEAST_MEANS = 2.0  # one user may always weigh this many times the mean, whatever the share: a log may have seven users
_REPORTED = 10  # items, and users, that a report names
_LOGGED = 3  # items, and users, for which a warning is logged

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Damping:
    """Factors of the events' weights, with the items and users that are damped most."""

    factor: Floats  # [n], from 0 to 1
    items: dict[str, tuple[int, float]] = field(default_factory=dict)  # events of newcomers, and as how many they count
    users: dict[str, tuple[int, float]] = field(default_factory=dict)  # events of very busy users, and as how many they count

    def applied(self, inter: Interactions) -> Interactions:
        """The same events with damped weights."""
        return replace(inter, weight=(inter.weight * self.factor).astype(np.float32))

    def warnings(self) -> list[str]:
        """A sentence for each of the items and users that are damped most, three of each."""
        by_item = [f"item {item}: {n} events of newcomers count as {m:.1f}" for item, (n, m) in self.items.items()]
        by_user = [f"user {user}: {n} events count as {m:.1f}" for user, (n, m) in self.users.items()]
        return by_item[:_LOGGED] + by_user[:_LOGGED]

    def figures(self) -> dict[str, Any]:
        """Items and users with [events, as how many they count], for a report; empty when nothing is damped."""
        found = {"items": self.items, "users": self.users}
        return {kind: {name: [n, round(m, 2)] for name, (n, m) in rows.items()} for kind, rows in found.items() if rows}


def damping(inter: Interactions, new: Mask, *, user_share: float) -> Damping:
    """Compute the factors of all events. Old and new events are bounded apart, so a push is not replayed later at full weight.

    Args:
        inter: all behaviour, in the order of time.
        new: `[n]`, the events of this window, which the report is about.
        user_share: of the weight of all events of the window, the most that one user may have.
    """
    factor, newcomer = np.ones(len(inter)), by_newcomers(inter)
    for events in (~new, new):  # the report is about the last
        of_items = newcomer_factors(inter.item[events], newcomer[events], n_items=len(inter.items))
        weight = inter.weight[events] * of_items
        of_users = user_factors(inter.user[events], weight, share=user_share)
        factor[events] = of_items * of_users
    pushed = np.flatnonzero(new)[(of_items < 1) & newcomer[new]]
    busy = np.flatnonzero(new)[of_users < 1]
    return Damping(factor, _counted(inter.item[pushed], of_items[of_items < 1], inter.items),
                   _counted(inter.user[busy], factor[busy], inter.users))


def newcomer_factors(item: npt.NDArray[Any], newcomer: Mask, *, n_items: int) -> Floats:
    """`[n]`: for an event of a newcomer, the share of newcomers' events of its item that counts, of `FEW` all; else 1."""
    of_established, of_newcomers = (np.bincount(item[who], minlength=n_items).astype(np.float64) for who in (~newcomer, newcomer))
    counting = bounded_counts(of_established, of_newcomers, totals=np.array([of_established.sum(), of_newcomers.sum()]),
                              chosen=int(np.count_nonzero(of_established)))
    share = np.minimum(1.0, np.maximum(counting, FEW) / np.maximum(of_newcomers, 1))
    return np.where(newcomer, share[item], 1.0)


def user_factors(user: npt.NDArray[Any], weight: npt.NDArray[Any], *, share: float) -> Floats:
    """`[n]`: a factor for the events of each user, so that no user has more than the share of what is left.

    Where user u weighs s_u, min(s_u, c) is left, for the largest c with c <= q sum_u min(s_u, c). With k users above c and R the
    weight of the others, c = q R / (1 - k q). q is `share`, or `LEAST_MEANS` / users where that is more.
    """
    user_weight = np.bincount(user, weight)
    positive = np.sort(user_weight[user_weight > 0])[::-1]
    if not len(positive):
        return np.ones(len(user))
    q = max(share, LEAST_MEANS / len(positive))
    cap = positive[0]
    if cap > q * positive.sum():
        k = np.arange(1, min(len(positive), int(np.ceil(1 / q))))
        k = k[k * q < 1]
        rest = positive.sum() - np.cumsum(positive)[k - 1]
        caps = q * rest / (1 - k * q)
        cap = caps[np.argmax(caps >= positive[k])]  # the smallest k whose cap is at least the heaviest of the others
    return np.asarray(np.minimum(1.0, cap / np.maximum(user_weight, 1e-300))[user])


def _counted(code: npt.NDArray[Any], factor: Floats, names: tuple[str, ...]) -> dict[str, tuple[int, float]]:
    """By name, the number of events and as how many they count, for the names that lose most."""
    events, counting = np.bincount(code), np.bincount(code, factor)
    order = np.argsort(counting - events, kind="stable")[:_REPORTED]
    return {names[n]: (int(events[n]), float(counting[n])) for n in order if events[n]}

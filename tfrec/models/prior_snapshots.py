# mypy: warn-return-any, disallow-subclassing-any, disallow-untyped-decorators, enable-error-code=name-defined
"""Popularity at moments of the past, so that training reads what serving would have read then."""
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.newcomers import by_newcomers
from tfrec.errors import DataError
from tfrec.models.popularity_prior import PopularityPrior


class Snapshots(NamedTuple):
    """The prior at S moments of a log."""

    log_p: NDArray[np.float32]  # [S, V]
    first_touch: NDArray[np.int32]  # [V], the first snapshot by which an event had touched the item; S for never


def snapshots(inter: Interactions, *, weights: ArrayLike, edges: ArrayLike) -> Snapshots:
    """The prior at each of the edges, from all events strictly before the edge's second; 4 S V bytes, O(events + S V) time.

    Args:
        inter: A log, in the order of time.
        weights: Of the mixture.
        edges: `[S]`, ascending indices of events; `len(inter)` is the end of the log.

    Raises:
        DataError: The edges do not ascend, or leave the log.
    """
    edges = np.asarray(edges, np.int64)
    if edges.ndim != 1 or (np.diff(edges) < 0).any() or not ((edges >= 0) & (edges <= len(inter))).all():
        raise DataError(f"snapshots: expected ascending edges from 0 to {len(inter)}, got {edges.tolist()[:10]}.")
    prior = PopularityPrior(len(inter.items), start=int(inter.time[0]) if len(inter) else 0, weights=weights)
    log_p = np.empty((len(edges), len(inter.items)), np.float32)
    first = np.full(len(inter.items), len(edges), np.int32)
    done, newcomer = 0, by_newcomers(inter)
    for s, edge in enumerate(edges):
        before, done = done, prior.roll(inter, done, int(edge), newcomer)
        log_p[s] = prior.log_p()
        new = inter.item[before:done]
        first[new] = np.minimum(first[new], s)
    return Snapshots(log_p, first)

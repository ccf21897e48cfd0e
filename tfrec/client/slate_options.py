"""What a request may ask of a slate beside its items: bounds, diversity, caps by tag, weights of heads, and boosts, as arrays.

These inputs are newer than some versions that may still be served. `unspecified` says that an array asks for nothing, so that a
version without the input answers the same (`version_inputs.py`).
"""
import math
from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from tfrec.client.padding import Arrays, one_per_row, padded
from tfrec.data.records import Boost, BoostKind
from tfrec.errors import UsageError

Bounds = Mapping[str, tuple[float | None, float | None]]  # by column of the catalogue, the least and the most; None: no bound
Caps = Mapping[str, int]  # by prefix of tags, at most so many items with the same tag
HeadWeights = Mapping[str, float]  # of actions that the second stage predicts

# no bound: every number of a catalogue is within. JSON has no infinity, in which these would be written otherwise.
NO_HEAD = "-"  # no model has such a head; a request that names it alone gets the order of the first stage
BOOST_KINDS: tuple[BoostKind, ...] = get_args(BoostKind)  # numbered so in the graph
LEAST, MOST = float(np.finfo(np.float64).min), float(np.finfo(np.float64).max)


def bound_inputs(bounds: Sequence[Bounds] | None, n: int) -> Arrays:
    """`bound_columns`, `bound_min` and `bound_max` `[n, 1 + most columns]`.

    Raises:
        UsageError: a bound is not a number, or the least is above the most.
    """
    rows = [list(one.items()) for one in bounds] if bounds else [[] for _ in range(n)]
    for column, (least, most) in (entry for row in rows for entry in row):
        low, high = LEAST if least is None else least, MOST if most is None else most
        if math.isnan(low) or math.isnan(high) or low > high or not column:
            raise UsageError(f"bounds: expected (least, most) of a named column, either None or a number, the least not above "
                             f"the most; got ({least}, {most}) of {column!r}.")
    return {
        "bound_columns": padded([[column for column, _ in row] for row in rows], ""),
        "bound_min": padded([[_between(least, LEAST) for _, (least, _) in row] for row in rows], 0.0, dtype=np.float64),
        "bound_max": padded([[_between(most, MOST) for _, (_, most) in row] for row in rows], 0.0, dtype=np.float64),
    }


def boost_inputs(boosts: Sequence[Sequence[Boost]] | None, n: int) -> Arrays:
    """The inputs `contract.BOOSTS` `[n, 1 + most boosts]`.

    Raises:
        UsageError: a boost has no name, or is not a finite number.
    """
    rows = boosts or [()] * n
    if wrong := [one for row in rows for one in row if one[0] not in BOOST_KINDS or not one[1] or not math.isfinite(one[2])]:
        raise UsageError(f"boosts: expected one of {', '.join(BOOST_KINDS)}, a name, and a finite number, got {wrong[0]}.")
    return {
        "boost_kinds": padded([[BOOST_KINDS.index(one[0]) for one in row] for row in rows], 0, dtype=np.int32),
        "boost_names": padded([[one[1] for one in row] for row in rows], ""),
        "boost_values": padded([[one[2] for one in row] for row in rows], 0.0),
        "boost_min": padded([[_between(one[3], LEAST) for one in row] for row in rows], 0.0, dtype=np.float64),
        "boost_max": padded([[_between(one[4], MOST) for one in row] for row in rows], 0.0, dtype=np.float64),
    }


def reranking_inputs(diversity: float | Sequence[float], caps: Sequence[Caps] | None, n: int) -> Arrays:
    """`diversity` `[n]`, `cap_prefixes` and `caps` `[n, 1 + most prefixes]`.

    Raises:
        UsageError: `diversity` is not from 0 to 1, or a cap is below 1.
    """
    given = one_per_row(diversity, n, np.float32)
    if not (abs(given - 0.5) <= 0.5).all():
        raise UsageError(f"diversity: expected numbers from 0 to 1, got {diversity}.")
    rows = [list(one.items()) for one in caps] if caps else [[] for _ in range(n)]
    if wrong := [entry for row in rows for entry in row if entry[1] < 1]:
        raise UsageError(f"caps: expected 1 or more items for each prefix, got {wrong[0][1]} for {wrong[0][0]!r}. To leave out "
                         "all items with a tag, name it in deny_tags.")
    return {
        "diversity": given,
        "cap_prefixes": padded([[prefix for prefix, _ in row] for row in rows], ""),
        "caps": padded([[cap for _, cap in row] for row in rows], 0, dtype=np.int32),
    }


def head_inputs(weights: Sequence[HeadWeights | None] | None, n: int) -> Arrays:
    """`head_names` and `head_weights` `[n, 1 + most heads]`. None has the configured weights, and {} no second stage.

    Raises:
        UsageError: a weight is not a finite number.
    """
    rows = [[] if one is None else list(one.items()) or [(NO_HEAD, 0.0)] for one in weights or [None] * n]
    if wrong := [entry for row in rows for entry in row if not math.isfinite(entry[1])]:
        raise UsageError(f"head_weights: expected a finite number for each head, got {wrong[0][1]} for {wrong[0][0]!r}.")
    return {"head_names": padded([[name for name, _ in row] for row in rows], ""),
            "head_weights": padded([[weight for _, weight in row] for row in rows], 0.0)}


def nothing_asked(n: int) -> Arrays:
    """The inputs of `n` requests that ask for nothing of this."""
    return bound_inputs(None, n) | reranking_inputs(0.0, None, n) | head_inputs(None, n) | boost_inputs(None, n)


def unspecified(name: str, array: np.ndarray) -> bool:
    """Whether the array of an optional input asks for nothing; of the inputs that belong together, the one that decides."""
    array = np.asarray(array)
    if name.startswith("bound_"):
        return name != "bound_columns" or not (array != b"").any()
    if name.startswith("boost_"):
        return name != "boost_names" or not (array != b"").any()
    if name.startswith("head_"):
        return name != "head_names" or not (array != b"").any()
    return name == "cap_prefixes" or not array.any()


def _between(bound: float | None, otherwise: float) -> float:
    return otherwise if bound is None else min(max(float(bound), LEAST), MOST)

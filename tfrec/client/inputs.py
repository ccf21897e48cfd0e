"""What a caller knows, as the arrays that the signatures take: rows padded to the longest, text as bytes.

A request is checked here, before it is sent: the server would refuse it with less to say, or answer something else.
"""
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, Required, TypedDict, Unpack

import numpy as np

from tfrec.client.tensors import text_array
from tfrec.errors import UsageError
from tfrec.models.popularity_prior import Override

UNKNOWN_AGE = -1  # seconds before now, of an event without a time
# the score, and the log propensity, of a place without an item and of an item that is not known: minus infinity within the graph,
# the lowest number in an answer, since JSON knows no infinity and a strict reader would refuse the whole of it
NO_SCORE = float(np.finfo(np.float32).min)

Arrays = dict[str, np.ndarray]


class HistoryInputs(TypedDict, total=False):
    """What is known of each person, and what they look for."""

    history: Required[Sequence[Sequence[str]]]  # items, oldest first
    query: Sequence[str] | None
    history_action: Sequence[Sequence[str]] | None  # beside `history`
    history_age_s: Sequence[Sequence[int]] | None  # beside `history`, in seconds before now
    prior: Sequence[Override] | None  # for each history, items and the log p that takes the place of the exported one


class RecommendInputs(HistoryInputs, total=False):
    """And what they may get."""

    k: int | Sequence[int]  # items for each; 10 by default
    exclude: Sequence[Sequence[str]] | None  # items that must not come
    allow_tags: Sequence[Sequence[str]] | None  # an item needs one of the allowed, where some are named,
    deny_tags: Sequence[Sequence[str]] | None  # and none of the denied


def behaviour(
    *,
    history: Sequence[Sequence[str]],
    query: Sequence[str] | None = None,
    history_action: Sequence[Sequence[str]] | None = None,
    history_age_s: Sequence[Sequence[int]] | None = None,
    prior: Sequence[Override] | None = None,
) -> Arrays:
    """The inputs that every signature with a history has."""
    none: Sequence[Sequence[Any]] = [()] * len(history)
    moved = [override.ids for override in prior or ()] or none
    return {
        "history": padded(history, "", like=history),
        "history_action": padded(history_action or none, "", like=history),
        "history_age_s": padded(history_age_s or none, UNKNOWN_AGE, like=history),
        "query": text_array([""] * len(history) if query is None else list(query)),
        "prior_items": padded(moved, ""),
        "prior_log_p": padded([override.log_p.tolist() for override in prior or ()] or none, 0.0, like=moved),
    }


def wanted(
    *,
    k: int | Sequence[int] = 10,
    exclude: Sequence[Sequence[str]] | None = None,
    allow_tags: Sequence[Sequence[str]] | None = None,
    deny_tags: Sequence[Sequence[str]] | None = None,
    **known: Unpack[HistoryInputs],
) -> Arrays:
    """The inputs of `recommend`."""
    inputs = behaviour(**known)
    none: Sequence[Sequence[Any]] = [()] * len(known["history"])
    inputs["exclude"], inputs["allow_tags"], inputs["deny_tags"] = (
        padded(rows or none, "") for rows in (exclude, allow_tags, deny_tags)
    )
    inputs["k"] = each(k, len(none), np.int32)
    if len(none) and inputs["k"].min(initial=1) < 1:
        raise UsageError(f"k must be at least 1, got {inputs['k'].min()}.")
    return inputs


def checked(signature: str, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """`inputs`, which must have as many rows each as there are histories."""
    n = len(inputs["history"])
    uneven = {name: len(array) for name, array in inputs.items() if len(array) != n}
    if not n or uneven:
        raise UsageError(f"{signature}: expected one or more histories and as many of each input, got {n} and {uneven}.")
    return inputs


def each(value: float | Sequence[float], n: int, dtype: type) -> np.ndarray:
    """`[n]`: one value for all, or one for each."""
    return np.array([value] * n if isinstance(value, int | float) else value, dtype)


def padded(rows: Sequence[Sequence[Any]], fill: str | int | float, *, like: Sequence[Sequence[Any]] | None = None) -> np.ndarray:
    """[batch, 1 + length of the longest row (or of `like`, which it lies beside)]; short rows are filled at the end.

    The first column is `fill` too. A server that batches widens a narrower request with the first value that it has, and
    refuses one without any: so it is sent one that means nothing, or the widened history would end in its oldest event.
    """
    width = max((len(row) for row in like or rows), default=0)
    for row, other in zip_longest(rows, rows if like is None else like, fillvalue=()):
        if len(row) not in (0, len(other)):
            raise UsageError(f"Expected as many values as there are items beside them ({len(other)}), got {len(row)}.")
    full = [[fill, *row, *[fill] * (width - len(row))] for row in rows]
    return text_array(full) if isinstance(fill, str) else np.array(full, np.int64 if isinstance(fill, int) else np.float32)

"""Turns what a caller knows about its users into the arrays that the signatures take.

Rows are padded to the longest, and text becomes bytes. Requests are checked here, before they are sent: the server would say
less about what is wrong, or answer another question.
"""
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, Required, TypedDict, Unpack

import numpy as np

from tfrec.client.tensors import text_array
from tfrec.config.features import UNKNOWN_TIME
from tfrec.errors import UsageError
from tfrec.models.popularity_prior import Override

UNKNOWN_AGE = -1  # of an event whose time is not known, in place of seconds before now
# The score and log propensity of a position without an item, and of an item that is not known. In the graph it is minus
# infinity. JSON has no infinity, and a strict reader would refuse the whole answer, so the lowest float32 is sent.
NO_SCORE = float(np.finfo(np.float32).min)

Arrays = dict[str, np.ndarray]


class HistoryInputs(TypedDict, total=False):
    """What is known about each user, and what they search for."""

    history: Required[Sequence[Sequence[str]]]  # items, oldest first
    query: Sequence[str] | None
    history_action: Sequence[Sequence[str]] | None  # one for each event of `history`
    history_age_s: Sequence[Sequence[int]] | None  # one for each event of `history`, in seconds before now
    prior: Sequence[Override] | None  # for each history, items and the log p that replaces the exported one
    time: Sequence[int] | None  # of each request, in seconds since 1970
    context: Sequence[Mapping[str, str]] | None  # of each request, the values of `[features]` by name


class RecommendInputs(HistoryInputs, total=False):
    """What is known about each user, and what may be answered."""

    k: int | Sequence[int]  # number of items for each user; 10 by default
    exclude: Sequence[Sequence[str]] | None  # items that are not answered
    allow_tags: Sequence[Sequence[str]] | None  # if any are given, an item needs one of them
    deny_tags: Sequence[Sequence[str]] | None  # items with one of these are not answered


def history_inputs(
    *,
    history: Sequence[Sequence[str]],
    query: Sequence[str] | None = None,
    history_action: Sequence[Sequence[str]] | None = None,
    history_age_s: Sequence[Sequence[int]] | None = None,
    prior: Sequence[Override] | None = None,
    time: Sequence[int] | None = None,
    context: Sequence[Mapping[str, str]] | None = None,
) -> Arrays:
    """The inputs that every signature with a history has; see `HistoryInputs`. With a time or a context, those of both."""
    none: Sequence[Sequence[Any]] = [()] * len(history)
    known = {} if time is None and context is None else context_inputs(len(history), time=time, context=context)
    prior_items = [override.ids for override in prior or ()] or none
    return known | {
        "history": padded(history, "", like=history),
        "history_action": padded(history_action or none, "", like=history),
        "history_age_s": padded(history_age_s or none, UNKNOWN_AGE, like=history),
        "query": text_array([""] * len(history) if query is None else list(query)),
        "prior_items": padded(prior_items, ""),
        "prior_log_p": padded([override.log_p.tolist() for override in prior or ()] or none, 0.0, like=prior_items),
    }


def context_inputs(n: int, *, time: Sequence[int] | None = None, context: Sequence[Mapping[str, str]] | None = None) -> Arrays:
    """The inputs `contract.CONTEXT` of `n` requests; what is not given is not known."""
    rows: Sequence[Mapping[str, str]] = [{}] * n if context is None else context
    names = [list(row) for row in rows]
    return {
        "time": np.array([UNKNOWN_TIME] * n if time is None else time, np.int64),
        "context_name": padded(names, ""),
        "context_value": padded([list(row.values()) for row in rows], "", like=names),
    }


def recommend_inputs(
    signature: str = "recommend",
    *,
    k: int | Sequence[int] = 10,
    exclude: Sequence[Sequence[str]] | None = None,
    allow_tags: Sequence[Sequence[str]] | None = None,
    deny_tags: Sequence[Sequence[str]] | None = None,
    **known: Unpack[HistoryInputs],
) -> Arrays:
    """The inputs of `recommend` and of the exploring signatures; see `RecommendInputs`.

    Raises:
        UsageError: names `signature`, if the inputs have different lengths or `k` is below 1.
    """
    inputs = history_inputs(**known)
    none: Sequence[Sequence[Any]] = [()] * len(known["history"])
    inputs["exclude"], inputs["allow_tags"], inputs["deny_tags"] = (
        padded(rows or none, "") for rows in (exclude, allow_tags, deny_tags)
    )
    inputs["k"] = one_per_row(k, len(none), np.int32)
    if len(none) and inputs["k"].min(initial=1) < 1:
        raise UsageError(f"k must be at least 1, got {inputs['k'].min()}.")
    return check_rows(signature, inputs)


def check_rows(signature: str, inputs: Arrays) -> Arrays:
    """Return `inputs`, which must all have as many rows as there are histories.

    Raises:
        UsageError: they have not, or there is no history.
    """
    n = len(inputs["history"])
    uneven = {name: len(array) for name, array in inputs.items() if len(array) != n}
    if not n or uneven:
        raise UsageError(f"{signature}: expected one or more histories and as many of each input, got {n} and {uneven}.")
    return inputs


def one_per_row(value: float | Sequence[float], n: int, dtype: type) -> np.ndarray:
    """`[n]`: a single value repeated, or the values that are given."""
    return np.array([value] * n if isinstance(value, int | float) else value, dtype)


def padded(rows: Sequence[Sequence[Any]], fill: str | int | float, *, like: Sequence[Sequence[Any]] | None = None) -> np.ndarray:
    """Rows as one array `[batch, 1 + longest row]`; short rows are filled at the end.

    The first column is `fill` too. A batching server widens a narrow request with the first value of its row, and refuses a
    request that has no value. So the first value must mean nothing: otherwise a widened history would end in its oldest event.

    Args:
        rows: of different lengths; a row may also be empty.
        fill: the value of the padding.
        like: rows that these values belong to, such as the history of `history_action`; sets the width.

    Raises:
        UsageError: a row is neither empty nor as long as its row of `like`.
    """
    width = max((len(row) for row in like or rows), default=0)
    for row, other in zip_longest(rows, rows if like is None else like, fillvalue=()):
        if len(row) not in (0, len(other)):
            raise UsageError(f"Expected as many values as there are items beside them ({len(other)}), got {len(row)}.")
    full = [[fill, *row, *[fill] * (width - len(row))] for row in rows]
    return text_array(full) if isinstance(fill, str) else np.array(full, np.int64 if isinstance(fill, int) else np.float32)

"""Turns what a caller knows about its users into the arrays that the signatures take.

Rows are padded to the longest, and text becomes bytes. Requests are checked here, before they are sent: the server would say
less about what is wrong, or answer another question.
"""
from collections.abc import Mapping, Sequence
from typing import Any, Required, TypedDict, Unpack

import numpy as np

from tfrec.client.padding import Arrays, one_per_row, padded
from tfrec.client.slate_options import (
    Bounds,
    Caps,
    HeadWeights,
    boost_inputs,
    bound_inputs,
    head_inputs,
    reranking_inputs,
)
from tfrec.client.tensors import text_array
from tfrec.config.features import UNKNOWN_TIME
from tfrec.data.records import Boost
from tfrec.errors import UsageError
from tfrec.models.popularity_prior import Override

UNKNOWN_AGE = -1  # of an event whose time is not known, in place of seconds before now
# The score and log propensity of a position without an item, and of an item that is not known. In the graph it is minus
# infinity. JSON has no infinity, and a strict reader would refuse the whole answer, so the lowest float32 is sent.
NO_SCORE = float(np.finfo(np.float32).min)


RANKED = ("recommend", "explore", "rank")  # signatures with a second stage


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
    boosts: Sequence[Sequence[Boost]] | None  # what is added to scores, before anything is drawn
    bounds: Sequence[Bounds] | None  # numeric columns with the least and the most; an item without the number does not pass


class RankedInputs(RecommendInputs, total=False):
    """What `recommend` and `explore` are asked besides: how the second stage weighs its heads."""

    head_weights: Sequence[HeadWeights | None] | None  # None: as configured; {}: in the order of the first stage


class SlateInputs(RankedInputs, total=False):
    """What `recommend` is asked besides: how the items of a slate go together."""

    diversity: float | Sequence[float]  # from 0, the best items, to 1, the items that are least alike; 0 by default
    caps: Sequence[Caps] | None  # by prefix of tags such as "brand:", at most so many items with the same tag


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
    bounds: Sequence[Bounds] | None = None,
    boosts: Sequence[Sequence[Boost]] | None = None,
    diversity: float | Sequence[float] = 0.0,
    caps: Sequence[Caps] | None = None,
    head_weights: Sequence[HeadWeights | None] | None = None,
    **known: Unpack[HistoryInputs],
) -> Arrays:
    """The inputs of `recommend` and of the exploring signatures; see `RecommendInputs` and `SlateInputs`.

    Raises:
        UsageError: the inputs have different lengths, or a value is out of its range; names `signature` or the input.
    """
    inputs = history_inputs(**known)
    none: Sequence[Sequence[Any]] = [()] * len(known["history"])
    inputs["exclude"], inputs["allow_tags"], inputs["deny_tags"] = (
        padded(rows or none, "") for rows in (exclude, allow_tags, deny_tags)
    )
    inputs |= bound_inputs(bounds, len(none)) | boost_inputs(boosts, len(none))
    if signature == "recommend":
        inputs |= reranking_inputs(diversity, caps, len(none))
    elif caps or np.any(diversity):
        raise UsageError(f"{signature}: expected no diversity and no caps, which `recommend` alone takes: an item would have "
                         "another probability for each set of items above it.")
    if signature in RANKED:
        inputs |= head_inputs(head_weights, len(none))
    elif head_weights:
        raise UsageError(f"{signature}: expected no head_weights, which {', '.join(RANKED)} take: it has no second stage.")
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

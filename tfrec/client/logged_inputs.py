"""The inputs of requests that a log has, as they were asked."""
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfrec.client.inputs import UNKNOWN_AGE, recommend_inputs
from tfrec.client.padding import Arrays
from tfrec.data.records import boosts_of, bounds_of, head_weights_of
from tfrec.models.popularity_prior import Override


def logged_inputs(requests: Mapping[str, Sequence[Any]], features: Sequence[Mapping[str, str]]) -> Arrays:
    """The inputs of `recommend`, with those of person and moment.

    Args:
        requests: Columns of the log's impressions, a value for each request; of other tools, lists may be null.
        features: What each request says of person and moment, as the version reads it.

    Raises:
        UsageError: a value is out of its range.
    """
    ages = [[UNKNOWN_AGE if then < 0 else max(0, asked - then) for then in times]
            for asked, times in zip(requests["time"], _lists(requests["history_time"]), strict=True)]
    sent = zip(_lists(requests["prior_items"]), _lists(requests["prior_log_p"]), strict=True)
    said = requests["context"]
    return recommend_inputs(
        history_age_s=ages, query=[query or "" for query in requests["query"]],
        prior=[Override(items, np.array(log_p, np.float32)) for items, log_p in sent],
        history=_lists(requests["history"]), history_action=_lists(requests["history_action"]),
        exclude=_lists(requests["exclude"]), allow_tags=_lists(requests["allow_tags"]), deny_tags=_lists(requests["deny_tags"]),
        time=requests["time"], context=features,
        bounds=[{column: (least, most) for column, least, most in bounds_of(text)} for text in said],
        boosts=[boosts_of(text) for text in said], head_weights=[head_weights_of(text) for text in said],
    )


def _lists(values: Sequence[list[Any] | None]) -> list[list[Any]]:
    return [value or [] for value in values]

"""The requests that an export carries, on the catalogue's own items: its probes, and most of them its warm-up.

Each signature is asked, with and without a query, by a lone request. `recommend` is asked in a batch as well: other shapes run
other kernels. The other signatures share their graph with `recommend`, and each further record costs a load its time.
"""
from typing import Any

import numpy as np

from tfrec.client.inputs import UNKNOWN_AGE
from tfrec.client.warmup import Request
from tfrec.config import Config
from tfrec.models.recommender import Recommender

Inputs = dict[str, Any]

_DAY = 86_400
_BATCH = 4
_K = 10


def cold_signatures(config: Config) -> set[str]:
    """Signatures without warm-up. Each would add a good part of a second to every load; its first request takes it instead."""
    return {"explain", "explore", "thompson", "linucb"} - {config.gateway.exploring}


def recorded_requests(recommender: Recommender) -> list[Request]:
    """The requests of an export, the same for the same recommender."""
    return [*_lone_requests(recommender), *_recommend_filtered(recommender, _BATCH)]


def _lone_requests(recommender: Recommender) -> list[Request]:
    behaviour, some, (nothing, texts) = _behaviour(recommender, 1), _some_items(recommender, 1), _queries(recommender, 1)
    history, prior, k = {"history": behaviour["history"]}, _prior(some), _k(1)
    requests = _recommend_filtered(recommender, 1)
    for query in (nothing, texts):
        requests += [
            Request("serving_default", history | {"query": query, "k": k}),
            Request("recommend", behaviour | _NO_FILTERS | {"query": query, "k": k}),
            Request("embed_query", history | {"query": query}),
        ]
    wanted = behaviour | _filters(behaviour, some) | {"query": nothing, "k": k}
    alpha, seed = {"alpha": np.ones(1, np.float32)}, {"seed": np.zeros(1, np.int64)}
    # at temperature 0: with Gumbel noise, scores that another kernel rounds otherwise may give another slate
    policy = {"temperature": np.zeros(1, np.float32), "epsilon": np.full(1, 0.5, np.float32)}
    return [
        *requests,
        Request("explore", wanted | policy | seed),
        Request("thompson", wanted | alpha | seed),
        Request("linucb", wanted | alpha),
        Request("rank", behaviour | prior | {"candidates": behaviour["history"], "query": nothing}),
        Request("explain", behaviour | prior | {"item": some, "query": texts}),
        Request("similar", {"item": some, "k": k}),
        Request("embed_item", {"text": texts}),
    ]


def _recommend_filtered(recommender: Recommender, batch: int) -> list[Request]:
    behaviour = _behaviour(recommender, batch)
    asked = behaviour | _filters(behaviour, _some_items(recommender, batch)) | {"k": _k(batch)}
    return [Request("recommend", asked | {"query": query}) for query in _queries(recommender, batch)]


def _behaviour(recommender: Recommender, batch: int) -> Inputs:
    """Histories as long as the model reads them; all but the first are half as long."""
    ids, length = recommender.catalogue.ids.tolist(), recommender.config.model.history
    history = np.array(ids, object)[np.arange(batch * length).reshape(batch, length) % len(ids)]
    history[1:, : length // 2] = ""
    return {
        "history": history,
        "history_action": np.where(history == "", "", next(iter(recommender.actions), "")),
        "history_age_s": np.where(history == "", UNKNOWN_AGE, np.arange(length, 0, -1) * _DAY).astype(np.int64),
    }


def _filters(behaviour: Inputs, items: list[str]) -> Inputs:
    """The history is excluded, and each row brings the log p of its own one of `items`."""
    none = np.zeros([len(items), 0], object)
    return {"exclude": behaviour["history"], "allow_tags": none, "deny_tags": none} | _prior(items)


def _prior(items: list[str]) -> Inputs:
    return {
        "prior_items": np.array([[item] for item in items], object),
        "prior_log_p": np.full([len(items), 1], -1.0, np.float32),
    }


_NO_FILTERS: Inputs = {
    **dict.fromkeys(("exclude", "allow_tags", "deny_tags", "prior_items"), np.zeros([1, 0], object)),
    "prior_log_p": np.zeros([1, 0], np.float32),
}


def _some_items(recommender: Recommender, batch: int) -> list[str]:
    return [str(item) for item in np.resize(recommender.catalogue.ids, batch)]


def _queries(recommender: Recommender, batch: int) -> tuple[list[str], list[str]]:
    """No query, and items' texts."""
    texts = [text or "a" for text in recommender.catalogue.texts]
    return [""] * batch, [texts[row % len(texts)] for row in range(batch)]


def _k(batch: int) -> np.ndarray:
    return np.full(batch, _K, np.int32)

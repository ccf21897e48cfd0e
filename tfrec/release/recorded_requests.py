"""The requests that an export carries, on the catalogue's own items: its probes, and most of them its warm-up.

Each signature is asked, with and without a query, by a lone request. `recommend` is asked in a batch as well: other shapes run
other kernels. The other signatures share their graph with `recommend`, and each further record costs a load its time.
"""
from typing import Any

import numpy as np

from tfrec.client.contract import FILTERS, signatures
from tfrec.client.inputs import UNKNOWN_AGE
from tfrec.client.slate_options import MOST, boost_inputs, bound_inputs, head_inputs, nothing_asked, reranking_inputs
from tfrec.client.warmup import Request
from tfrec.config import Config
from tfrec.data.records import Boost
from tfrec.models.recommender import Recommender

Inputs = dict[str, Any]

ASKED_OF_SHARED = ("recommend", "rank")  # signatures whose answers depend on all towers, the index and the popularity

_DAY = 86_400
_TYPES = {"string": object}  # of numpy, where the name is another one
_BATCH = 4
_K = 10


def cold_signatures(config: Config) -> set[str]:
    """Signatures without warm-up. Each would add a good part of a second to every load; its first request takes it instead."""
    return {"explain", "explore", "thompson", "linucb"} - {config.gateway.exploring}


def recorded_requests(recommender: Recommender) -> list[Request]:
    """The requests of an export, the same for the same recommender."""
    takes = {name: inputs for name, (inputs, _) in signatures(context=bool(recommender.requests.width)).items()}
    return [Request(request.signature, {name: request.inputs[name] for name in takes[request.signature]})
            for request in (*_lone_requests(recommender), *_with_and_without_query("recommend", _inputs(recommender, _BATCH)))]


def asked_of_shared(requests: list[Request]) -> list[Request]:
    """Those that a version is asked whose graph was verified with its parent: what new weights change shows in these answers."""
    kinds: dict[tuple[str, bool, bool], Request] = {}
    for request in requests:
        if request.signature in ASKED_OF_SHARED:
            query = request.arrays()["query"]
            kinds.setdefault((request.signature, bool(query[0]), len(query) > 1), request)
    return list(kinds.values())


def _lone_requests(recommender: Recommender) -> list[Request]:
    inputs = _inputs(recommender, 1)
    unfiltered = inputs | {name: np.zeros([1, 0], _TYPES.get(kind.dtype, kind.dtype)) for name, kind in FILTERS.items()}
    none = np.zeros([1, 0], object)
    unfiltered |= {"time": np.full(1, -1, np.int64), "context_name": none, "context_value": none}  # nor is anybody known
    searched = inputs | {"query": inputs["text"]}
    return [
        *_with_and_without_query("recommend", inputs),
        *_with_and_without_query("serving_default", inputs),
        *_with_and_without_query("recommend", unfiltered),
        _request("recommend", inputs | _reranked(recommender)),
        *([_request("recommend", inputs | head_inputs([{}], 1))] if recommender.ranker is not None else ()),
        *_with_and_without_query("embed_query", inputs),
        *(_request(signature, inputs) for signature in ("explore", "thompson", "linucb", "rank", "similar", "embed_item")),
        _request("explain", searched),
    ]


def _with_and_without_query(signature: str, inputs: Inputs) -> list[Request]:
    return [_request(signature, inputs | {"query": query}) for query in (inputs["query"], inputs["text"])]


def _request(signature: str, inputs: Inputs) -> Request:
    return Request(signature, inputs)


def _inputs(recommender: Recommender, batch: int) -> Inputs:
    """All inputs of all signatures: the history is excluded, and each row brings the log p of one item."""
    ids, texts = recommender.catalogue.ids.tolist(), [text or "a" for text in recommender.catalogue.texts]
    behaviour = _behaviour(recommender, batch)
    items, none = [ids[row % len(ids)] for row in range(batch)], np.zeros([batch, 0], object)
    return behaviour | _context(recommender, batch) | {
        "query": [""] * batch,
        "k": np.full(batch, _K, np.int32),
        "exclude": behaviour["history"], "allow_tags": none, "deny_tags": none, **nothing_asked(batch),
        "prior_items": np.array([[item] for item in items], object), "prior_log_p": np.full([batch, 1], -1.0, np.float32),
        # at temperature 0: with Gumbel noise, scores that another kernel rounds otherwise may give another slate
        "temperature": np.zeros(batch, np.float32), "epsilon": np.full(batch, 0.5, np.float32),
        "alpha": np.ones(batch, np.float32), "seed": np.arange(batch, dtype=np.int64),
        "candidates": behaviour["history"], "item": items, "text": [texts[row % len(ids)] for row in range(batch)],
    }


def _context(recommender: Recommender, batch: int) -> Inputs:
    """A moment, and a value of each feature; the last row has none."""
    kinds = recommender.config.features.named
    names = np.array([list(kinds)] * batch, object).reshape(batch, len(kinds))
    values = np.array([[str(row) if kind == "number" else f"{name} {row}" for name, kind in kinds.items()]
                       for row in range(batch)], object).reshape(batch, len(kinds))
    if batch > 1:
        names[-1] = values[-1] = ""
    return {"time": np.arange(batch, dtype=np.int64) * 40_000, "context_name": names, "context_value": values}


def _reranked(recommender: Recommender) -> Inputs:
    """Numbers within bounds, caps and boosts: a slate is chosen item by item, as for diversity.

    Diversity itself is 0, as items may tie by it whose scores do not: another kernel may choose the other one.
    """
    bounds = dict.fromkeys(recommender.catalogue.numeric_columns[:1], (None, MOST))
    boosts: list[Boost] = [("item", str(recommender.catalogue.ids[0]), 0.5, None, None)]
    return bound_inputs([bounds], 1) | reranking_inputs(0.0, [{"": 3}], 1) | boost_inputs([boosts], 1)


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

"""Which index a recommender gets, how much of it a query reads, and what it finds: chosen and measured at export.

A small catalogue is searched whole. In a large one, queries read as little as finds `serving.recall_target` of the exact best 100
by the full score, and of the 100 behind 200 others. Another sample of queries then measures the finished index, also with
exclusions and under a tag that few items have. An index that misses the target is not served: all items are searched instead,
which is slower and right, while an export that failed here would cost a finished training.
"""
import logging
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfrec.graph.clustering import centroids
from tfrec.graph.exact_index import ExactIndex
from tfrec.graph.inverted_index import SHALLOW, InvertedIndex, ProbeLimits
from tfrec.graph.probe_limits import least_probe_limits
from tfrec.graph.quantization import Storage
from tfrec.graph.recall import ExactBest, sample_queries
from tfrec.models.lexical.lexicon import Lexicon
from tfrec.models.recommender import Recommender

log = logging.getLogger(__name__)

# items; `index_speed.py --crossing`: at 50,000 inverted lists are .8 times as fast as all items, at 100,000 1.8 times
INVERTED_FROM = 60_000
MEASURED_K = SHALLOW

_CHOOSING, _MEASURING = 512, 128  # queries of behaviour, and as many searches; limits chosen by 128 are off by a third
_MORE = 1.1  # times as much is read when the second sample finds too little
_MOST = 0.25  # of all blocks: reading more than that is no faster than reading all in order


class InvertedLists(NamedTuple):
    """The lists of an index, and how much of them a query reads."""

    centroids: npt.NDArray[np.float32]
    shallow: ProbeLimits
    deep: ProbeLimits


class Given(NamedTuple):
    """The index of the version whose graph a delta shares."""

    lists: InvertedLists | None  # None where all items are searched
    storage: Storage


def choose_index(recommender: Recommender, *, given: Given | None = None,
                 lexicon: Lexicon | None = None) -> tuple[ExactIndex, dict[str, Any]]:
    """The index of a recommender's items, and its entry in the manifest.

    Args:
        recommender: whose items, vectors and popularity are indexed.
        given: for a delta: the same kind of index is made, with these lists. A recall below the target is then only a warning.
        lexicon: the words of the catalogue, if it is searched by words. What they find is not in the recall: they miss nothing.
    """
    config, catalogue = recommender.config.serving, recommender.catalogue
    is_inverted = len(catalogue) >= INVERTED_FROM if given is None else given.lists is not None
    storage = config.index_storage if given is None else given.storage
    if not is_inverted and storage == "float32":
        return _exact(recommender, lexicon), {"kind": "exact"}
    exact = ExactBest(catalogue, recommender.item_vectors(), recommender.prior.log_p(), k=min(MEASURED_K, config.max_k))
    queries = sample_queries(recommender, n=_MEASURING, seed=recommender.config.training.seed + 1)
    found: dict[str, Any] = {"storage": storage, "k": MEASURED_K, "recall_target": config.recall_target}
    index: ExactIndex
    if is_inverted:
        lists = given.lists if given is not None and given.lists is not None else _least_lists(recommender, exact)
        index = inverted = InvertedIndex(
            catalogue, exact.vectors, exact.log_p, max_k=config.max_k, centroids=lists.centroids, shallow=lists.shallow,
            deep=lists.deep, storage=storage, lexicon=lexicon)
        recall = exact.recall(index, queries)
        while given is None and min(recall.values()) < config.recall_target and inverted.read_more(_MORE, most=_MOST):
            recall = exact.recall(index, queries)
        found |= {"kind": "lists", "recall": recall, "lists": len(lists.centroids), "near": inverted.shallow._asdict(),
                  "far": inverted.deep._asdict()}
    else:
        index = _exact(recommender, lexicon, storage)
        found |= {"kind": "exact", "recall": exact.recall(index, queries)}
    least = min(found["recall"].values())
    if least >= config.recall_target:
        return index, found
    missed = f"the index finds {least:.3f} of the exact best {MEASURED_K}, less than {config.recall_target}"
    if given is not None:
        log.warning("%s: export the model again, so that its lists are made anew", missed)
        return index, found
    log.warning("%s: all items are searched instead. Lower serving.recall_target, or set serving.index_storage=float32", missed)
    return _exact(recommender, lexicon), {"kind": "exact", "refused": found}


def _exact(recommender: Recommender, lexicon: Lexicon | None, storage: Storage = "float32") -> ExactIndex:
    return ExactIndex(recommender.catalogue, recommender.item_vectors(), recommender.prior.log_p(),
                      max_k=recommender.config.serving.max_k, storage=storage, lexicon=lexicon)


def _least_lists(recommender: Recommender, exact: ExactBest) -> InvertedLists:
    """New lists, and the least limits by which a sample of queries reaches the target."""
    config = recommender.config
    made = centroids(exact.vectors, seed=config.training.seed)
    sample = sample_queries(recommender, n=_CHOOSING, seed=config.training.seed)
    return InvertedLists(made, *least_probe_limits(exact, made, sample, target=config.serving.recall_target))

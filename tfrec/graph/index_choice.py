"""Which index a recommender gets, how much of it a query reads, and what it finds: chosen and measured at export.

Small catalogues are searched whole. For large ones queries read as little as finds `serving.recall_target` of the exact best 100
by the full score, popularity included, and of the 100 behind 200 others; another sample of queries then measures the finished
index, also with exclusions and under a tag that few items have. An index that misses the target is not served: all items
are searched instead, which is slower and right. An export that failed here would cost a finished training.
"""
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.data.items.catalogue import Catalogue
from tfrec.graph.clustering import BLOCK, centres, layout
from tfrec.graph.exact_index import ExactIndex, Filters
from tfrec.graph.inverted_index import FAR, NEAR, InvertedIndex, Reach
from tfrec.graph.quantization import Storage
from tfrec.models.recommender import Recommender
from tfrec.models.two_tower import SEARCH_BETA

log = logging.getLogger(__name__)

LISTS_FROM = 60_000  # items; `index_speed.py --crossing`: at 50,000 lists are .8 times as fast as all items, at 100,000 1.8 times
MEASURED_K = NEAR
EXCLUDED = FAR - NEAR
TAG_SHARE = 0.01

_CHOOSING, _QUERIES = 512, 128  # of behaviour, and as many searches: to choose by (128 are off by a third), and to measure
_SPREAD = 1.5
_AT_ONCE = 32
_MORE = 1.1  # times as far, when the second sample finds too little
_MOST = 0.25  # of all blocks: reading more than that is no faster than reading all in order

Floats = npt.NDArray[np.float32]


class Queries(NamedTuple):
    """What a sample of requests multiplies with item vectors `[n, dim]`, and how each weighs popularity `[n]`."""

    u: Floats
    beta: Floats


class Lists(NamedTuple):
    """The lists of an index, and how far a query reads in them."""

    centres: Floats
    near: Reach
    far: Reach


class Given(NamedTuple):
    """The index of the version whose graph a delta shares: its lists, None where all items are searched."""

    lists: Lists | None
    storage: Storage


def choose_index(recommender: Recommender, *, given: Given | None = None) -> tuple[ExactIndex, dict[str, Any]]:
    """The index of a recommender's items, and its entry in the manifest.

    Args:
        recommender: whose items, vectors and popularity are indexed.
        given: for a delta: the same kind of index is made, with these lists. A recall below the target is then only a warning.
    """
    config, catalogue = recommender.config.serving, recommender.catalogue
    vectors, log_p = recommender.item_vectors(), recommender.prior.log_p()
    whole = len(catalogue) < LISTS_FROM if given is None else given.lists is None
    storage = config.index_storage if given is None else given.storage
    if whole and storage == "float32":
        return ExactIndex(catalogue, vectors, log_p, max_k=config.max_k), {"kind": "exact"}
    seed = recommender.config.training.seed
    truth = Truth(catalogue, vectors, log_p, k=min(MEASURED_K, config.max_k))
    found: dict[str, Any] = {"storage": storage, "k": MEASURED_K, "recall_target": config.recall_target}
    queries = sample_queries(recommender, n=_QUERIES, seed=seed + 1)
    if whole:
        index = ExactIndex(catalogue, vectors, log_p, max_k=config.max_k, storage=storage)
        found |= {"kind": "exact", "recall": truth.recall(index, queries)}
    else:
        if given is not None and given.lists is not None:
            lists = given.lists
        else:
            made = centres(vectors, seed=seed)
            sample = sample_queries(recommender, n=_CHOOSING, seed=seed)
            lists = Lists(made, *least_reaches(truth, made, sample, target=config.recall_target))
        index = InvertedIndex(catalogue, vectors, log_p, max_k=config.max_k, centres=lists.centres, near=lists.near,
                              far=lists.far, storage=storage)
        recall = truth.recall(index, queries)
        while given is None and min(recall.values()) < config.recall_target and index.read_more(_MORE, most=_MOST):
            recall = truth.recall(index, queries)
        found |= {"kind": "lists", "recall": recall, "lists": len(lists.centres), "near": index.near._asdict(),
                  "far": index.far._asdict()}
    least = min(found["recall"].values())
    if least >= config.recall_target:
        return index, found
    missed = f"the index finds {least:.3f} of the exact best {MEASURED_K}, less than {config.recall_target}"
    if given is not None:
        log.warning("%s: export the model again, so that its lists are made anew", missed)
        return index, found
    log.warning("%s: all items are searched instead. Lower serving.recall_target, or set serving.index_storage=float32", missed)
    return ExactIndex(catalogue, vectors, log_p, max_k=config.max_k), {"kind": "exact", "refused": found}


def least_reaches(truth: "Truth", made: Floats, queries: Queries, *, target: float) -> tuple[Reach, Reach]:
    """How far queries must read in the lists of the centres `made` to find `target` of the first best, and of those behind them.

    Of all reaches that find so much, the one whose blocks are `_SPREAD` times what they would have to be if all queries read the
    same: those that need little are then held by their drop, and nearly none by its blocks.
    """
    lists = layout(truth.vectors, truth.log_p, truth.available, made)
    block = np.empty(len(truth.vectors), np.int64)
    block[lists.order[lists.order >= 0]] = np.flatnonzero(lists.order >= 0) // BLOCK
    list_of = np.repeat(np.arange(len(made)), lists.blocks)  # of each block behind the head's
    needed: list[npt.NDArray[np.float64]] = []  # of each of the best items: blocks to read, and how far the promise drops
    for u, beta, best in truth.best(queries, skip=EXCLUDED):
        promise = u @ made.T + beta[:, None] * lists.peak
        ranked = np.argsort(-promise, axis=1, kind="stable")
        before = np.empty_like(ranked)
        counts = lists.blocks[ranked]
        np.put_along_axis(before, ranked, np.cumsum(counts, axis=1) - counts, axis=1)
        behind = block[best] - lists.head // BLOCK
        own = list_of[np.maximum(behind, 0)]
        number = np.take_along_axis(before, own, axis=1) + block[best] - lists.first[own] + 1
        drop = promise.max(axis=1, keepdims=True) - np.take_along_axis(promise, own, axis=1)
        needed.append(np.where(behind < 0, 0.0, np.stack([number, drop])))
    every = np.concatenate(needed, axis=1)
    first = every[:, :, : min(truth.k, every.shape[2])]
    behind_them = every[:, :, EXCLUDED:] if every.shape[2] > EXCLUDED else every
    return _least(first.reshape(2, -1), target), _least(behind_them.reshape(2, -1), target)


def _least(needed: npt.NDArray[np.float64], target: float) -> Reach:
    number, drop = needed
    enough = int(np.ceil(target * len(drop))) - 1
    blocks = max(1, int(np.ceil(_SPREAD * np.sort(number)[enough])))
    return Reach(blocks, float(np.sort(drop[number <= blocks])[enough]))


class Truth:
    """The exact best `k` items by `vectors` and `log_p`, and how many of them an index finds."""

    def __init__(self, catalogue: Catalogue, vectors: Floats, log_p: Floats, *, k: int) -> None:
        self.vectors, self.log_p = vectors, log_p
        self.ids, self._index, items = catalogue.ids, catalogue.index, catalogue.items
        self.available = catalogue.available
        self.k = k
        counts: dict[str, int] = {}
        for item in items:
            for tag in set(item.tags) - {""}:
                counts[tag] = counts.get(tag, 0) + 1
        # the tag whose share is nearest to the one that is asked for, on a scale of ratios
        self.tag = min(sorted(counts), key=lambda tag: abs(np.log(counts[tag] / len(items) / TAG_SHARE)), default=None)
        self._tagged = np.array([self.tag in item.tags for item in items])

    def best(self, queries: Queries, *, passes: npt.NDArray[np.bool_] | None = None,
             skip: int = 0) -> Iterator[tuple[Floats, Floats, npt.NDArray[np.int64]]]:
        """Parts of the queries: `u`, `beta` and the best items `[n, k]` among those that pass, without the first `skip`."""
        passes = self.available if passes is None else passes & self.available
        kept = np.flatnonzero(passes)
        wanted = min(skip + self.k, len(kept))
        for at in range(0, len(queries.u), _AT_ONCE):
            u, beta = queries.u[at : at + _AT_ONCE], queries.beta[at : at + _AT_ONCE]
            scores = u @ self.vectors[kept].T + beta[:, None] * self.log_p[kept]
            top = np.argpartition(-scores, wanted - 1, axis=1)[:, :wanted]
            order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
            yield u, beta, kept[np.take_along_axis(top, order, axis=1)]

    def recall(self, index: ExactIndex, queries: Queries) -> dict[str, float]:
        """Mean share of the exact best that `index` finds: of behaviour, of searches, with exclusions, and by a rare tag."""
        half = len(queries.u) // 2
        cases = {
            "behaviour": self._found(index, Queries(queries.u[:half], queries.beta[:half])),
            "search": self._found(index, Queries(queries.u[half:], queries.beta[half:])),
            f"exclude_{EXCLUDED}": self._found(index, queries, exclude=EXCLUDED),
        }
        if self.tag is not None:
            cases["tag"] = self._found(index, queries, tag=self.tag)
        return cases

    def _found(self, index: ExactIndex, queries: Queries, *, exclude: int = 0, tag: str | None = None) -> float:
        shares = []
        passes = None if tag is None else self._tagged
        for u, beta, best in self.best(queries, passes=passes, skip=exclude):
            rows = len(u)
            none = tf.zeros([rows, 0], tf.string)
            filters = Filters(
                tf.constant(self.ids[best[:, :exclude]].tolist(), tf.string, [rows, min(exclude, best.shape[1])]),
                none if tag is None else tf.fill([rows, 1], tag), none, none, tf.zeros([rows, 0]),
            )
            best = best[:, exclude:]
            if not best.shape[1]:
                continue
            answer = index.search(tf.constant(u), tf.fill([rows], best.shape[1]), beta=tf.constant(beta), filters=filters)
            for row, ids in zip(best, answer["items"].numpy(), strict=True):
                items = {self._index[item.decode()] for item in ids if item}
                shares.append(len(items.intersection(row.tolist())) / len(row))
        return float(np.mean(shares)) if shares else 1.0


def sample_queries(recommender: Recommender, *, n: int, seed: int) -> Queries:
    """`n` users with histories drawn by popularity, and `n` searches with the texts of items."""
    rng = np.random.default_rng(seed)
    model, length = recommender.model, recommender.config.model.history
    vectors, p = recommender.item_vectors(), np.exp(recommender.prior.log_p().astype(np.float64))
    items = rng.choice(len(vectors), [n, length], p=p / p.sum())
    action, gap = np.zeros(items.shape, np.int32), np.full(items.shape, -1, np.int64)
    hidden = model.queries(tf.constant(vectors[items]), tf.constant(action), tf.constant(gap))[:, -1]
    searched = rng.choice(len(vectors), n)
    u = np.concatenate([model.scale_behaviour(hidden), model.scale_query(tf.constant(recommender.text[searched]))])
    beta = np.repeat([float(model.beta.numpy()), SEARCH_BETA], n)
    return Queries(u.astype(np.float32), beta.astype(np.float32))

"""What an index finds of the exact best items by the full score, popularity included, on a sample of requests."""
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.data.items.catalogue import Catalogue
from tfrec.graph.exact_index import ExactIndex, Filters
from tfrec.graph.inverted_index import DEEP, SHALLOW
from tfrec.models.recommender import Recommender
from tfrec.models.two_tower import SEARCH_BETA

EXCLUDED = DEEP - SHALLOW  # of the best items, where recall is measured behind them
TAG_SHARE = 0.01
QUERIES_AT_ONCE = 32

Floats = npt.NDArray[np.float32]
Part = tuple[Floats, Floats, npt.NDArray[np.int64]]


class Queries(NamedTuple):
    """A sample of requests: what is multiplied with item vectors `[n, dim]`, and the weight of popularity `[n]`."""

    u: Floats
    beta: Floats


class ExactBest:
    """The best `k` items by `vectors` and `log_p`, found by reading all of them, and the share of them that an index finds."""

    def __init__(self, catalogue: Catalogue, vectors: Floats, log_p: Floats, *, k: int) -> None:
        self.vectors, self.log_p = vectors, log_p
        self.ids, self._index, items = catalogue.ids, catalogue.index, catalogue.items
        self.available = catalogue.available
        self.k = k
        counts = Counter(tag for item in items for tag in set(item.tags) - {""})
        # the tag whose share is nearest to the one that is asked for, on a scale of ratios
        self.tag = min(sorted(counts), key=lambda tag: abs(np.log(counts[tag] / len(items) / TAG_SHARE)), default=None)
        self._tagged = np.array([self.tag in item.tags for item in items])

    def best(self, queries: Queries, *, passes: npt.NDArray[np.bool_] | None = None, skip: int = 0) -> Iterator[Part]:
        """Parts of the queries: `u`, `beta` and the `skip + k` best of the items that pass and are available, `[n, skip + k]`."""
        passes = self.available if passes is None else passes & self.available
        kept = np.flatnonzero(passes)
        wanted = min(skip + self.k, len(kept))
        for at in range(0, len(queries.u), QUERIES_AT_ONCE):
            u, beta = (part[at : at + QUERIES_AT_ONCE] for part in queries)
            scores = u @ self.vectors[kept].T + beta[:, None] * self.log_p[kept]
            top = np.argpartition(-scores, wanted - 1, axis=1)[:, :wanted]
            order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
            yield u, beta, kept[np.take_along_axis(top, order, axis=1)]

    def recall(self, index: ExactIndex, queries: Queries) -> dict[str, float]:
        """Mean share of the exact best that `index` finds: of behaviour, of searches, with exclusions, and by a rare tag."""
        half = len(queries.u) // 2
        cases = {
            "behaviour": self._recall(index, Queries(queries.u[:half], queries.beta[:half])),
            "search": self._recall(index, Queries(queries.u[half:], queries.beta[half:])),
            f"exclude_{EXCLUDED}": self._recall(index, queries, exclude=EXCLUDED),
        }
        if self.tag is not None:
            cases["tag"] = self._recall(index, queries, tag=self.tag)
        return cases

    def _recall(self, index: ExactIndex, queries: Queries, *, exclude: int = 0, tag: str | None = None) -> float:
        shares = []
        for u, beta, best in self.best(queries, passes=None if tag is None else self._tagged, skip=exclude):
            excluded, wanted = best[:, :exclude], best[:, exclude:]
            if not wanted.shape[1]:
                continue
            answer = index.search(tf.constant(u), tf.fill([len(u)], wanted.shape[1]), beta=tf.constant(beta),
                                  filters=self._filters(excluded, tag))
            for row, ids in zip(wanted, answer["items"].numpy(), strict=True):
                items = {self._index[item.decode()] for item in ids if item}
                shares.append(len(items.intersection(row.tolist())) / len(row))
        return float(np.mean(shares)) if shares else 1.0

    def _filters(self, excluded: npt.NDArray[np.int64], tag: str | None) -> Filters:
        rows = len(excluded)
        given = {"exclude": tf.constant(self.ids[excluded].tolist(), tf.string, list(excluded.shape))}
        return Filters.of(rows, **given if tag is None else given | {"allow_tags": tf.fill([rows, 1], tag)})


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

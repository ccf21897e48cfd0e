"""Ranking metrics and metrics of slates.

Metrics of a rank are given per event, because an interval, a difference or a slice needs the values before they are averaged. A
rank is `1 + higher + ties / 2`, so it may end in .5.
"""
import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def hits(rank: ArrayLike, *, k: int) -> FloatArray:
    """`[n]`: 1 where the item is among the first k. Its mean is the hit rate, HR@k."""
    return (np.asarray(rank, np.float64) <= k).astype(np.float64)


def ndcg(rank: ArrayLike, *, k: int) -> FloatArray:
    """`[n]`: 1 / log2(rank + 1) where rank <= k, else 0: DCG of a list with one relevant item, whose ideal DCG is 1."""
    rank = np.asarray(rank, np.float64)
    return np.where(rank <= k, 1 / np.log2(rank + 1), 0.0)


def auc(rank: ArrayLike, candidates: ArrayLike) -> FloatArray:
    """`[n]`: the share of the other candidates that score below the item, a tie counting half; .5 for a lone candidate.

    With one relevant item an event, this is the area under the ROC curve of that event.
    """
    rank, candidates = np.asarray(rank, np.float64), np.asarray(candidates, np.float64)
    return np.where(candidates > 1, (candidates - rank) / np.maximum(candidates - 1, 1), 0.5)


def catalogue_coverage(slates: ArrayLike, *, n_items: int) -> float:
    """The share of the catalogue that is in at least one slate; `slates` is `[n, k]` item codes, -1 for an empty position."""
    shown = np.asarray(slates).ravel()
    return len(np.unique(shown[shown >= 0])) / n_items if n_items else 0.0


def intra_list_diversity(slates: ArrayLike, vectors: ArrayLike) -> FloatArray:
    """`[n]`: mean of 1 - cosine over the pairs of a slate (Ziegler et al. 2005); NaN where a slate has fewer than two items.

    `slates` is `[n, k]` item codes with -1 for an empty position, `vectors` `[n_items, dim]`. Pairs are not
    enumerated: the cosines of all ordered pairs, each item with itself included, sum to the squared length of the sum of the unit
    vectors.
    """
    slates, vectors = np.asarray(slates), np.asarray(vectors, np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    there = slates >= 0
    placed = unit[np.where(there, slates, 0)] * there[..., None]
    size = there.sum(axis=1)
    with_itself = (placed**2).sum(axis=(1, 2))  # 1 an item, 0 for a vector of zeros, which is similar to nothing
    pairs = size * (size - 1)
    cosines = (placed.sum(axis=1) ** 2).sum(axis=1) - with_itself
    return np.where(pairs > 0, 1 - cosines / np.maximum(pairs, 1), np.nan)

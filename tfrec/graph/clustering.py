"""Clusters items into the lists of an inverted index (`inverted_index.py`). NumPy, seconds on two cores.

K-means on a sample gives centroids, more of them where items lie dense. Then every item goes to the list of its nearest centroid.
Lists are laid out in blocks of `BLOCK` positions, which are read whole; only the last block of a list has empty positions.
"""
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# positions; smaller blocks leave fewer empty (16% here), larger ones are copied faster: 64 vectors of 64 floats are 16 KB
BLOCK = 64
HEAD_SHARE = 0.01  # of the items, the most popular: always read, or their log p would draw every query to their lists

_NLIST = 4.0  # times the root of the number of items: with 3 or 6 a query reads as much, with 2 a tenth more
_SAMPLE = 32  # items of the sample a centroid
_STEPS = 8
_CHUNK = 16_384  # rows of a matrix product, so that it stays small

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Layout:
    """The positions of items in the index: the blocks of the head first, then those of list 0, of list 1, ..."""

    order: npt.NDArray[np.int64]  # [n_positions] the item at each position, -1 for none
    first: Ints  # [nlist] the first block of each list
    blocks: Ints  # [nlist] how many blocks it has
    max_log_p: Floats  # [nlist] of its available items; that of the least popular item where there are none
    head: int  # positions of the head


def centroids(vectors: Floats, *, seed: int) -> Floats:
    """Unit vectors `[nlist, dim]`, each amid a cluster of `vectors` `[n, dim]`; the same for the same seed.

    By spherical k-means (Dhillon & Modha 2001) on a sample. A centroid that loses all its items starts again from one of the
    sample.
    """
    rng = np.random.default_rng(seed)
    wanted = max(1, round(_NLIST * len(vectors) ** 0.5))
    sample: Floats = vectors[rng.choice(len(vectors), min(len(vectors), wanted * _SAMPLE), replace=False)]
    found: Floats = sample[rng.choice(len(sample), min(len(sample), wanted), replace=False)].copy()
    for _ in range(_STEPS):
        home = nearest(sample, found)
        length = np.bincount(home, minlength=len(found))
        starts = np.cumsum(length) - length
        full = np.flatnonzero(length)
        found[full] = np.add.reduceat(sample[np.argsort(home, kind="stable")], starts[full])
        empty = np.flatnonzero(length == 0)
        found[empty] = sample[rng.choice(len(sample), len(empty))]
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-30)
    return found


def nearest(vectors: Floats, centroids: Floats) -> npt.NDArray[np.int64]:
    """The centroid with the largest inner product, for each of `vectors`: `[n]`."""
    chunks = range(0, len(vectors), _CHUNK)
    return np.concatenate([np.argmax(vectors[at : at + _CHUNK] @ centroids.T, axis=1) for at in chunks])


def layout(vectors: Floats, log_p: Floats, available: npt.NDArray[np.bool_], centroids: Floats) -> Layout:
    """Positions for all items: the most popular ones in the head, the others in the list of their nearest centroid."""
    popular = np.argsort(np.where(available, -log_p, np.inf), kind="stable")[: int(np.ceil(HEAD_SHARE * len(vectors)))]
    home = nearest(vectors, centroids) + 1
    home[popular] = 0  # as if the head were one more list, in front
    length = np.bincount(home, minlength=len(centroids) + 1)
    blocks = -(-length // BLOCK)
    first = np.concatenate([[0], np.cumsum(blocks)])
    items = np.argsort(home, kind="stable")
    within = np.arange(len(items)) - (np.cumsum(length) - length)[home[items]]
    order = np.full(first[-1] * BLOCK, -1, np.int64)
    order[first[home[items]] * BLOCK + within] = items
    max_log_p = np.full(len(length), log_p.min(), np.float32)
    np.maximum.at(max_log_p, home[available], log_p[available])
    return Layout(order, first[1:-1].astype(np.int32), blocks[1:].astype(np.int32), max_log_p[1:], int(blocks[0]) * BLOCK)

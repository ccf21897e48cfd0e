"""Items into lists of near vectors, for an index that reads only some of them (`inverted_index.py`). NumPy, seconds on two cores.

Spherical k-means on a sample gives centres; a list that came out long is split into several, since dense regions need more of
them; then every item goes to the list of its nearest centre. Lists are laid out in blocks of `BLOCK` places: a query reads a
fixed number of blocks, so its time does not depend on the lists that it meets, and only a list's last block has empty places.
"""
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK = 64  # places; smaller ones leave fewer empty (16% here), larger ones are copied faster: 64 vectors of 64 floats are 16 KB
HEAD_SHARE = 0.01  # of the items, the most popular: always read, or their log p would draw every query to their lists

_LISTS = 3.0  # times the root of the number of items: choosing lists and reading them then take about the same time
_LONG = 1.5  # times the mean length: such a list is split
_SAMPLE = 32  # items a centre in the sample
_STEPS = 8
_CHUNK = 16_384  # rows of a matrix product, so that it stays small

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Layout:
    """Where items stand: the head's blocks first, then those of list 0, of list 1, ..."""

    order: npt.NDArray[np.int64]  # [n_places] the item at each place, -1 for none
    first: Ints  # [lists] first block of each list
    blocks: Ints  # [lists] how many it has
    peak: Floats  # [lists] largest log p of its items that may come; that of the least popular item where there are none
    head: int  # places of the head


def centres(vectors: Floats, *, seed: int) -> Floats:
    """Unit vectors `[lists, dim]` in the midst of near `vectors` `[n, dim]`; the same for the same seed."""
    rng = np.random.default_rng(seed)
    wanted = max(1, round(_LISTS * len(vectors) ** 0.5))
    found = _k_means(vectors, wanted, rng)
    home = nearest(vectors, found)
    long = _LONG * len(vectors) / wanted
    parts = [found]
    for number, length in enumerate(np.bincount(home, minlength=len(found))):
        if length > long:
            members = vectors[home == number]
            parts.append(_k_means(members, int(np.ceil(length / long * 1.5)), rng))
            found[number] = 0
    every = np.concatenate(parts)
    return every[every.any(axis=1)]


def nearest(vectors: Floats, centres: Floats) -> npt.NDArray[np.int64]:
    """`[n]`: the centre with the largest inner product."""
    chunks = range(0, len(vectors), _CHUNK)
    return np.concatenate([np.argmax(vectors[at : at + _CHUNK] @ centres.T, axis=1) for at in chunks])


def layout(vectors: Floats, log_p: Floats, available: npt.NDArray[np.bool_], centres: Floats) -> Layout:
    """Places for all items: in the head the most popular ones, the others in the list of their nearest centre."""
    popular = np.argsort(np.where(available, -log_p, np.inf), kind="stable")[: int(np.ceil(HEAD_SHARE * len(vectors)))]
    home = nearest(vectors, centres) + 1
    home[popular] = 0  # as if the head were one more list, in front
    length = np.bincount(home, minlength=len(centres) + 1)
    blocks = -(-length // BLOCK)
    first = np.concatenate([[0], np.cumsum(blocks)])
    items = np.argsort(home, kind="stable")
    within = np.arange(len(items)) - (np.cumsum(length) - length)[home[items]]
    order = np.full(first[-1] * BLOCK, -1, np.int64)
    order[first[home[items]] * BLOCK + within] = items
    peak = np.full(len(length), log_p.min(), np.float32)
    np.maximum.at(peak, home[available], log_p[available])
    return Layout(order, first[1:-1].astype(np.int32), blocks[1:].astype(np.int32), peak[1:], int(blocks[0]) * BLOCK)


def _k_means(vectors: Floats, wanted: int, rng: np.random.Generator) -> Floats:
    """Spherical k-means (Dhillon & Modha 2001) on a sample; a centre that loses all its items starts again from one of them."""
    sample = vectors[rng.choice(len(vectors), min(len(vectors), wanted * _SAMPLE), replace=False)]
    found = sample[rng.choice(len(sample), min(len(sample), wanted), replace=False)].copy()
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

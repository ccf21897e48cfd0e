"""How much of its inverted lists an index has to read to find a wanted share of the exact best items, by a sample of queries.

The blocks and the drop (`inverted_index.ProbeLimits`) that one item needs are known once the lists are laid out: all blocks from
the list with the highest bound to its own have to be read, and its own list's bound is so much lower than the highest.
"""
import numpy as np
import numpy.typing as npt

from tfrec.graph.clustering import BLOCK, Layout, layout
from tfrec.graph.inverted_index import DEEP, SHALLOW, ProbeLimits
from tfrec.graph.recall import ExactBest, Queries

_SPREAD = 1.5

Floats = npt.NDArray[np.float32]


def least_probe_limits(
    exact: ExactBest, centroids: Floats, queries: Queries, *, target: float
) -> tuple[ProbeLimits, ProbeLimits]:
    """The shallow and the deep limits by which queries find the share `target` of the best, and of those behind them.

    Args:
        exact: knows the best items.
        centroids: of the lists, `[nlist, dim]`.
        queries: the sample.
        target: share to be found.
    """
    skipped = DEEP - SHALLOW
    lists = layout(exact.vectors, exact.log_p, exact.available, centroids)
    parts = exact.best(queries, skip=skipped)
    blocks, drop = np.concatenate([_needed(lists, centroids, u, beta, best) for u, beta, best in parts], axis=1)
    behind = slice(skipped if drop.shape[1] > skipped else 0, None)
    first = slice(exact.k)
    return least_limits(blocks[:, first], drop[:, first], target), least_limits(blocks[:, behind], drop[:, behind], target)


def least_limits(blocks: npt.NDArray[np.float64], drop: npt.NDArray[np.float64], target: float) -> ProbeLimits:
    """Limits within which the share `target` of items lies that need so many `blocks`, and such a `drop`.

    Of all such limits, those whose blocks are `_SPREAD` times what they would have to be without a limit to the drop. Queries
    that need little are then stopped by the drop, and hardly any by the blocks.
    """
    enough = int(np.ceil(target * drop.size)) - 1
    most = max(1, int(np.ceil(_SPREAD * np.sort(blocks, axis=None)[enough])))
    return ProbeLimits(most, float(np.sort(drop[blocks <= most])[enough]))


def _needed(lists: Layout, centroids: Floats, u: Floats, beta: Floats, best: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Blocks that must be read to reach each of the `best` items `[n, k]`, and the drop of its list: `[2, n, k]`.

    An item of the head needs neither.
    """
    block = _block_of_items(lists)[best]
    in_head = block < lists.head // BLOCK
    own = np.repeat(np.arange(len(lists.first)), lists.blocks)[np.maximum(block - lists.head // BLOCK, 0)]  # list of each item
    bound = u @ centroids.T + beta[:, None] * lists.max_log_p
    ranked = np.argsort(-bound, axis=1, kind="stable")
    blocks_before = np.empty_like(ranked)  # of the lists with a higher bound, for each list
    counts = lists.blocks[ranked]
    np.put_along_axis(blocks_before, ranked, np.cumsum(counts, axis=1) - counts, axis=1)
    blocks = np.take_along_axis(blocks_before, own, axis=1) + block - lists.first[own] + 1
    drop = bound.max(axis=1, keepdims=True) - np.take_along_axis(bound, own, axis=1)
    return np.where(in_head, 0.0, np.stack([blocks, drop]))


def _block_of_items(lists: Layout) -> npt.NDArray[np.int64]:
    """The block of each item `[n_items]`."""
    filled = np.flatnonzero(lists.order >= 0)
    block = np.empty(len(filled), np.int64)
    block[lists.order[filled]] = filled // BLOCK
    return block

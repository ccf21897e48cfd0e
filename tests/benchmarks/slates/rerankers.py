"""Ways to make slates of ten out of shortlists, in NumPy: what the served graph does, and what it might do.

Each takes scores `[n, N]`, best first, and answers columns `[n, 10]` of the shortlist; -1 where a slate is shorter.
"""
import numpy as np
import numpy.typing as npt

K = 10
RIDGE = 1e-3
Floats = npt.NDArray[np.float32]
Columns = npt.NDArray[np.int64]


def relevance(scores: Floats) -> Floats:
    """Scores from 0, of the last of the shortlist, to 1, of the best: what the graph does."""
    low, high = scores.min(1, keepdims=True), scores.max(1, keepdims=True)
    return (scores - low) / np.maximum(high - low, 1e-9)


def unit(vectors: Floats) -> Floats:
    """Vectors of length 1."""
    found: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    return found


def mmr(scores: Floats, vectors: Floats, *, diversity: float) -> Columns:
    """Maximal marginal relevance (Carbonell & Goldstein 1998): (1 - d) relevance - d (largest cosine with an earlier item)."""
    rel, v = relevance(scores), unit(vectors)
    n, rows = len(scores), np.arange(len(scores))
    nearest, taken, slate = np.zeros_like(rel), np.zeros(rel.shape, bool), np.zeros((n, K), np.int64)
    for position in range(K):
        value = np.where(taken, -np.inf, (1 - diversity) * rel - diversity * nearest)
        slate[:, position] = value.argmax(1)
        taken[rows, slate[:, position]] = True
        cosine = np.einsum("nsd,nd->ns", v, v[rows, slate[:, position]])
        nearest = cosine if position == 0 else np.maximum(nearest, cosine)
    return slate


def dpp(scores: Floats, vectors: Floats, *, diversity: float) -> Columns:
    """Greedy maximum of a determinantal point process (Chen, Zhang & Zhou 2018), as the served graph has it (`reranking.py`).

    The next item has the highest (1 - d) relevance + d log of what of it the items above do not span.
    """
    v, rel, (n, size) = unit(vectors), relevance(scores), scores.shape
    rows, left, taken = np.arange(n), np.ones((n, size)), np.zeros((n, size), bool)
    slate, factor = np.zeros((n, K), np.int64), np.zeros((n, size, K))
    for position in range(K):
        value = np.where(taken, -np.inf, (1 - diversity) * rel + diversity * np.log(np.maximum(left, RIDGE)))
        slate[:, position] = chosen = value.argmax(1)
        taken[rows, chosen] = True
        cosine = (1 - RIDGE) * np.einsum("nsd,nd->ns", v, v[rows, chosen])
        made = cosine - np.einsum("nsk,nk->ns", factor, factor[rows, chosen])
        made /= np.sqrt(np.maximum(left[rows, chosen], RIDGE))[:, None]
        factor[:, :, position] = made
        left -= made**2
    return slate


def capped(scores: Floats, tagged: npt.NDArray[np.bool_], *, most: int) -> Columns:
    """The best items of which at most `most` have the same tag; `tagged` is `[n, N, n_tags]`."""
    n, rows = len(scores), np.arange(len(scores))
    count, taken, slate = np.zeros((n, tagged.shape[2]), np.int64), np.zeros(scores.shape, bool), np.zeros((n, K), np.int64)
    for position in range(K):
        full = (tagged & (count >= most)[:, None]).any(2)
        value = np.where(taken | full, -np.inf, scores)
        chosen = value.argmax(1)
        there = np.isfinite(value[rows, chosen])
        slate[:, position] = np.where(there, chosen, -1)
        taken[rows[there], chosen[there]] = True
        count[there] += tagged[rows[there], chosen[there]]
    return slate


def calibrated(scores: Floats, tagged: npt.NDArray[np.bool_], mix: Floats, *, weight: float) -> Columns:
    """Steck (2018): greedily (1 - w) sum of relevance - w KL(tags of the history, tags of the slate)."""
    rel, n, rows = relevance(scores), len(scores), np.arange(len(scores))
    share = tagged / np.maximum(tagged.sum(2, keepdims=True), 1)
    summed, taken, slate = np.zeros((n, tagged.shape[2])), np.zeros(scores.shape, bool), np.zeros((n, K), np.int64)
    for position in range(K):
        slates = (summed[:, None] + share) / (position + 1)
        value = np.where(taken, -np.inf, (1 - weight) * rel - weight * divergence(mix[:, None], slates))
        slate[:, position] = chosen = value.argmax(1)
        taken[rows, chosen] = True
        summed += share[rows, chosen]
    return slate


def divergence(wanted: Floats, given: Floats) -> Floats:
    """KL(wanted, given) over the last axis, where 1% of `given` is `wanted`, so that it is finite."""
    smooth = 0.99 * given + 0.01 * wanted
    found: Floats = np.where(wanted > 0, wanted * np.log(np.maximum(wanted, 1e-12) / np.maximum(smooth, 1e-12)), 0.0).sum(-1)
    return found

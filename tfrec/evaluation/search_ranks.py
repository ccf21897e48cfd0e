"""How well a model answers searches: the rank of the item that each was for.

Queries come from the log or, where it has few, are items' own texts. A query is ranked without a history, as the index of a
served version does: <u, v_i> + 0.3 log p(i). An item's own text is a poor substitute for what people type, but a model whose
text side is broken does not find even that.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tfrec.data.items.catalogue import Catalogue
from tfrec.evaluation.protocol import CHUNK_BYTES, Scorer

Floats = NDArray[np.float64]

LOG, OWN_TEXTS = "log", "items' own texts"


@dataclass(frozen=True)
class Searches:
    """Queries, with the code of the item that each was for and the user who searched."""

    texts: tuple[str, ...]
    items: NDArray[np.int64]  # [n]
    users: NDArray[np.int64]  # [n]
    source: str  # LOG or OWN_TEXTS

    def __len__(self) -> int:
        return len(self.texts)


def chosen_searches(searched: Sequence[tuple[str, str, str]], catalogue: Catalogue) -> Searches:
    """The searches among (query, chosen item, user) whose item is in the catalogue."""
    kept = [(query, catalogue.index[item], user) for query, item, user in searched if query and item in catalogue.index]
    names = {user: code for code, user in enumerate(dict.fromkeys(user for _, _, user in kept))}
    return Searches(tuple(query for query, _, _ in kept), np.array([item for _, item, _ in kept], np.int64),
                    np.array([names[user] for _, _, user in kept], np.int64), LOG)


def own_texts(catalogue: Catalogue, *, limit: int) -> Searches:
    """The texts of up to `limit` available items, each text of one item only, evenly spread over the catalogue."""
    texts = catalogue.texts
    _, first, count = np.unique(np.array(texts, object).astype(str), return_index=True, return_counts=True)
    once = np.sort(first[count == 1])
    once = np.array([item for item in once if texts[item].strip() and catalogue.available[item]], np.int64)
    chosen = once[np.linspace(0, len(once), min(limit, len(once)), endpoint=False).astype(np.int64)]
    return Searches(tuple(texts[item] for item in chosen), chosen, np.arange(len(chosen)), OWN_TEXTS)


def rank_searches(searches: Searches, scorer: Scorer, *, n_items: int, chunk_bytes: int = CHUNK_BYTES) -> Floats:
    """`[n]`: 1 + items with a higher score + half of the others with an equal one. NaN is below every number.

    Args:
        searches: with the items that they were for.
        scorer: from row numbers of `searches` `[batch]` to scores `[batch, n_items]`.
        n_items: of the catalogue.
        chunk_bytes: of scores held at once.
    """
    rank, step = np.empty(len(searches)), max(1, chunk_bytes // (8 * n_items))
    for start in range(0, len(searches), step):
        rows = np.arange(start, min(start + step, len(searches)))
        scores = scorer(rows)
        scores = np.where(np.isnan(scores), -np.inf, scores)
        own = scores[np.arange(len(rows)), searches.items[rows]][:, None]
        rank[rows] = 1 + (scores > own).sum(1) + 0.5 * ((scores == own).sum(1) - 1)
    return rank


def is_above_chance(ranks: Floats, n_items: int, *, deviations: float = 3.0) -> bool:
    """Whether the mean of ranks `[n]` is better than chance by so many standard `deviations`.

    Under a random order of `n_items` it has the mean (n_items + 1) / 2 and the standard deviation sqrt((n_items^2 - 1) / 12 n).
    """
    if not len(ranks):
        return False
    spread = np.sqrt((n_items**2 - 1) / (12 * len(ranks)))
    return bool(np.mean(ranks) < (n_items + 1) / 2 - deviations * spread)

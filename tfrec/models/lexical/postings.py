"""Postings of a catalogue: for each term the items that have it, and how much it says of them by BM25.

    match(q, i) = sum over kinds of  sum over terms t of q of  impact(t, i)  /  sum over terms t of q of  idf(t)
    impact(t, i) = idf(t) * sum over fields f of  w_f * tf / (tf + k1 (1 - b + b length / mean length of f))
    idf(t) = ln(1 + (n - n_t + 1/2) / (n_t + 1/2))              tf, length: of t and of all terms in field f of i

(Robertson & Zaragoza 2009, The Probabilistic Relevance Framework: BM25 and Beyond; fields are weighted after saturation, so that
one term in two fields says more than twice in one.) The sum over idf bounds what a query can reach, so a match is a share, from 0
to 1 (of trigrams `TRIGRAMS`) for a field of weight 1, whatever the query's length: the theoretical min-max of Bruch, Gai & Ingber
(2023, arXiv:2210.11934). A match can therefore be added to a cosine with weights that hold for all queries.

The kinds are word pieces and trigrams (`terms.py`). Trigrams are kept of names only, which are the fields that are short: there
they find what was misspelt. In long texts they would take most of the memory.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import tensorflow as tf

from tfrec.models.lexical.counts import Counts
from tfrec.models.lexical.terms import LexicalTerms

K1, B = 0.9, 0.75
TRIGRAMS = 2.0  # times the weight of pieces, so that a name with a typo comes first more often

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Postings:
    """The items of each term, `m` in all, as one list after the other.

    Attributes:
        begin: `[n_terms + 1]`, where each term's list begins.
        item: `[m]`, positions, ascending within a list.
        impact: `[m]`.
        idf: `[n_terms]`.
        n_items: positions are below it.
    """

    begin: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    impact: Floats
    idf: Floats
    n_items: int

    def matches(self, queries: Sequence[str], terms: LexicalTerms) -> Floats:
        """What the graph computes: the match of each query with each position, `[len(queries), n_items]`."""
        matrix = sp.csr_matrix((self.impact, self.item, self.begin), shape=(len(self.idf), self.n_items))
        found = np.zeros((len(queries), self.n_items), np.float32)
        for kind in terms.of_queries(tf.constant(list(queries), tf.string)):
            row, term = kind.value_rowids().numpy(), kind.values.numpy()
            total = np.bincount(row, self.idf[term], minlength=len(queries))
            weight = np.divide(1.0, total[row], out=np.zeros(len(row)), where=total[row] > 0)
            asked = sp.csr_matrix((weight.astype(np.float32), (row, term)), shape=(len(queries), len(self.idf)))
            found += (asked @ matrix).toarray()
        return found


def postings(counts: Counts, weights: Mapping[str, float], *, order: npt.NDArray[np.integer] | None = None) -> Postings:
    """The postings of a catalogue.

    Args:
        counts: of its terms.
        weights: of fields; 1 for a field that is not named.
        order: `[n_positions]`, the item at each position, each item once and -1 for none; by default each item is at its own.
    """
    kinds = ((1.0, counts.pieces), (TRIGRAMS, counts.trigrams))
    parts = [_impacts(times, weight * weights.get(field, 1.0)) for weight, kind in kinds for field, times in kind.items()]
    impact, item, term = (np.concatenate(some) for some in zip(*parts, strict=True))
    n, n_terms = next(iter(counts.pieces.values())).shape
    at, n_positions = np.arange(n), n
    if order is not None:
        n_positions = len(order)
        at[order[order >= 0]] = np.flatnonzero(order >= 0)
    # what an item has of a term in several fields is summed
    by_term = sp.coo_matrix((impact, (at[item], term)), shape=(n_positions, n_terms)).tocsc()
    has = np.diff(by_term.indptr)
    idf = np.log1p((n - has + 0.5) / (has + 0.5)).astype(np.float32)
    return Postings(by_term.indptr.astype(np.int64), by_term.indices, by_term.data * np.repeat(idf, has), idf, n_positions)


def _impacts(times: sp.csr_matrix, weight: float) -> tuple[Floats, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """What the terms of a field say of items without their idf, and the item and the term of each, `[m]`."""
    length = np.asarray(times.sum(axis=1)).ravel()
    mean = length.sum() / max((length > 0).sum(), 1)
    item = np.repeat(np.arange(len(length), dtype=np.int32), np.diff(times.indptr))
    norm = K1 * (1 - B + B * length / max(mean, 1e-9))
    return (weight * times.data / (times.data + norm[item])).astype(np.float32), item, times.indices

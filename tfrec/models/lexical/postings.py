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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import tensorflow as tf

from tfrec.data.items.catalogue import Catalogue
from tfrec.models.lexical.terms import LexicalTerms
from tfrec.models.tokenizer.tokenizer import Tokenizer

K1, B = 0.9, 0.75
TRIGRAMS = 2.0  # times the weight of pieces, so that a name with a typo comes first more often
NAME = 48  # mean characters; a field whose texts are longer is no name
FIELD = "text"  # the name of the only field of items whose text is one string
_AT_ONCE = 4096  # texts

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each term is in each field of each item: `m` entries by item, then field, then term.

    Attributes:
        fields: names of the text fields.
        names: which of them have trigrams.
        item, field, term, times: `[m]`.
        length: `[2, n_items, fields]`, pieces and trigrams of each field.
        n_terms: term ids are below it.
        n_pieces: ids of word pieces are below it.
    """

    fields: tuple[str, ...]
    names: tuple[str, ...]
    item: Ints
    field: Ints
    term: Ints
    times: Floats
    length: npt.NDArray[np.int64]
    n_terms: int
    n_pieces: int

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return int(self.length.shape[1])


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


def texts_by_field(catalogue: Catalogue) -> dict[str, list[str]]:
    """The text of each field by position; a field that an item lacks is empty."""
    own = [item.text if isinstance(item.text, dict) else {FIELD: item.text} for item in catalogue.items]
    return {name: [text.get(name, "") for text in own] for name in dict.fromkeys(name for text in own for name in text)}


@lru_cache(maxsize=1)  # a job that exports every few minutes has the same catalogue most of the time
def count_terms(catalogue: Catalogue, tokenizer: Tokenizer) -> Counts:
    """Count the terms of a catalogue; all of its texts are read, about 10,000 items a second."""
    terms, traced = _traced(tokenizer)
    texts, n, parts = texts_by_field(catalogue), len(catalogue), []
    names = tuple(name for name, values in texts.items() if _is_name(values))
    length = np.zeros((2, n, len(texts)), np.int64)
    for number, (name, values) in enumerate(texts.items()):
        for start in range(0, n, _AT_ONCE):
            for kind, found in enumerate(traced(tf.constant(values[start : start + _AT_ONCE]))):
                if kind == 0 or name in names:
                    size = found.row_lengths().numpy()
                    length[kind, start : start + len(size), number] = size
                    row = start + np.repeat(np.arange(len(size)), size)
                    parts.append((row * len(texts) + number) * terms.count + found.values.numpy())
    entries, times = np.unique(np.concatenate([np.zeros(0, np.int64), *parts]), return_counts=True)
    cell, term = np.divmod(entries, terms.count)
    item, field = np.divmod(cell, max(len(texts), 1))
    return Counts(tuple(texts), names, item, field, term, times.astype(np.float32), length, terms.count, terms.n_pieces)


@lru_cache(maxsize=1)
def _traced(tokenizer: Tokenizer) -> tuple[LexicalTerms, Callable[[tf.Tensor], tuple[tf.RaggedTensor, tf.RaggedTensor]]]:
    terms = LexicalTerms(tokenizer)
    return terms, tf.function(terms.__call__, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)


def _is_name(texts: Sequence[str]) -> bool:
    lengths = [len(text) for text in texts if text]
    return bool(lengths) and float(np.mean(lengths)) <= NAME


def postings(counts: Counts, weights: Mapping[str, float], *, order: npt.NDArray[np.integer] | None = None) -> Postings:
    """The postings of a catalogue.

    Args:
        counts: of its terms.
        weights: of fields; 1 for a field that is not named.
        order: `[n_positions]`, the item at each position, -1 for none; by default each item is at its own.
    """
    n, impact = counts.n_items, counts.times.copy()
    filled = counts.length > 0
    mean = counts.length.sum(1) / np.maximum(filled.sum(1), 1)  # [2, fields]
    kind = (counts.term >= counts.n_pieces).astype(np.int64)
    share = counts.length[kind, counts.item, counts.field] / np.maximum(mean[kind, counts.field], 1e-9)
    impact /= impact + K1 * (1 - B + B * share)
    # the items that have a term, in whatever field
    pair = counts.term * n + counts.item
    each, row = np.unique(pair, return_inverse=True)
    term, item = np.divmod(each, max(n, 1))
    has = np.bincount(term, minlength=counts.n_terms)
    idf = np.log1p((n - has + 0.5) / (has + 0.5))
    of_field, of_kind = np.array([weights.get(name, 1.0) for name in counts.fields]), np.array([1.0, TRIGRAMS])
    summed = np.bincount(row, impact * of_field[counts.field] * of_kind[kind], minlength=len(each)) * idf[term]
    n_positions = n
    if order is not None:
        n_positions, at = len(order), np.full(n, -1, np.int64)
        at[order[order >= 0]] = np.flatnonzero(order >= 0)
        by_position = np.lexsort((at[item], term))
        term, item, summed = term[by_position], at[item][by_position], summed[by_position]
    begin = np.concatenate([[0], np.cumsum(has)])
    return Postings(begin.astype(np.int64), item.astype(np.int32), summed.astype(np.float32), idf.astype(np.float32), n_positions)

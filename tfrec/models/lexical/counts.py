"""How often each term is in each field of each item of a catalogue.

To read a text into terms is nine tenths of the work, so what was counted in a text is kept in the run directory.
"""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import tensorflow as tf

from tfrec.data.items.catalogue import Catalogue
from tfrec.models.lexical.terms import LexicalTerms
from tfrec.models.text_cache import TextCache
from tfrec.models.tokenizer.tokenizer import Tokenizer

NAME = 48  # mean characters; a field whose texts are longer is no name
FIELD = "text"  # the name of the only field of items whose text is one string
TEXT_PIECES, NAME_TRIGRAMS = "text_pieces.npz", "name_trigrams.npz"  # in a run directory
_AT_ONCE = 4096  # texts

Count = Callable[[Sequence[str]], sp.csr_matrix]


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each term is in each field of each item: sparse matrices `[n_items, n_terms]`, float32.

    Attributes:
        pieces: the word pieces of each text field.
        trigrams: those of each field that is a name.
    """

    pieces: Mapping[str, sp.csr_matrix]
    trigrams: Mapping[str, sp.csr_matrix]

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the text fields."""
        return tuple(self.pieces)


class TermCache(TextCache[sp.csr_matrix]):
    """The terms of texts, a sparse matrix `[texts, n_terms]`."""

    def _joined(self, rows: sp.csr_matrix, more: sp.csr_matrix) -> sp.csr_matrix:
        return sp.vstack([rows, more], format="csr")

    def _packed(self, rows: sp.csr_matrix) -> dict[str, npt.NDArray[Any]]:
        return {"times": rows.data, "term": rows.indices, "begin": rows.indptr, "shape": np.array(rows.shape)}

    def _unpacked(self, arrays: Mapping[str, npt.NDArray[Any]]) -> sp.csr_matrix:
        return sp.csr_matrix((arrays["times"], arrays["term"], arrays["begin"]), shape=tuple(arrays["shape"].tolist()))


def texts_by_field(catalogue: Catalogue) -> dict[str, list[str]]:
    """The text of each field by position; a field that an item lacks is empty."""
    own = [item.text if isinstance(item.text, dict) else {FIELD: item.text} for item in catalogue.items]
    return {name: [text.get(name, "") for text in own] for name in dict.fromkeys(name for text in own for name in text)}


@lru_cache(maxsize=1)  # a job that exports every few minutes has the same catalogue most of the time
def count_terms(catalogue: Catalogue, tokenizer: Tokenizer, run: Path | None = None) -> Counts:
    """Count the terms of a catalogue.

    Args:
        catalogue: the items. About 10,000 a second are read.
        tokenizer: of the text encoder.
        run: the directory that keeps what was counted in each text; None: it is kept nowhere.
    """
    texts, terms = texts_by_field(catalogue), LexicalTerms(tokenizer)
    names = {name: values for name, values in texts.items() if _is_name(values)}
    pieces, trigrams = _counters(terms)
    return Counts(_by_field(texts, pieces, terms.identity, run and run / TEXT_PIECES),
                  _by_field(names, trigrams, terms.identity, run and run / NAME_TRIGRAMS))


def _by_field(texts: Mapping[str, Sequence[str]], count: Count, identity: str, path: Path | None) -> dict[str, sp.csr_matrix]:
    """The counts of each field; all texts are asked for at once, so that the file is read and written once."""
    every = list(chain.from_iterable(texts.values()))
    rows = count(every) if path is None else TermCache(path, identity=identity).rows(every, count)
    n = len(every) // max(len(texts), 1)
    return {name: rows[number * n : (number + 1) * n] for number, name in enumerate(texts)}


def _counters(terms: LexicalTerms) -> tuple[Count, Count]:
    """Functions that count the pieces and the trigrams of texts."""
    def counter(read: Callable[[tf.Tensor], tf.RaggedTensor]) -> Count:
        traced = tf.function(read, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)

        def count(texts: Sequence[str]) -> sp.csr_matrix:
            parts = [sp.csr_matrix((0, terms.count), dtype=np.float32)]
            for start in range(0, len(texts), _AT_ONCE):
                found = traced(tf.constant(texts[start : start + _AT_ONCE]))
                times = np.ones(found.values.shape[0], np.float32)
                part = sp.csr_matrix((times, found.values.numpy(), found.row_splits.numpy()), shape=(found.nrows(), terms.count))
                part.sum_duplicates()
                parts.append(part)
            return sp.vstack(parts, format="csr")

        return count

    return counter(terms.pieces), counter(terms.trigrams)


def _is_name(texts: Sequence[str]) -> bool:
    lengths = [len(text) for text in texts if text]
    return bool(lengths) and float(np.mean(lengths)) <= NAME

"""Finds items by the words of a query, as the graph does, in a gateway whose model server does not answer."""
import threading

import numpy as np
import numpy.typing as npt

from tfrec.errors import ModelError
from tfrec.models.lexical.plain_terms import PlainTerms
from tfrec.release.words.word_files import VersionWords, read_terms

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float32]


class WordSearch:
    """Computes `match(q, i)` of `models/lexical/postings.py`. Safe to share between threads.

    What reads queries is parsed when the first one comes: most gateways never need it.

    Args:
        words: of a version.
        n_items: of its catalogue.

    Raises:
        ModelError: the words are not those of the catalogue.
    """

    def __init__(self, words: VersionWords, n_items: int) -> None:
        is_whole = np.array_equal(np.bincount(words.order[words.order >= 0], minlength=n_items), np.ones(n_items))
        ends = len(words.begin) == len(words.idf) + 1 and words.begin[-1] <= len(words.item) == len(words.impact)
        if not is_whole or not ends:
            raise ModelError(f"words: expected the postings of {n_items} items, got {len(words.item)} postings and "
                             f"{len(words.order)} positions that do not fit. Export the model again.")
        self.beta = words.beta
        self._words = words
        self._terms: PlainTerms | None = None
        self._lock = threading.Lock()

    def match(self, query: str) -> tuple[Ints, Floats]:
        """The items that have a word of the query, by their positions in the catalogue, and what that adds to the score of each.

        Raises:
            ModelError: the file that queries are read by is damaged.
        """
        words, found = self._words, np.zeros(len(self._words.order), np.float32)
        for kind in self._reader().of_query(query):
            terms, times = np.unique(np.array(kind, np.int64), return_counts=True)
            weight = times / max(float(times @ words.idf[terms]), 1e-30)
            for term, share in zip(terms.tolist(), weight.tolist(), strict=True):
                part = slice(int(words.begin[term]), int(words.begin[term + 1]))
                found[words.item[part]] += np.float32(share) * words.impact[part]  # a list names an item once
        at = np.flatnonzero(found)
        return words.order[at], np.float32(words.scale) * found[at]

    def _reader(self) -> PlainTerms:
        with self._lock:
            if self._terms is None:
                self._terms = read_terms(self._words)
            return self._terms

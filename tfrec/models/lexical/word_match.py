"""The match of queries with all items, in the graph: postings as variables of open length, read in stock operators."""
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.models.lexical.lexicon import Lexicon

Keep = Callable[[str, np.ndarray], tf.Variable]


class WordMatch:
    """Computes `match(q, i)` of `postings.py`.

    Args:
        lexicon: the words of a catalogue.
        order: the item at each position, as for `postings`.
        keep: makes a variable of a name and a value.
    """

    def __init__(self, lexicon: Lexicon, order: npt.NDArray[np.integer] | None = None, *, keep: Keep) -> None:
        found, self.terms = lexicon.postings(order), lexicon.terms
        self._begin, self._idf = keep("words_begin", found.begin), keep("words_idf", found.idf)
        # one more behind the last, so that there is one
        self._item = keep("words_item", np.append(found.item, np.int32(0)))
        self._impact = keep("words_impact", np.append(found.impact, np.float32(0)))

    def __call__(self, texts: tf.Tensor, n_positions: tf.Tensor) -> tf.Tensor:
        """The match of each text `[batch]` with each position, `[batch, n_positions]`; a row is the same in any batch."""
        rows = tf.shape(texts)[0]
        row, term, weight = self._weighed(texts)
        begin = tf.gather(self._begin.value(), term)
        count = tf.gather(self._begin.value(), term + 1) - begin
        of = tf.repeat(tf.range(tf.size(term)), count)
        at = tf.range(tf.size(of, tf.int64)) + tf.gather(begin - tf.cumsum(count, exclusive=True), of)
        cell = tf.gather(row, of) * n_positions + tf.gather(self._item.value(), at)
        value = tf.gather(weight, of) * tf.gather(self._impact.value(), at)
        return tf.reshape(tf.math.unsorted_segment_sum(value, cell, rows * n_positions), tf.stack([rows, n_positions]))

    def of_pieces(self, pieces: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """What each word piece `[batch, T]` of a query adds to its match with a position `[batch]`; negative ids add nothing."""
        known = pieces >= 0
        piece = tf.maximum(pieces, 0)
        idf = tf.where(known, tf.gather(self._idf.value(), piece), 0.0)
        begin, end = (tf.gather(self._begin.value(), piece + more) for more in (0, 1))
        at = self._search(begin, end, tf.broadcast_to(positions[:, None], tf.shape(pieces)))
        return tf.math.divide_no_nan(tf.where(known, at, 0.0), tf.reduce_sum(idf, axis=1, keepdims=True))

    def _search(self, begin: tf.Tensor, end: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
        """The impact at `position` in each list from `begin` to `end`, 0 where it is not in it: a binary search of all lists."""
        def halve(low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            middle = (low + high) // 2
            is_below = tf.gather(self._item.value(), tf.minimum(middle, self._last())) < position
            return tf.where((low < high) & is_below, middle + 1, low), tf.where((low < high) & ~is_below, middle, high)

        low, _ = tf.while_loop(lambda low, high: tf.reduce_any(low < high), halve, [begin, end])
        at = tf.minimum(low, self._last())
        is_there = (low < end) & (tf.gather(self._item.value(), at) == position)
        return tf.where(is_there, tf.gather(self._impact.value(), at), 0.0)

    def _last(self) -> tf.Tensor:
        return tf.size(self._item, tf.int64) - 1

    def _weighed(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Row, term id and weight of each term of the texts, `[m]` each."""
        found = []
        for kind in self.terms.of_queries(texts):
            row = tf.cast(kind.value_rowids(), tf.int32)
            idf = tf.gather(self._idf.value(), kind.values)
            total = tf.math.unsorted_segment_sum(idf, row, tf.shape(texts)[0])
            found.append((row, kind.values, tf.math.divide_no_nan(1.0, tf.gather(total, row))))
        return tuple(tf.concat(parts, axis=0) for parts in zip(*found, strict=True))

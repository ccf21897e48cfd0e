"""The index for large catalogues: it reads the inverted lists with the highest upper bounds, and finds nearly all of the best.

    score(i) = <u, v_i> + beta log p(i)                        of each item i that is read
    bound(c) = <u, c> + beta * max of log p(i) over list c     of each list, by its centroid c

This is an inverted file (IVF) whose nprobe depends on the query, and whose bound contains the popularity, as the score does. A
query reads all lists whose bound is near the best one's, up to a number of blocks. Where items lie dense those are many lists,
elsewhere few: what is read on average is half of what a fixed nprobe would need. A query that wants more items, or excludes some
of the best, reads further. The most popular items, the head, are always read.

Items whose log p comes with the request, those that have most of a query's words, and those with the highest boosts are scored
beside the lists, wherever they are. A row is answered from all items instead when too few items were found, when its tags and
bounds hide more than half of the items, when it boosts more than a few items, and when popularity counts against an item, as a
draw of Thompson sampling may have it: then the bound is none. Everything is in stock operators.
"""
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrec.data.items.catalogue import Catalogue
from tfrec.graph.clustering import BLOCK, layout
from tfrec.graph.exact_index import LOWEST, NOTHING, ExactIndex, Filters, names_attributes, plus_added
from tfrec.graph.quantization import Storage
from tfrec.models.lexical.lexicon import Lexicon

SHALLOW, DEEP = 100, 300  # how many of the best items, excluded ones included, the two limits of an index are made to find

BY_WORDS = 200  # items that have most of a query's words, of which any may be the best

_CHUNK = 128  # blocks that are copied and multiplied at once: 2 MB, which stay in the cache between the two
_SPARE = 1.5  # times the lists that hold the wanted blocks on average: a row that meets shorter ones reads fewer


class ProbeLimits(NamedTuple):
    """How much of the lists a query reads."""

    blocks: int  # at most
    drop: float  # lists whose bound is at most this much lower than the best one


class InvertedIndex(ExactIndex):
    """Items in inverted lists (`clustering.py`). Everything else is as in `ExactIndex`; some positions have no item.

    Args:
        centroids: of the lists, `[nlist, dim]`.
        shallow: limits of a query that wants the best `SHALLOW` items or fewer.
        deep: limits of a query that wants the best `DEEP` items or more, and of one with tags or bounds, which may hide half of
            the best. Between the two, limits are interpolated.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        vectors: np.ndarray,
        log_p: np.ndarray,
        *,
        max_k: int,
        centroids: np.ndarray,
        shallow: ProbeLimits,
        deep: ProbeLimits,
        storage: Storage = "float32",
        lexicon: Lexicon | None = None,
    ) -> None:
        lists = layout(vectors, log_p, catalogue.available, centroids)
        super().__init__(catalogue, vectors, log_p, max_k=max_k, storage=storage, order=lists.order, lexicon=lexicon)
        self._centroids = self._keep("list_centre", centroids)
        self._max_log_p = self._keep("list_peak", lists.max_log_p)
        self._first_block = self._keep("list_first", lists.first)
        self._n_blocks = self._keep("list_blocks", lists.blocks)
        self._head = self._keep("head", np.array([lists.head], np.int32))
        self._limits = self._keep("list_limits", np.array([shallow, deep], np.float32))
        self._all_blocks = int(lists.blocks.sum())
        self.limit(shallow, deep)

    def limit(self, shallow: ProbeLimits, deep: ProbeLimits) -> None:
        """Set how much a query reads. The graph reads it from a variable, so versions with other limits share a graph."""
        self.shallow, self.deep = shallow, deep
        self._limits.assign(np.array([shallow, deep], np.float32))

    def read_more(self, times: float, *, most: float) -> bool:
        """Raise both limits `times` as high; False, without a change, when that is more than the share `most` of all blocks."""
        shallow, deep = (
            ProbeLimits(int(np.ceil(limits.blocks * times)), limits.drop * times) for limits in (self.shallow, self.deep)
        )
        if deep.blocks > most * self._all_blocks:
            return False
        self.limit(shallow, deep)
        return True

    def best(
        self, u: tf.Tensor, width: tf.Tensor, *, beta: tf.Tensor, filters: Filters | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `ExactIndex.best`."""
        rows = tf.shape(u)[0]
        blocks, read = self.blocks_to_read(u, beta, self.depth(rows, width, filters))
        scores = tf.concat([self._head_scores(u, beta), self._block_scores(u, beta, blocks, read)], axis=1)
        columns, mostly_hidden = _Columns(self._head[0], blocks, tf.zeros([rows, 0], tf.int32)), tf.zeros([rows], tf.bool)
        if filters is not None:
            scores = plus_added(scores, filters, lambda: columns.positions(_numbers(scores)))
            by_words = self._by_words(filters)
            named = tf.concat([self.positions(tf.concat([filters.exclude, filters.prior_items], axis=1)), by_words], axis=1)
            scores = _hide(scores, columns.of(named, n_blocks=tf.size(self._ids) // BLOCK))
            own_scores, own = self._own_scores(u, beta, filters, by_words)
            scores, columns = tf.concat([scores, own_scores], axis=1), columns._replace(own=own)
            scores, mostly_hidden = tf.cond(
                tf.reduce_any(names_attributes(filters)),
                lambda: self._attribute_filtered(scores, columns.positions(_numbers(scores)), filters),
                lambda: (scores, mostly_hidden),
            )
        best, at = tf.math.top_k(scores, tf.minimum(width, tf.shape(scores)[1]))
        missing = [[0, 0], [0, width - tf.shape(best)[1]]]
        best, found = tf.pad(best, missing, constant_values=LOWEST), tf.pad(columns.positions(at), missing)
        found = tf.where(best > LOWEST, found, 0)
        # with a negative beta the bound of a list is none
        from_all = mostly_hidden | (beta < 0) | self._boosts_many(rows, filters)
        exact = tf.where((width > 0) & (from_all | tf.reduce_any(best == LOWEST, axis=1)))
        best, found = tf.cond(
            tf.size(exact) > 0, lambda: self._replaced(best, found, exact, u, beta, filters), lambda: (best, found)
        )
        return best, found

    def depth(self, rows: tf.Tensor, width: tf.Tensor, filters: Filters | None) -> tf.Tensor:
        """Where the limits of each row `[batch]` lie, from 0 (`shallow`) to 1 (`deep`)."""
        if filters is None:
            wanted = tf.fill([rows], width)
        else:
            wanted = width + tf.math.count_nonzero(filters.exclude != NOTHING, axis=1, dtype=tf.int32)
            wanted = tf.where(names_attributes(filters), DEEP, wanted)
        return tf.clip_by_value(tf.cast(wanted - SHALLOW, tf.float32) / (DEEP - SHALLOW), 0.0, 1.0)

    def blocks_to_read(self, u: tf.Tensor, beta: tf.Tensor, depth: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Blocks `[batch, n]` of the lists with the highest bounds, in their order, and whether each is to be read."""
        bound = tf.matmul(u, self._centroids, transpose_b=True) + beta[:, None] * self._max_log_p
        low, high = tf.unstack(self._limits.value(), num=2)
        max_blocks, max_drop = (low[part] + depth * (high[part] - low[part]) for part in range(len(ProbeLimits._fields)))
        nlist, all_blocks = tf.shape(self._centroids)[0], tf.maximum(tf.reduce_sum(self._n_blocks), 1)
        lists_a_block = tf.cast(nlist, tf.float32) / tf.cast(all_blocks, tf.float32)
        nprobe = tf.cast(tf.math.ceil(_SPARE * lists_a_block * max_blocks), tf.int32)
        largest = tf.minimum(tf.reduce_max(tf.pad(nprobe, [[0, 1]], constant_values=1)), nlist)
        bound, lists = tf.math.top_k(bound, largest)
        # each row keeps to its own nprobe, so that it reads the same in any batch
        probed = (bound >= bound[:, :1] - max_drop[:, None]) & (tf.range(largest) < nprobe[:, None])
        length = tf.where(probed, tf.gather(self._n_blocks.value(), lists), 0)
        return _end_to_end(tf.gather(self._first_block.value(), lists), length, tf.cast(tf.math.ceil(max_blocks), tf.int32))

    def _head_scores(self, u: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
        """Scores `[batch, head]` of the most popular items; -inf for those that are not available."""
        head = self._head[0]
        scores = self._vectors.products(u, 0, head) + beta[:, None] * self._log_p[:head]
        return tf.where(self._available[:head], scores, LOWEST)

    def _block_scores(self, u: tf.Tensor, beta: tf.Tensor, blocks: tf.Tensor, read: tf.Tensor) -> tf.Tensor:
        """Scores `[batch, n * BLOCK]` of the items in `blocks` `[batch, n]`; -inf for what is not read or not available."""
        at = tf.where(read)
        row, block = at[:, 0], tf.gather_nd(blocks, at)
        log_p = tf.gather(tf.reshape(self._log_p, [-1, BLOCK]), block)
        scores = self._products(u, row, block) + tf.gather(beta, row)[:, None] * log_p
        scores = tf.where(tf.gather(tf.reshape(self._available, [-1, BLOCK]), block), scores, LOWEST)
        everywhere = tf.fill(tf.concat([tf.shape(blocks), [BLOCK]], axis=0), LOWEST)
        return tf.reshape(tf.tensor_scatter_nd_update(everywhere, at, scores), [tf.shape(u)[0], tf.shape(blocks)[1] * BLOCK])

    def _products(self, u: tf.Tensor, row: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
        """`<u, v>` `[m, BLOCK]` of row and block, each `[m]`."""
        count = tf.size(block)

        def some(start: tf.Tensor, parts: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            part = slice(start, start + _CHUNK)
            products = self._vectors.block_products(tf.gather(u, row[part]), block[part], BLOCK)
            return start + _CHUNK, parts.write(start // _CHUNK, products)

        def in_parts() -> tf.Tensor:
            parts = tf.TensorArray(tf.float32, -(-count // _CHUNK), infer_shape=False, element_shape=[None, BLOCK])
            return tf.while_loop(lambda start, _: start < count, some, [0, parts], parallel_iterations=2)[1].concat()

        return tf.cond(count > _CHUNK, in_parts, lambda: self._vectors.block_products(tf.gather(u, row), block, BLOCK))

    def _by_words(self, filters: Filters) -> tf.Tensor:
        """Positions `[batch, n]` of the items that have most of each query's words, or the highest boosts; -1 elsewhere."""
        found = []
        for added in (filters.words, filters.boosts):
            most, positions = tf.math.top_k(added, tf.minimum(BY_WORDS, tf.shape(added)[1]))
            found.append(tf.where(most > 0, positions, -1))
        return tf.concat(found, axis=1)

    def _boosts_many(self, rows: tf.Tensor, filters: Filters | None) -> tf.Tensor:
        """Whether each row `[batch]` boosts more items than are scored beside the lists: a list's bound knows no boost."""
        if filters is None:
            return tf.zeros([rows], tf.bool)
        return tf.math.count_nonzero(filters.boosts > 0, axis=1, dtype=tf.int32) > BY_WORDS

    def _own_scores(self, u: tf.Tensor, beta: tf.Tensor, filters: Filters, by_words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores and positions `[batch, n]` of what words found and of the items whose log p the row brings.

        They are -inf for those that may not come.
        """
        position = tf.concat([by_words, self.positions(filters.prior_items)], axis=1)
        log_p = tf.concat([tf.gather(self._log_p.value(), tf.maximum(by_words, 0)), filters.prior_log_p], axis=1)
        scores = tf.linalg.matvec(self.vectors(position), u) + beta[:, None] * log_p
        scores = plus_added(scores, filters, lambda: position)
        number = tf.range(tf.shape(position)[1])
        same = position[:, :, None] == position[:, None, :]
        overruled = tf.reduce_any(same & (number[:, None] < number), axis=2)  # of an item that is named twice the last counts
        excluded = tf.reduce_any(position[:, :, None] == self.positions(filters.exclude)[:, None, :], axis=2)
        position, known = tf.maximum(position, 0), position >= 0
        eligible = known & tf.gather(self._available.value(), position) & ~excluded & ~overruled
        return tf.where(eligible, scores, LOWEST), position

    def _attribute_filtered(self, scores: tf.Tensor, positions: tf.Tensor, filters: Filters) -> tuple[tf.Tensor, tf.Tensor]:
        """`scores` with -inf for items that the row's attributes do not let pass, and whether they hide most items `[batch]`."""
        passes = self._permitted(filters)
        left = tf.math.count_nonzero(passes & self._available, axis=1, dtype=tf.int32)
        return tf.where(tf.gather(passes, positions, batch_dims=1), scores, LOWEST), 2 * left < self.count_available()

    def _replaced(
        self, best: tf.Tensor, found: tf.Tensor, exact: tf.Tensor, u: tf.Tensor, beta: tf.Tensor, filters: Filters | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Answers with the rows `exact` `[m, 1]` from all items."""
        own = None if filters is None else Filters(*(tf.gather(part, exact[:, 0]) for part in filters))
        width = tf.shape(best)[1]
        scores, positions = super().best(tf.gather_nd(u, exact), width, beta=tf.gather_nd(beta, exact), filters=own)
        return tf.tensor_scatter_nd_update(best, exact, scores), tf.tensor_scatter_nd_update(found, exact, positions)


class _Columns(NamedTuple):
    """What the columns of a row's scores stand for: the items of the head, then of the blocks that it reads, then its own."""

    head: tf.Tensor  # [] number of items of the head, which are at the first positions of the index
    blocks: tf.Tensor  # int32 [batch, n]; 0, a block of the head, where none is read
    own: tf.Tensor  # int32 [batch, P] positions of what words found and of the items whose log p the row brings

    def positions(self, columns: tf.Tensor) -> tf.Tensor:
        """Positions in the index of `columns` `[batch, n]`."""
        n_blocks = tf.shape(self.blocks)[1]
        behind_head = columns - self.head
        block = tf.gather(self.blocks, tf.clip_by_value(behind_head // BLOCK, 0, n_blocks - 1), batch_dims=1)
        behind_blocks = behind_head - n_blocks * BLOCK
        own = tf.gather(tf.pad(self.own, [[0, 0], [0, 1]]), tf.maximum(behind_blocks, 0), batch_dims=1)  # padded to have one
        listed = tf.where(behind_blocks < 0, block * BLOCK + behind_head % BLOCK, own)
        return tf.where(behind_head < 0, columns, listed)

    def of(self, positions: tf.Tensor, *, n_blocks: tf.Tensor) -> tf.Tensor:
        """Columns of `positions` `[batch, n]` in head and blocks, -1 where the row does not read them.

        Args:
            positions: in the index; negative for an item that is not known.
            n_blocks: of the index.
        """
        # for each block of the index its number among the row's, counted from 1, and 0 for a block that the row does not read
        at = tf.stack([tf.broadcast_to(tf.range(tf.shape(self.blocks)[0])[:, None], tf.shape(self.blocks)), self.blocks], axis=2)
        none = tf.zeros([tf.shape(self.blocks)[0], n_blocks], tf.int32)
        numbers = tf.tensor_scatter_nd_max(none, at, _numbers(self.blocks) + 1)
        number = tf.gather(numbers, tf.maximum(positions, 0) // BLOCK, batch_dims=1)
        listed = tf.where(number > 0, self.head + (number - 1) * BLOCK + positions % BLOCK, -1)
        return tf.where(positions < self.head, positions, listed)


def _hide(scores: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """`scores` with -inf in the row's `columns` `[batch, n]`, where these are not negative."""
    at = tf.where(columns >= 0)
    cells = tf.stack([at[:, 0], tf.cast(tf.gather_nd(columns, at), tf.int64)], axis=1)
    return tf.tensor_scatter_nd_update(scores, cells, tf.fill([tf.shape(at)[0]], LOWEST))


def _end_to_end(first: tf.Tensor, length: tf.Tensor, most: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The blocks of lists laid end to end, at most `most` `[batch]` a row.

    Args:
        first: the first block of each list, `[batch, lists]`.
        length: how many blocks it has, `[batch, lists]`.
        most: blocks.

    Returns:
        Blocks `[batch, n]`, 0 behind a row's last, and whether there is one.
    """
    end = tf.cumsum(length, axis=1)
    count = tf.minimum(end[:, -1], most)
    width = tf.reduce_max(tf.pad(count, [[0, 1]], constant_values=1))
    number = tf.tile(tf.range(width)[None], [tf.shape(first)[0], 1])
    there = number < count[:, None]
    of = tf.minimum(tf.searchsorted(end, number, side="right"), tf.shape(first)[1] - 1)  # the list that it falls into
    block = number + tf.gather(first - (end - length), of, batch_dims=1)
    return tf.where(there, block, 0), there


def _numbers(matrix: tf.Tensor) -> tf.Tensor:
    """The number of each column, for each row."""
    return tf.broadcast_to(tf.range(tf.shape(matrix)[1]), tf.shape(matrix))

"""The index for large catalogues: reads the lists that promise most and the most popular items, and finds nearly all of the best.

    list c promises <u, c> + beta max log p in c;  score(i) = <u, v_i> + beta log p(i) for every item that is read

The prior is a coordinate of the score, so it is one of the choice of lists. How much is read depends on the query: all lists that
promise nearly as much as the best one, up to a number of blocks. Where items lie dense many lists do, where not few, and what is
read on average is half of what a fixed number would have to be. Who wants more, or excludes some of the best, reads further.

Items whose log p comes with the request are scored beside the lists, wherever they stand. A row for which too few items were
found, whose tags hide more than half of the items, or for which popularity counts against an item (a draw of Thompson sampling
may say so), is answered by all items. All is in stock operators.
"""
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrec.data.items.catalogue import Catalogue
from tfrec.graph.clustering import BLOCK, layout
from tfrec.graph.exact_index import LOWEST, NOTHING, ExactIndex, Filters, names_tags
from tfrec.graph.quantization import Storage

NEAR, FAR = 100, 300  # how many of the best, excluded ones included, the two reaches of an index are made to find

_CHUNK = 128  # blocks that are copied and multiplied at once: 2 MB, which stay in the cache between the two
_SPARE = 1.5  # times the lists that hold the wanted blocks on average: a row that meets shorter ones reads fewer


class Reach(NamedTuple):
    """How far a query reads."""

    blocks: int  # at most
    drop: float  # of lists that promise at most so much less than the best one


class InvertedIndex(ExactIndex):
    """Items in the lists of `centres` `[lists, dim]` (`clustering.py`).

    Everything else is as in `ExactIndex`; positions are places in the lists, some of them empty.

    Args:
        near, far: how much a query reads that wants the best `NEAR` or fewer, and one that wants the best `FAR` or more. In
            between it is in proportion. With tags it is `far`: half of the best may be hidden.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        vectors: np.ndarray,
        log_p: np.ndarray,
        *,
        max_k: int,
        centres: np.ndarray,
        near: Reach,
        far: Reach,
        storage: Storage = "float32",
    ) -> None:
        lists = layout(vectors, log_p, catalogue.available, centres)
        super().__init__(catalogue, vectors, log_p, max_k=max_k, storage=storage, order=lists.order)
        self._centres = self._keep("list_centre", centres)
        self._peak = self._keep("list_peak", lists.peak)
        self._first = self._keep("list_first", lists.first)
        self._count = self._keep("list_blocks", lists.blocks)
        self._head = self._keep("head", np.array([lists.head], np.int32))
        self._all_lists, self._all_blocks = len(centres), int(lists.blocks.sum())
        self.near, self.far = near, far

    def read_more(self, times: float, *, most: float) -> bool:
        """Reach so many times farther from now on; False, and no change, when that is more than the share `most` of all."""
        near, far = (Reach(int(np.ceil(reach.blocks * times)), reach.drop * times) for reach in (self.near, self.far))
        if far.blocks > most * self._all_blocks:
            return False
        self.near, self.far = near, far
        return True

    def best(
        self, u: tf.Tensor, width: tf.Tensor, *, beta: tf.Tensor, filters: Filters | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        rows, head = tf.shape(u)[0], self._head[0]
        blocks, read = self._choose(u, beta, self._depth(rows, width, filters))
        listed = self._listed(u, beta, blocks, read)
        popular = self._vectors.products(u, 0, head) + beta[:, None] * self._log_p[:head]
        popular = tf.where(self._available[:head], popular, LOWEST)
        scores = tf.concat([popular, listed], axis=1)
        own_places, narrow = tf.zeros([rows, 0], tf.int32), tf.zeros([rows], tf.bool)
        if filters is not None:
            scores = self._without(scores, blocks, tf.concat([filters.exclude, filters.prior_items], axis=1))
            own_scores, own_places = self._overriding(u, beta, filters)
            scores = tf.concat([scores, own_scores], axis=1)
            scores, narrow = tf.cond(
                tf.reduce_any(names_tags(filters)),
                lambda: self._tag_filtered(scores, self._places(_columns(scores), blocks, own_places), filters),
                lambda: (scores, narrow),
            )
        best, at = tf.math.top_k(scores, tf.minimum(width, tf.shape(scores)[1]))
        found = self._places(at, blocks, own_places)
        missing = [[0, 0], [0, width - tf.shape(best)[1]]]
        best, found = tf.pad(best, missing, constant_values=LOWEST), tf.pad(found, missing)
        # what a list promises is no bound when popularity counts against an item
        exact = tf.where((width > 0) & (narrow | (beta < 0) | tf.reduce_any(best == LOWEST, axis=1)))
        found = tf.where(best > LOWEST, found, 0)
        best, found = tf.cond(
            tf.size(exact) > 0, lambda: self._replaced(best, found, exact, u, beta, filters), lambda: (best, found)
        )
        return best, found

    def _depth(self, rows: tf.Tensor, width: tf.Tensor, filters: Filters | None) -> tf.Tensor:
        """How far each row `[batch]` reaches, from 0 (near) to 1 (far)."""
        if filters is None:
            wanted = tf.fill([rows], width)
        else:
            wanted = width + tf.math.count_nonzero(filters.exclude != NOTHING, axis=1, dtype=tf.int32)
            wanted = tf.where(names_tags(filters), FAR, wanted)
        return tf.clip_by_value(tf.cast(wanted - NEAR, tf.float32) / (FAR - NEAR), 0.0, 1.0)

    def _choose(self, u: tf.Tensor, beta: tf.Tensor, depth: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Blocks `[batch, n]` of the lists that promise most, in their order, and whether each is to be read."""
        promise = tf.matmul(u, self._centres, transpose_b=True) + beta[:, None] * self._peak
        blocks, drop = (least + depth * (most - least) for least, most in zip(self.near, self.far, strict=True))
        many = tf.cast(tf.math.ceil(_SPARE * self._all_lists / max(self._all_blocks, 1) * blocks), tf.int32)
        looked_at = tf.minimum(tf.reduce_max(tf.pad(many, [[0, 1]], constant_values=1)), self._all_lists)
        promise, lists = tf.math.top_k(promise, looked_at)
        # a row's own number of them, whatever batch it is in
        near = (promise >= promise[:, :1] - drop[:, None]) & (tf.range(looked_at) < many[:, None])
        count = tf.where(near, tf.gather(self._count.value(), lists), 0)
        end = tf.cumsum(count, axis=1)
        wanted = tf.minimum(end[:, -1], tf.cast(tf.math.ceil(blocks), tf.int32))
        width = tf.reduce_max(tf.pad(wanted, [[0, 1]], constant_values=1))
        number = tf.tile(tf.range(width)[None], [tf.shape(u)[0], 1])
        read = number < wanted[:, None]
        at = tf.minimum(tf.searchsorted(end, number, side="right"), looked_at - 1)
        before = tf.gather(end - count - tf.gather(self._first.value(), lists), at, batch_dims=1)
        return tf.where(read, number - before, 0), read

    def _listed(self, u: tf.Tensor, beta: tf.Tensor, blocks: tf.Tensor, read: tf.Tensor) -> tf.Tensor:
        """Scores `[batch, n * BLOCK]` of the items in `blocks` `[batch, n]`; -inf for what is not read or may not come."""
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

    def _places(self, at: tf.Tensor, blocks: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
        """Positions `[batch, n]` of columns `at` of the scores: the head's, then those in `blocks`, then `own` `[batch, P]`."""
        listed = at - self._head[0]
        block = tf.gather(blocks, tf.clip_by_value(listed // BLOCK, 0, tf.shape(blocks)[1] - 1), batch_dims=1)
        place = tf.where(listed < 0, at, block * BLOCK + listed % BLOCK)
        behind = listed - tf.shape(blocks)[1] * BLOCK
        own = tf.pad(own, [[0, 0], [0, 1]])  # so that there is one
        return tf.where(behind < 0, place, tf.gather(own, tf.maximum(behind, 0), batch_dims=1))

    def _without(self, scores: tf.Tensor, blocks: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """`scores` of head and blocks with -inf for the row's `items` `[batch, n]`, where they are among them."""
        head, place = self._head[0], self.positions(items)
        row = tf.broadcast_to(tf.range(tf.shape(items)[0])[:, None], tf.shape(items))
        # the column of each block that is read, 0 for others; the head's blocks stand where they are
        size = tf.stack([tf.shape(blocks)[0], tf.size(self._ids) // BLOCK])
        number = tf.broadcast_to(tf.range(1, tf.shape(blocks)[1] + 1), tf.shape(blocks))
        rows = tf.broadcast_to(tf.range(size[0])[:, None], tf.shape(blocks))
        columns = tf.tensor_scatter_nd_max(tf.zeros(size, tf.int32), tf.stack([rows, blocks], axis=2), number)
        number = tf.gather_nd(columns, tf.stack([row, tf.maximum(place, 0) // BLOCK], axis=2))
        column = tf.where(place < head, place, head + (number - 1) * BLOCK + place % BLOCK)
        there = tf.where((place >= 0) & ((place < head) | (number > 0)))
        at = tf.stack([tf.gather_nd(row, there), tf.gather_nd(column, there)], axis=1)
        return tf.tensor_scatter_nd_update(scores, at, tf.fill([tf.shape(there)[0]], LOWEST))

    def _overriding(self, u: tf.Tensor, beta: tf.Tensor, filters: Filters) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores and places `[batch, P]` of the items whose log p the row brings; -inf for those that may not come."""
        place = self.positions(filters.prior_items)
        scores = tf.linalg.matvec(self.vectors(place), u) + beta[:, None] * filters.prior_log_p
        number = tf.range(tf.shape(place)[1])
        later = (place[:, :, None] == place[:, None, :]) & (number[:, None] < number)  # named twice: the last one counts
        excluded = tf.reduce_any(place[:, :, None] == self.positions(filters.exclude)[:, None, :], axis=2)
        place, known = tf.maximum(place, 0), place >= 0
        may = known & tf.gather(self._available.value(), place) & ~excluded & ~tf.reduce_any(later, axis=2)
        return tf.where(may, scores, LOWEST), place

    def _tag_filtered(self, scores: tf.Tensor, places: tf.Tensor, filters: Filters) -> tuple[tf.Tensor, tf.Tensor]:
        """`scores` with -inf where the row's tags do not let an item pass, and whether they hide most items `[batch]`."""
        passes = self._permitted(filters)
        left = tf.math.count_nonzero(passes & self._available, axis=1, dtype=tf.int32)
        narrow = 2 * left < self.count_available()
        return tf.where(tf.gather(passes, places, batch_dims=1), scores, LOWEST), narrow

    def _replaced(
        self, best: tf.Tensor, found: tf.Tensor, exact: tf.Tensor, u: tf.Tensor, beta: tf.Tensor, filters: Filters | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Answers with the rows `exact` `[m, 1]` from all items."""
        own = None if filters is None else Filters(*(tf.gather(wish, exact[:, 0]) for wish in filters))
        width = tf.shape(best)[1]
        scores, places = super().best(tf.gather_nd(u, exact), width, beta=tf.gather_nd(beta, exact), filters=own)
        return tf.tensor_scatter_nd_update(best, exact, scores), tf.tensor_scatter_nd_update(found, exact, places)


def _columns(matrix: tf.Tensor) -> tf.Tensor:
    """The number of each column, for each row."""
    return tf.broadcast_to(tf.range(tf.shape(matrix)[1]), tf.shape(matrix))

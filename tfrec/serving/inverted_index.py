"""The index for large catalogues: reads the lists that promise most and the most popular items, and finds nearly all of the best.

    list c is chosen by <u, c> + beta max log p in c;  score(i) = <u, v_i> + beta log p(i) for every item that is read

The prior is a coordinate of the score, so it is one of the choice of lists. Items whose log p comes with the request are scored
beside the lists, wherever they stand. A row for which too few items were found, or whose tags hide more than half of the items,
is answered by all items: with fewer than half left, the lists' best 100 are the best 200 and more that they were made to find.

In stock operators of fixed shapes. The rows of a batch share the operators but are read `_ROWS` at a time, so that the vectors
which were copied are multiplied while they are in the cache, and never reach the size from which memory is mapped anew each time.
"""
import numpy as np
import tensorflow as tf

from tfrec.data.catalogue import Catalogue
from tfrec.serving.index import LOWEST, NOTHING, ExactIndex, Wishes
from tfrec.serving.item_lists import BLOCK, layout
from tfrec.serving.vectors import Storage

_ROWS = 8
_FOLD = 8  # candidates are compared by so many at a time before the best are sorted
_SPARE = 1.5  # times the lists that hold the wanted blocks on average: a row that meets shorter ones reads fewer


class InvertedIndex(ExactIndex):
    """Items in the lists of `centres` `[lists, dim]` (`item_lists.py`), of which a query reads `blocks` blocks.

    Everything else is as in `ExactIndex`; positions are places in the lists, some of them empty.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        vectors: np.ndarray,
        log_p: np.ndarray,
        *,
        max_k: int,
        centres: np.ndarray,
        blocks: int,
        storage: Storage = "float32",
    ) -> None:
        available = np.array([item.available for item in catalogue.items])
        lists = layout(vectors, log_p, available, centres)
        super().__init__(catalogue, vectors, log_p, max_k=max_k, storage=storage, order=lists.order)
        self._centres = self._keep("list_centre", centres)
        self._peak = self._keep("list_peak", lists.peak)
        self._first = self._keep("list_first", lists.first)
        self._count = self._keep("list_blocks", lists.blocks)
        self._head = self._keep("head", np.array([lists.head], np.int32))
        self._all_lists, self._all_blocks = len(centres), int(lists.blocks.sum())
        self.read(blocks)

    def read(self, blocks: int) -> None:
        """Read so many blocks a query from now on."""
        self.blocks = min(blocks, self._all_blocks)
        self._lists = min(self._all_lists, int(np.ceil(_SPARE * self.blocks * self._all_lists / max(self._all_blocks, 1))))

    def read_more(self, times: float, *, most: float) -> bool:
        """Read so many times more blocks from now on; False, and no change, when that is more than the share `most` of all."""
        more = int(np.ceil(self.blocks * times))
        if more > most * self._all_blocks:
            return False
        self.read(more)
        return True

    def best(
        self, u: tf.Tensor, width: tf.Tensor, *, beta: tf.Tensor, wishes: Wishes | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        rows, head = tf.shape(u)[0], self._head[0]
        blocks, read = self._choose(u, beta)
        log_p = tf.reshape(tf.gather(tf.reshape(self._log_p, [-1, BLOCK]), blocks), [rows, -1])
        may = tf.gather(tf.reshape(self._available, [-1, BLOCK]), blocks) & read[:, :, None]
        listed = tf.where(tf.reshape(may, [rows, -1]), self._products(u, blocks) + beta[:, None] * log_p, LOWEST)
        popular = self._vectors.products(u, 0, head) + beta[:, None] * self._log_p[:head]
        popular = tf.where(self._available[:head], popular, LOWEST)
        scores = tf.concat([popular, listed], axis=1)
        places = tf.concat([
            tf.broadcast_to(tf.range(head), [rows, head]),
            tf.reshape(blocks[:, :, None] * BLOCK + tf.range(BLOCK), [rows, -1]),
        ], axis=1)
        narrow = tf.zeros([rows], tf.bool)
        if wishes is not None:
            scores = self._without(scores, blocks, tf.concat([wishes.exclude, wishes.prior_items], axis=1))
            own_scores, own_places = self._overriding(u, beta, wishes)
            scores, places = tf.concat([scores, own_scores], axis=1), tf.concat([places, own_places], axis=1)
            named = tf.reduce_any(wishes.allow_tags != NOTHING) | tf.reduce_any(wishes.deny_tags != NOTHING)
            scores, narrow = tf.cond(named, lambda: self._tag_filtered(scores, places, wishes), lambda: (scores, narrow))
        best, at = _top(scores, width)
        found = tf.gather(places, at, batch_dims=1)
        missing = [[0, 0], [0, width - tf.shape(best)[1]]]
        best, found = tf.pad(best, missing, constant_values=LOWEST), tf.pad(found, missing)
        exact = tf.where((width > 0) & (narrow | tf.reduce_any(best == LOWEST, axis=1)))
        found = tf.where(best > LOWEST, found, 0)
        best, found = tf.cond(
            tf.size(exact) > 0, lambda: self._replaced(best, found, exact, u, beta, wishes), lambda: (best, found)
        )
        return best, found

    def _choose(self, u: tf.Tensor, beta: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Blocks `[batch, blocks]` of the lists that promise most, in their order, and whether each is to be read."""
        promise = tf.matmul(u, self._centres, transpose_b=True) + beta[:, None] * self._peak
        lists = tf.math.top_k(promise, self._lists).indices
        count = tf.gather(self._count.value(), lists)
        end = tf.cumsum(count, axis=1)
        number = tf.broadcast_to(tf.range(self.blocks), [tf.shape(u)[0], self.blocks])
        at = tf.searchsorted(end, number, side="right")
        read = at < self._lists
        before = tf.gather(end - count - tf.gather(self._first.value(), lists), tf.minimum(at, self._lists - 1), batch_dims=1)
        return tf.where(read, number - before, 0), read

    def _products(self, u: tf.Tensor, blocks: tf.Tensor) -> tf.Tensor:
        """`<u, v>` `[batch, blocks * BLOCK]`, `_ROWS` rows at a time."""
        rows = tf.shape(u)[0]

        def some(start: tf.Tensor, parts: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            part = self._vectors.block_products(u[start : start + _ROWS], blocks[start : start + _ROWS], BLOCK)
            return start + _ROWS, parts.write(start // _ROWS, part)

        def in_parts() -> tf.Tensor:
            parts = tf.TensorArray(tf.float32, -(-rows // _ROWS), infer_shape=False, element_shape=[None, self.blocks * BLOCK])
            return tf.while_loop(lambda start, _: start < rows, some, [0, parts], parallel_iterations=1)[1].concat()

        return tf.cond(rows > _ROWS, in_parts, lambda: self._vectors.block_products(u, blocks, BLOCK))

    def _without(self, scores: tf.Tensor, blocks: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """`scores` of head and blocks with -inf for the row's `items` `[batch, n]`, where they are among them."""
        head, place = self._head[0], self.positions(items)
        row = tf.broadcast_to(tf.range(tf.shape(items)[0])[:, None], tf.shape(items))
        # the column of each block that is read, 0 for others; the head's blocks stand where they are
        size = tf.stack([tf.shape(blocks)[0], tf.size(self._ids) // BLOCK])
        number = tf.broadcast_to(tf.range(1, self.blocks + 1), tf.shape(blocks))
        rows = tf.broadcast_to(tf.range(size[0])[:, None], tf.shape(blocks))
        columns = tf.tensor_scatter_nd_max(tf.zeros(size, tf.int32), tf.stack([rows, blocks], axis=2), number)
        number = tf.gather_nd(columns, tf.stack([row, tf.maximum(place, 0) // BLOCK], axis=2))
        column = tf.where(place < head, place, head + (number - 1) * BLOCK + place % BLOCK)
        there = tf.where((place >= 0) & ((place < head) | (number > 0)))
        at = tf.stack([tf.gather_nd(row, there), tf.gather_nd(column, there)], axis=1)
        return tf.tensor_scatter_nd_update(scores, at, tf.fill([tf.shape(there)[0]], LOWEST))

    def _overriding(self, u: tf.Tensor, beta: tf.Tensor, wishes: Wishes) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores and places `[batch, P]` of the items whose log p the row brings; -inf for those that may not come."""
        place = self.positions(wishes.prior_items)
        scores = tf.linalg.matvec(self.vectors(place), u) + beta[:, None] * wishes.prior_log_p
        number = tf.range(tf.shape(place)[1])
        later = (place[:, :, None] == place[:, None, :]) & (number[:, None] < number)  # named twice: the last one counts
        excluded = tf.reduce_any(place[:, :, None] == self.positions(wishes.exclude)[:, None, :], axis=2)
        place, known = tf.maximum(place, 0), place >= 0
        may = known & tf.gather(self._available.value(), place) & ~excluded & ~tf.reduce_any(later, axis=2)
        return tf.where(may, scores, LOWEST), place

    def _tag_filtered(self, scores: tf.Tensor, places: tf.Tensor, wishes: Wishes) -> tuple[tf.Tensor, tf.Tensor]:
        """`scores` with -inf where the row's tags do not let an item pass, and whether they hide most items `[batch]`."""
        passes = self._permitted(wishes)
        left = tf.math.count_nonzero(passes & self._available, axis=1, dtype=tf.int32)
        narrow = 2 * left < tf.math.count_nonzero(self._available, dtype=tf.int32)
        return tf.where(tf.gather(passes, places, batch_dims=1), scores, LOWEST), narrow

    def _replaced(
        self, best: tf.Tensor, found: tf.Tensor, exact: tf.Tensor, u: tf.Tensor, beta: tf.Tensor, wishes: Wishes | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Answers with the rows `exact` `[m, 1]` from all items."""
        own = None if wishes is None else Wishes(*(tf.gather(wish, exact[:, 0]) for wish in wishes))
        width = tf.shape(best)[1]
        scores, places = super().best(tf.gather_nd(u, exact), width, beta=tf.gather_nd(beta, exact), wishes=own)
        return tf.tensor_scatter_nd_update(best, exact, scores), tf.tensor_scatter_nd_update(found, exact, places)


def _top(scores: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The best k `[batch, min(k, n)]` of `scores` `[batch, n]`, and where they are.

    The best k stand in the k columns of a fold of `scores` that have the largest maxima, so only these are sorted: a fold is
    compared in vectors, a sort item by item.
    """
    rows, n = tf.unstack(tf.shape(scores))
    columns = -(-n // _FOLD)
    folded = tf.pad(scores, [[0, 0], [0, columns * _FOLD - n]], constant_values=LOWEST)
    folded = tf.reshape(folded, [rows, _FOLD, columns])
    some = tf.math.top_k(tf.reduce_max(folded, axis=1), tf.minimum(k, columns), sorted=False).indices
    width = tf.shape(some)[1]
    best, at = tf.math.top_k(tf.reshape(tf.gather(folded, some, axis=2, batch_dims=1), [rows, -1]), tf.minimum(k, _FOLD * width))
    width = tf.maximum(width, 1)
    where = (at // width) * columns + tf.gather(some, at % width, batch_dims=1)
    return best, tf.minimum(where, n - 1)  # a padded place, -inf, may be among them

"""The part of exploration that is left to chance: an item that may come comes in proportion to its mass.

Nothing here grows with rows times items, unless a row names tags: the running sums of all masses are stored once, and what a row
excludes is taken out of them as what its slate already holds is.
"""
from typing import NamedTuple

import tensorflow as tf

from tfrec.graph.exact_index import ExactIndex, Filters, names_tags


class Chance(NamedTuple):
    """Masses of the items that may come, for each row of a batch. Positions are the index's."""

    before: tf.Tensor  # float64 [m + 1] the mass before each item; of all rows alike, or row after row
    start: tf.Tensor  # int32 [batch] where in it each row begins
    taken: tf.Tensor  # int32 [batch, E] positions that the row excludes, each once; -1 elsewhere
    total: tf.Tensor  # float64 [batch]
    count: tf.Tensor  # int32 [batch] of items that may come

    @classmethod
    def of(cls, index: ExactIndex, rows: tf.Tensor, filters: Filters) -> "Chance":
        """For `rows` rows."""
        stored = index.mass_before.value()
        size = tf.size(stored) - 1

        def of_each_row() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            passes = index.eligible(rows, filters._replace(exclude=filters.exclude[:, :0]))
            mass = tf.where(passes, stored[1:] - stored[:-1], 0.0)
            before = tf.concat([[0.0], tf.cumsum(tf.reshape(mass, [-1]))], axis=0)
            return before, tf.range(rows) * size, tf.math.count_nonzero(passes, axis=1, dtype=tf.int32)

        def of_all_rows() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            return stored, tf.zeros([rows], tf.int32), tf.fill([rows], index.count_available())

        before, start, count = tf.cond(tf.reduce_any(names_tags(filters)), of_each_row, of_all_rows)
        taken = tf.sort(index.positions(filters.exclude), axis=1)
        taken = tf.where(taken == tf.pad(taken, [[0, 0], [1, 0]], constant_values=-1)[:, :-1], -1, taken)
        all_items = cls(before, start, taken, tf.gather(before, start + size) - tf.gather(before, start), count)
        own = all_items.own(taken)
        return all_items._replace(
            total=all_items.total - tf.reduce_sum(own, axis=1), count=count - tf.math.count_nonzero(own, axis=1, dtype=tf.int32)
        )

    def own(self, positions: tf.Tensor) -> tf.Tensor:
        """The mass of each of `positions` `[batch, n]`, excluded ones too; 0 of what may not come and of negative ones."""
        at = self.start[:, None] + tf.maximum(positions, 0)
        return tf.where(positions >= 0, tf.gather(self.before, at + 1) - tf.gather(self.before, at), 0.0)

    def may(self, positions: tf.Tensor) -> tf.Tensor:
        """Whether each of `positions` `[batch, n]` may come."""
        excluded = tf.reduce_any(positions[:, :, None] == self.taken[:, None, :], axis=2)
        return (self.own(positions) > 0) & ~excluded

    def draw(self, pick: tf.Tensor, earlier: tf.Tensor) -> tf.Tensor:
        """One item a row, in proportion to the masses of those that are left.

        Args:
            pick: float64 `[batch, 1]`, uniform in [0, 1).
            earlier: `[batch, n]` positions that the row's slate already holds, each once; negative where there is none.

        Returns:
            Positions `[batch, 1]`.
        """
        gone = tf.concat([earlier, self.taken], axis=1)
        base, own = tf.gather(self.before, self.start)[:, None], self.own(gone)
        begin = tf.gather(self.before, self.start[:, None] + tf.maximum(gone, 0)) - base
        begin = tf.where(own > 0, begin, begin.dtype.max)
        order = tf.argsort(begin, axis=1)
        begin, own = tf.gather(begin, order, batch_dims=1), tf.gather(own, order, batch_dims=1)
        left = tf.maximum(self.total[:, None] - tf.reduce_sum(self.own(earlier), axis=1, keepdims=True), 0.0)
        drawn = pick * left
        # what is drawn lies behind an item that is gone when the mass before that, less what was gone before it, is no more
        drawn += tf.reduce_sum(tf.where(begin - tf.cumsum(own, axis=1, exclusive=True) <= drawn, own, 0.0), axis=1, keepdims=True)
        found = tf.searchsorted(self.before, tf.reshape(base + drawn, [-1]), side="right")
        return found[:, None] - 1 - self.start[:, None]

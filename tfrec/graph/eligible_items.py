"""The items that a row of a batch may be answered with, and draws among all of them in proportion to a mass.

This is the part of exploration that epsilon gives to chance (`explore.py`). Nothing here grows with rows times items, unless a
row names tags or bounds: the cumulative mass of all items is stored once with the index, and what a row excludes is skipped in
it, like the items that its slate already has.
"""
from typing import NamedTuple

import tensorflow as tf

from tfrec.graph.exact_index import ExactIndex, Filters, names_attributes


class EligibleItems(NamedTuple):
    """The eligible items of each row. Positions are the index's, and negative where there is no item."""

    cumulative: tf.Tensor  # float64 [m + 1] the mass before each item; one run of items for all rows, or one for each row
    first: tf.Tensor  # int32 [batch] where in `cumulative` the run of each row begins
    excluded: tf.Tensor  # int32 [batch, E] positions that the row excludes, each once; -1 elsewhere
    total: tf.Tensor  # float64 [batch] the mass of the eligible items
    count: tf.Tensor  # int32 [batch] their number

    @classmethod
    def of(cls, index: ExactIndex, rows: tf.Tensor, filters: Filters) -> "EligibleItems":
        """The items of `index` that the filters of `rows` rows let pass."""
        stored = index.mass_before.value()
        n_items = tf.size(stored) - 1

        def run_for_each_row() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            passes = index.eligible(rows, filters._replace(exclude=filters.exclude[:, :0]))
            mass = tf.where(passes, stored[1:] - stored[:-1], 0.0)
            cumulative = tf.concat([[0.0], tf.cumsum(tf.reshape(mass, [-1]))], axis=0)
            return cumulative, tf.range(rows) * n_items, tf.math.count_nonzero(passes, axis=1, dtype=tf.int32)

        def one_run() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            return stored, tf.zeros([rows], tf.int32), tf.fill([rows], index.count_available())

        cumulative, first, count = tf.cond(tf.reduce_any(names_attributes(filters)), run_for_each_row, one_run)
        total = tf.gather(cumulative, first + n_items) - tf.gather(cumulative, first)
        before_exclusion = cls(cumulative, first, _each_once(index.positions(filters.exclude)), total, count)
        mass = before_exclusion.mass(before_exclusion.excluded)
        return before_exclusion._replace(
            total=total - tf.reduce_sum(mass, axis=1), count=count - tf.math.count_nonzero(mass, axis=1, dtype=tf.int32)
        )

    def mass(self, positions: tf.Tensor) -> tf.Tensor:
        """The mass of the items at `positions` `[batch, n]`, also of excluded ones; 0 for those that do not pass otherwise."""
        at = self.first[:, None] + tf.maximum(positions, 0)
        return tf.where(positions >= 0, tf.gather(self.cumulative, at + 1) - tf.gather(self.cumulative, at), 0.0)

    def contains(self, positions: tf.Tensor) -> tf.Tensor:
        """Whether the items at `positions` `[batch, n]` are eligible."""
        excluded = tf.reduce_any(positions[:, :, None] == self.excluded[:, None, :], axis=2)
        return (self.mass(positions) > 0) & ~excluded

    def probabilities(self, slate: tf.Tensor) -> tf.Tensor:
        """Of each item of a slate `[batch, width]` of eligible items, drawn by mass, given the earlier ones."""
        mass = self.mass(slate)
        left = self.total[:, None] - tf.cumsum(mass, axis=1, exclusive=True)
        of_left = mass / tf.maximum(left, mass)  # that of the last item left is 1, whatever rounding says
        return tf.where(mass > 0, of_left, 0.0)

    def draw(self, uniform: tf.Tensor, earlier: tf.Tensor) -> tf.Tensor:
        """One item a row, in proportion to the masses of the eligible items that are left.

        By inversion: a point in the mass that is left is moved up by the mass of the missing items before it, and then looked up
        in `cumulative`.

        Args:
            uniform: float64 `[batch, 1]` in [0, 1).
            earlier: `[batch, n]` the items that the row's slate already has, each once.

        Returns:
            Positions `[batch, 1]`.
        """
        missing = tf.concat([earlier, self.excluded], axis=1)
        run, mass = tf.gather(self.cumulative, self.first)[:, None], self.mass(missing)
        begin = tf.gather(self.cumulative, self.first[:, None] + tf.maximum(missing, 0)) - run
        begin = tf.where(mass > 0, begin, begin.dtype.max)
        order = tf.argsort(begin, axis=1)
        begin, mass = tf.gather(begin, order, batch_dims=1), tf.gather(mass, order, batch_dims=1)
        left = tf.maximum(self.total[:, None] - tf.reduce_sum(self.mass(earlier), axis=1, keepdims=True), 0.0)
        point = uniform * left
        left_before = begin - tf.cumsum(mass, axis=1, exclusive=True)  # the mass before each missing item that is left
        point += tf.reduce_sum(tf.where(left_before <= point, mass, 0.0), axis=1, keepdims=True)
        found = tf.searchsorted(self.cumulative, tf.reshape(run + point, [-1]), side="right")
        return found[:, None] - 1 - self.first[:, None]


def _each_once(positions: tf.Tensor) -> tf.Tensor:
    """`positions` `[batch, n]` sorted, with -1 where one is repeated."""
    ordered = tf.sort(positions, axis=1)
    previous = tf.pad(ordered, [[0, 0], [1, 0]], constant_values=-1)[:, :-1]
    return tf.where(ordered == previous, -1, ordered)

"""Numeric filters: which items have a number within the bounds of a request, such as a price of at most 50.

The numeric columns of the catalogue are a table in the index, a run of values for each column. An item without a value does not
pass a bound of that column, and no item passes a bound of a column that the catalogue does not have: a filter never lets through
what it forbids. Values are float64, since float32 tells neither cents above 100,000 nor two minutes of the clock apart.
"""
from collections.abc import Callable

import tensorflow as tf

from tfrec.data.items.numeric_columns import MISSING
from tfrec.graph.boosts import COLUMN, Boosts


class NumericColumns:
    """The numeric columns of the items at the positions of an index (`numeric_columns.numeric_table`).

    Args:
        names: of the columns.
        values: `[columns * n_positions]`, one column after the other: columns and items of a later catalogue may be more.
        column: gives the number of each column's name, -1 for every other name.
    """

    def __init__(self, names: tf.Variable, values: tf.Variable, column: Callable[[tf.Tensor], tf.Tensor]) -> None:
        self._names, self._values, self._column = names, values, column

    def added(self, boosts: Boosts, n_positions: tf.Tensor) -> tf.Tensor:
        """What boosts by range add to the score of each item `[batch, n_positions]`."""
        at, column, value = boosts.known(COLUMN, self._column)
        number = tf.gather(tf.reshape(self._values.value(), tf.stack([tf.size(self._names), n_positions])), column)
        low, high = (tf.gather_nd(bound, at)[:, None] for bound in (boosts.min, boosts.max))
        inside = (number >= low) & (number <= high) & (number != MISSING)
        return tf.math.unsorted_segment_sum(tf.where(inside, value[:, None], 0.0), at[:, 0], tf.shape(boosts.names)[0])

    def within(self, columns: tf.Tensor, least: tf.Tensor, most: tf.Tensor, n_positions: tf.Tensor) -> tf.Tensor:
        """Whether each item `[batch, n_positions]` is within all bounds of the row.

        Args:
            columns: `[batch, N]` names; `""` pads.
            least: `[batch, N]` the least number that passes.
            most: `[batch, N]` the most that passes.
            n_positions: of the index.
        """
        rows = tf.shape(columns)[0]
        at = tf.where(columns != "")
        column = self._column(tf.gather_nd(columns, at))
        row, known = tf.cast(at[:, 0], tf.int32), column >= 0
        unknown = tf.math.unsorted_segment_max(tf.cast(~known, tf.int32), row, rows) > 0
        at, row = tf.boolean_mask(at, known), tf.boolean_mask(row, known)
        table = tf.reshape(self._values.value(), tf.stack([tf.size(self._names), n_positions]))
        value = tf.gather(table, tf.boolean_mask(column, known))
        low, high = (tf.gather_nd(bound, at)[:, None] for bound in (least, most))
        inside = (value >= low) & (value <= high) & (value != MISSING)
        outside = tf.math.unsorted_segment_max(tf.cast(~inside, tf.int8), row, rows) > 0
        return ~(outside | unknown[:, None])

"""What person and moment add to the query vector: a sum of one vector a feature, each zero before training.

    context(x) = sum over known features f of  E_f[x_f] - mean E_f

A position between two rows of a table takes its share of both, so a number bends the sum smoothly. The mean is that of the
requests that have the feature: without it the sum would be a second, stale popularity. A feature that is not known adds nothing,
so requests without any feature have the vector that a model without them gives.
"""
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfrec.models.dropout import Noise

keras = tf.keras
MEAN_MOMENTUM = 0.98  # of the moving means
STEP = 0.1  # of the table: it learns a tenth as fast as the towers, or a log of 100,000 events is learnt by heart


class ContextTower(keras.layers.Layer):
    """The vectors of all features in one table.

    Args:
        dim: Dimension of the shared space.
        rows: Of each feature (`RequestFeatures.rows`).
        rate: Share of features, and of whole windows, that are hidden in training.
    """

    def __init__(self, *, dim: int, rows: Sequence[int], rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim, self.rows, self.rate = dim, list(rows), rate
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.table = self.add_weight(name="table", shape=[sum(rows), dim], initializer="zeros")
        self.mean = self.add_weight(name="mean", shape=[len(rows), dim], initializer="zeros", trainable=False, aggregation=first)

    def call(self, positions: tf.Tensor) -> tf.Tensor:
        """Sums `[n, dim]` of positions `[n, features]`, less the moving means: as the served graph adds them."""
        known, parts = self.parts(positions)
        return tf.reduce_sum((parts - self.mean) * known, axis=1)

    def parts(self, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What is known `[n, features, 1]`, and the vector of each feature `[n, features, dim]`, zero where it is not known."""
        rows = self.rows
        begin = tf.constant([sum(rows[:number]) for number in range(len(rows))], tf.int32)
        is_known = tf.math.is_finite(positions)
        known = tf.cast(is_known, tf.float32)[:, :, None]
        at = tf.clip_by_value(tf.where(is_known, positions, 0.0), 0.0, tf.constant(rows, tf.float32) - 1)
        below = tf.floor(at)
        above = tf.minimum(tf.cast(below, tf.int32) + 1, tf.constant(rows) - 1)
        share = (at - below)[:, :, None]
        low, high = (tf.gather(self.table, begin + row) for row in (tf.cast(below, tf.int32), above))
        return known, STEP * ((1 - share) * low + share * high) * known

    def hidden(self, positions: tf.Tensor, noise: Noise | None) -> tf.Tensor:
        """Positions `[batch, length, features]`, some of them NaN instead: features of a window, and all of a window."""
        rate = self.rate
        if noise is None or not rate:
            return positions
        batch, width = tf.shape(positions)[0], len(self.rows)
        chance = tf.random.stateless_uniform([batch, 1, width], noise.next_seed())
        keep = (chance >= rate) & (noise.keep_rows(batch, rate) > 0)[:, :, None]
        return tf.where(keep, positions, float("nan"))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | {"dim": self.dim, "rows": self.rows, "rate": self.rate}

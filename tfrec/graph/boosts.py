"""Boosts of a request: numbers that are added to the scores of some items before anything is chosen or drawn.

A boost names an item, a tag, or a range of a numeric column. Scores are logits: at temperature 1, ln 2 makes an item twice as
likely, and at temperature T 2^(1/T) times. As a boost is part of the score, the propensities of `explore` are exact with it.
"""
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

ITEM, TAG, COLUMN = range(3)  # as `client.slate_options.BOOST_KINDS` numbers them


class Boosts(NamedTuple):
    """The boosts of each row, `[batch, B]` each; an unknown name has no effect, and neither has `""`."""

    kinds: tf.Tensor  # int32
    names: tf.Tensor
    values: tf.Tensor
    min: tf.Tensor  # float64, of a column
    max: tf.Tensor

    def known(self, kind: int, codes: Callable[[tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Where boosts of a kind are whose names `codes` knows `[m, 2]`, those codes `[m]` and their values `[m]`."""
        code = codes(tf.where(self.kinds == kind, self.names, ""))
        at = tf.cast(tf.where((code >= 0) & (self.names != "")), tf.int32)
        return at, tf.gather_nd(code, at), tf.gather_nd(self.values, at)

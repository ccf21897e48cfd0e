"""Dropout whose randomness is a function of (seed, step), so that a continued run draws what an uninterrupted one would have.

Its operations are stateless: they compile under XLA, and give every replica the mask of its own seed.
"""
import tensorflow as tf


class Noise:
    """A stream of seeds for one training step; each use takes the next one.

    Args:
        seed: Int32 `[2]`, different in every step and replica.
    """

    def __init__(self, seed: tf.Tensor) -> None:
        self._seed = seed
        self._drawn = 0

    def next_seed(self) -> tf.Tensor:
        """A seed that was not given before."""
        self._drawn += 1
        return tf.random.experimental.stateless_fold_in(self._seed, self._drawn)

    def dropout(self, x: tf.Tensor, rate: float) -> tf.Tensor:
        """Inverted dropout: each element of `x` is 0 with probability `rate`, else scaled by 1 / (1 - rate)."""
        return tf.nn.experimental.stateless_dropout(x, rate, seed=self.next_seed()) if rate else x

    def keep_rows(self, rows: int, rate: float) -> tf.Tensor:
        """Float `[rows, 1]`: 1 with probability 1 - `rate`, else 0."""
        return tf.cast(tf.random.stateless_uniform([rows, 1], self.next_seed()) >= rate, tf.float32)


def dropout(x: tf.Tensor, rate: float, noise: Noise | None) -> tf.Tensor:
    """`x` with dropout in training, and unchanged when serving (`noise` is None)."""
    return x if noise is None else noise.dropout(x, rate)

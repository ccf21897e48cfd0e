"""Dropout whose randomness is a function of (seed, step): a run that is stopped and continued draws what it would have drawn.

Stateless operations also compile under XLA and give every replica the mask that its own seed says.
"""
import tensorflow as tf


class Noise:
    """A stream of seeds for one training step; each use takes the next one.

    Args:
        seed: int32 `[2]`, different in every step (and replica).
    """

    def __init__(self, seed: tf.Tensor) -> None:
        self._seed = seed
        self._drawn = 0

    def next_seed(self) -> tf.Tensor:
        """A seed not given before."""
        self._drawn += 1
        return tf.random.experimental.stateless_fold_in(self._seed, self._drawn)

    def dropout(self, x: tf.Tensor, rate: float) -> tf.Tensor:
        """Inverted dropout of the elements of `x`."""
        return tf.nn.experimental.stateless_dropout(x, rate, seed=self.next_seed()) if rate else x

    def keep_rows(self, rows: int, rate: float) -> tf.Tensor:
        """`[rows, 1]` of 1 with probability 1 - rate, else 0."""
        return tf.cast(tf.random.stateless_uniform([rows, 1], self.next_seed()) >= rate, tf.float32)


def dropout(x: tf.Tensor, rate: float, noise: Noise | None) -> tf.Tensor:
    """`x` unchanged when serving (`noise` is None), thinned when training."""
    return x if noise is None else noise.dropout(x, rate)

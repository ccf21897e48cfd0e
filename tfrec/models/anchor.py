"""L2-SP, which keeps a retrained model near its parent (Li et al. 2018, arXiv:1802.01483): strength / 2 * ||w - w_0||^2."""
from collections.abc import Sequence

import tensorflow as tf


class Anchor:
    """A penalty on the distance of `weights` from where they were when `hold` was called.

    Attributes:
        weights: The variables that are held.
        strength: Weight of the penalty; 0 lets them go.
    """

    def __init__(self, weights: Sequence[tf.Variable]) -> None:
        self.weights = list(weights)
        self.strength = 0.0
        self._start: list[tf.Variable] = []

    def hold(self, strength: float) -> None:
        """Hold the weights where they are now; 0 lets them go. A traced step sees where, and has its strength as a constant."""
        self.strength = strength
        if strength and not self._start:
            self._start = [tf.Variable(w, trainable=False) for w in self.weights]
        elif strength:
            for start, weight in zip(self._start, self.weights, strict=True):
                start.assign(weight)

    def penalty(self) -> tf.Tensor:
        """This replica's part of the penalty, since the losses of replicas are summed; 0 without an anchor."""
        if not self.strength:
            return tf.zeros([])
        pairs = zip(self.weights, self._start, strict=True)
        squares = tf.add_n([tf.reduce_sum(tf.math.squared_difference(w, start)) for w, start in pairs])
        return self.strength / 2 * squares / tf.distribute.get_strategy().num_replicas_in_sync

"""The exponential moving average (EMA) of a model's weights, which is what a trained model is used with."""
from collections.abc import Sequence

import tensorflow as tf

DECAY = 0.99  # of the towers: an average over about 100 steps


class WeightAverage(tf.Module):
    """Averages of `weights`, kept in variables beside them.

    Attributes:
        weights: The variables that are averaged.
        values: Their averages, in the same order.
        count: Steps since the average began.
    """

    def __init__(self, weights: Sequence[tf.Variable], *, decay: float = DECAY) -> None:
        super().__init__(name="weight_average")
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.weights, self._decay = list(weights), decay
        self.values = [tf.Variable(w, trainable=False, aggregation=first) for w in weights]
        self.count = tf.Variable(0, trainable=False, dtype=tf.int64, aggregation=first, name="averaged")

    def update(self) -> None:
        """Move each average towards its weight, after an optimiser step."""
        self.count.assign_add(1)
        done = tf.cast(self.count, tf.float32)
        decay = tf.minimum(self._decay, done / (done + 10.0))  # the first steps are forgotten fast
        for average, weight in zip(self.values, self.weights, strict=True):
            average.assign(decay * average + (1 - decay) * weight)

    def restart(self) -> None:
        """Begin anew at the present weights."""
        self.count.assign(0)
        for average, weight in zip(self.values, self.weights, strict=True):
            average.assign(weight)

    def swap(self) -> None:
        """Exchange the weights and their averages; a second call changes them back."""
        for average, weight in zip(self.values, self.weights, strict=True):
            kept = tf.identity(weight)
            weight.assign(average)
            average.assign(kept)

    def of(self, weight: tf.Variable) -> tf.Variable:
        """The average of one of the `weights`."""
        return next(average for average, mine in zip(self.values, self.weights, strict=True) if mine is weight)

"""Auxiliary heads: what translates the towers' score into the quantity that an objective compares with the log.

They are learnt beside the towers with a learning rate of their own, and dropped afterwards: they describe the window of slates,
and the served graph stays as it is.
"""
import numpy as np
import tensorflow as tf

from tfrec.training.slates.position_bias import PositionBiasModel
from tfrec.training.slates.slate_scores import SlateScores


class AuxiliaryHeads(tf.Module):
    """The value of a score, the logit of a click, and the logit of a conversion after a click.

    Args:
        dim: Dimension of the towers' vectors.
        bias: Of the same slates, by the scores before learning; the heads start from it.

    Attributes:
        position_weights: `[K]`, how much of a reward is seen at each position; not trained.
        mean_reward: `[K]`, the mean reward of each position; not trained.
        mean_score: The mean score; not trained.
        noise: Standard deviation of rewards about their expectation; not trained.
    """

    def __init__(self, dim: int, bias: PositionBiasModel) -> None:
        super().__init__(name="auxiliary_heads")
        self.position_weights = tf.Variable(bias.position_weights, trainable=False)
        self.mean_reward = tf.Variable(bias.mean_reward, trainable=False)
        self.mean_score, self.noise = (tf.Variable(x, trainable=False, dtype=tf.float32) for x in (bias.mean_score, bias.noise))
        start = {"log_gain": np.log(bias.gain), "intercept": bias.intercept, "slope": _inverse_softplus(bias.click_slope),
                 "level": bias.click_level, "conversion_level": -2.0}
        self.log_gain, self.intercept, self.slope, self.level, self.conversion_level = (
            tf.Variable(x, dtype=tf.float32, name=name) for name, x in start.items())
        self.conversion = tf.Variable(tf.zeros([dim, dim]), name="conversion")

    def start_from(self, bias: PositionBiasModel) -> None:
        """Go over to another window's position bias; a traced step goes on with it."""
        self.position_weights.assign(bias.position_weights)
        self.mean_reward.assign(bias.mean_reward)
        self.mean_score.assign(bias.mean_score)
        self.noise.assign(bias.noise)
        self.log_gain.assign(np.log(bias.gain))
        self.intercept.assign(bias.intercept)
        self.slope.assign(_inverse_softplus(bias.click_slope))
        self.level.assign(bias.click_level)

    def value(self, score: tf.Tensor) -> tf.Tensor:
        """The reward that a score stands for at the first position; its gain is above 0, or the ranking would turn round."""
        return tf.exp(self.log_gain) * score + self.intercept

    def click(self, scores: SlateScores) -> tf.Tensor:
        """Logits `[batch, K]` of a click on each shown item that is looked at."""
        return tf.nn.softplus(self.slope) * (scores.own - self.mean_score) + self.level

    def conversion_after_click(self, scores: SlateScores) -> tf.Tensor:
        """Logits `[batch, K]` of a conversion of each shown item after a click."""
        own_part = tf.einsum("bd,de,bke->bk", scores.u, self.conversion, scores.v)
        return self.click(scores) + own_part + self.conversion_level


def _inverse_softplus(value: float) -> float:
    """The number whose softplus is `value`, above 0."""
    return float(value + np.log(-np.expm1(-value)))

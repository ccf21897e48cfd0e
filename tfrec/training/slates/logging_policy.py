"""A model of the policy that logged, for slates whose log has no propensities (Chen et al. 2019, arXiv:1812.02353)."""
import tensorflow as tf

from tfrec.models.two_tower import Batch
from tfrec.training.slates.mask import masked_sum
from tfrec.training.slates.slate_scores import SlateScores, exploring_policy, shown_mask


class LoggingPolicy(tf.Module):
    """An exploring policy over the towers' vectors, with a similarity and a temperature of its own.

    Args:
        dim: Dimension of the towers' vectors.
        temperature: Where its temperature starts.
        epsilon: Share that is left to chance.
    """

    def __init__(self, dim: int, *, temperature: float, epsilon: float) -> None:
        super().__init__(name="logging_policy")
        self.epsilon = epsilon
        self.similarity = tf.Variable(tf.zeros([dim, dim]), name="similarity")
        self.inverse_temperature = tf.Variable(1 / max(temperature, 0.05), dtype=tf.float32, name="inverse_temperature")

    def log_propensities(self, batch: Batch, scores: SlateScores) -> tf.Tensor:
        """The log probability of each logged position, `[batch, K]`; 0 where a slate is shorter. The towers get no gradient."""
        u, v, own, w, listed = (tf.stop_gradient(part) for part in scores)
        turned = tf.matmul(u, self.similarity)  # the rest of the towers' score stays: popularity, and what is hidden
        own += tf.einsum("bd,bkd->bk", turned, v)
        listed += tf.einsum("bd,bsd->bs", turned, w)
        own, listed = own + batch["boost"], listed + batch["shortlist_boost"]
        inverse = self.inverse_temperature
        # the policy that logged had a shortlist of its own, on which every shown item was
        return exploring_policy(batch, inverse * own, inverse * listed, epsilon=self.epsilon).log_listed

    def fill_in(self, batch: Batch, scores: SlateScores) -> tuple[tf.Tensor, tf.Tensor]:
        """The log's log propensities `[batch, K]`, or this model's where there are none, and the loss of this model."""
        log_pi, drawn = self.log_propensities(batch, scores), batch["drawn"][:, None]
        loss = -masked_sum(shown_mask(batch) & ~drawn, log_pi)
        return tf.where(drawn, batch["log_propensity"], tf.stop_gradient(log_pi)), loss

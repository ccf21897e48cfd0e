"""The Bayesian linear head that bandits draw from: what feedback says of the parts of a score, and how sure that is.

    reward of (u, i)  ~  <w, phi>,    phi = [u * v_i, beta log p(i)],    w ~ N(mean, precision^-1)

With every weight 1, <w, phi> is the model's score. That is the mean before any reward has come, so what is not known yet is left
to the model. The posterior is kept as the Cholesky factor of the precision, so nothing is ever inverted: a draw and a width are
one triangular system each (Chapelle & Li 2011, An empirical evaluation of Thompson sampling; Li et al. 2010, arXiv:1003.0146).
"""
import tensorflow as tf

PRIOR_SD = 0.5  # of each weight before any reward: a score of 10 in 64 equal parts is then known to about 0.6


class BayesianHead(tf.Module):
    """The posterior of the weights, which is in the checkpoint beside the towers.

    Args:
        dim: Dimension of the shared space; the head has one weight more, for popularity.

    Attributes:
        mean: `[dim + 1]`.
        factor: `[dim + 1, dim + 1]`, L of L L' = precision. Both are in float64, as evidence adds up over years.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(name="bayesian_head")
        self.mean = tf.Variable(tf.ones([dim + 1], tf.float64), trainable=False, name="head_mean")
        self.factor = tf.Variable(tf.eye(dim + 1, dtype=tf.float64) / PRIOR_SD, trainable=False, name="head_factor")

    def draw(self, noise: tf.Tensor) -> tf.Tensor:
        """Weights `[batch, dim + 1]` from the posterior, by standard normal `noise` `[batch, dim + 1]`: mean + L'^-1 noise."""
        off = tf.linalg.triangular_solve(self._factor(), tf.transpose(noise), adjoint=True)
        return self.expected() + tf.transpose(off)

    def expected(self) -> tf.Tensor:
        """The posterior's mean `[dim + 1]`."""
        return tf.cast(self.mean, tf.float32)

    def sd(self, phi: tf.Tensor) -> tf.Tensor:
        """Standard deviation `[...]` of `<w, phi>` for features `[..., dim + 1]`: |L^-1 phi|."""
        flat = tf.reshape(phi, [-1, phi.shape[-1]])
        solved = tf.linalg.triangular_solve(self._factor(), tf.transpose(flat))
        return tf.reshape(tf.norm(solved, axis=0), tf.shape(phi)[:-1])

    def _factor(self) -> tf.Tensor:
        return tf.cast(self.factor, tf.float32)


def features(u: tf.Tensor, v: tf.Tensor, popularity: tf.Tensor) -> tf.Tensor:
    """The features phi `[..., dim + 1]` of query vectors `[..., dim]`, item vectors `[..., dim]` and `beta log p` `[...]`."""
    return tf.concat([u * v, popularity[..., None]], axis=-1)


def reweighed(w: tf.Tensor, u: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    """A query `[batch, dim]` and a weight of popularity `[batch]` whose score is `<w, phi>`, so that any index can answer it."""
    return w[..., :-1] * u, w[..., -1] * beta

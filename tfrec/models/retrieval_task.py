"""The next-item loss: query and target vectors and shared negatives in, one summed softmax loss out.

    loss_m = -log( e^{s_mm} / (e^{s_mm} + sum_n e^{s_mn}) ),  s_mm = <u_m, v_m> + a_m,  s_mn = <u_m, w_n> + b_mn

It is `tfrs.tasks.Retrieval` with `candidates = [targets; negatives]`, every other row's target masked, and `b` as its sampling
correction; a test holds the two equal. Its own `call` builds labels and scores of `[M, M + N]` and takes the correction as
probabilities, to be exponentiated and logged again, at about twice the time of a step. This one needs `[M, N]` once.
"""
from collections.abc import Callable

import tensorflow as tf
import tensorflow_recommenders as tfrs


class CorrectedRetrieval(tfrs.tasks.Retrieval):
    """`tfrs.tasks.Retrieval` whose negatives are shared by all rows and whose logits carry a correction."""

    def call(self, query_embeddings: tf.Tensor, candidate_embeddings: tf.Tensor, *, negative_embeddings: tf.Tensor,
             candidate_bias: tf.Tensor, negative_bias: tf.Tensor, sample_weight: tf.Tensor) -> tf.Tensor:
        """Summed, weighted loss.

        Args:
            query_embeddings: `[M, dim]`.
            candidate_embeddings: `[M, dim]`, the target of each row.
            negative_embeddings: `[N, dim]`.
            candidate_bias: `[M]`, added to the target's score.
            negative_bias: `[M, N]`, a constant added to the negatives' scores; large and negative hides one.
            sample_weight: `[M]`.
        """
        own = tf.reduce_sum(query_embeddings * candidate_embeddings, axis=1) + candidate_bias
        rest = _log_sum_exp(query_embeddings, negative_embeddings, negative_bias)
        return tf.reduce_sum(tf.nn.softplus(rest - own) * sample_weight)  # -log(e^own / (e^own + e^rest))


def _log_sum_exp(u: tf.Tensor, w: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """`[M]`: ln sum_n exp(<u_m, w_n> + b_mn), of which `b` is a constant.

    A step is as fast as `[M, N]` is read and written seldom, so the gradient is by hand: two products of what is there already.
    """

    @tf.custom_gradient
    def value(u: tf.Tensor, w: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
        scores = tf.matmul(u, w, transpose_b=True) + bias
        top = tf.reduce_max(scores, axis=1, keepdims=True)
        parts = tf.exp(scores - top)
        total = tf.reduce_sum(parts, axis=1, keepdims=True)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            share = upstream[:, None] / total
            return share * tf.matmul(parts, w), tf.matmul(parts, share * u, transpose_a=True)

        return tf.squeeze(top + tf.math.log(total), axis=1), gradient

    return value(u, w)

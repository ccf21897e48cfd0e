"""The next-item loss: query and target vectors and shared negatives in, one summed softmax loss out.

    loss_m = -log( e^{s_mm} / (e^{s_mm} + sum_n e^{s_mn}) ),  s_mm = <u_m, v_m> + a_m,  s_mn = <u_m, w_n> + b_mn

It is `tfrs.tasks.Retrieval` with `candidates = [targets; negatives]`, every other row's target masked, and `b` as its sampling
correction; a test holds the two equal. Its own `call` builds labels and scores of `[M, M + N]` and takes the correction as
probabilities, to be exponentiated and logged again, at about twice the time of a step. This one needs `[M, N]` once.
"""
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
            negative_bias: `[M, N]`, added to the negatives' scores; large and negative hides one.
            sample_weight: `[M]`.
        """
        own = tf.reduce_sum(query_embeddings * candidate_embeddings, axis=1) + candidate_bias
        others = tf.matmul(query_embeddings, negative_embeddings, transpose_b=True) + negative_bias
        # one fused kernel for the softmax and its gradient; [M, N] is read and written as few times as can be
        logits = tf.concat([own[:, None], others], axis=1)
        target = tf.zeros_like(own, tf.int32)
        return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(target, logits) * sample_weight)

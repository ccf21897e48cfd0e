"""The contrastive loss, which draws the vector of a query to that of its item.

    loss_i = -log( e^{s_ii} / sum_j e^{s_ij} ),    s_ij = <q_i, v_j> / T,    j over the batch but for other right answers of i

This is the in-batch softmax (Henderson et al. 2017, arXiv:1705.00652) without false negatives. Half of the loss ranks items for a
query, and half ranks queries for an item.
"""
import tensorflow as tf

HIDDEN = -1e9  # a logit of probability 0


def right_answers(relevant: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    """Boolean `[batch, batch]`: whether item j of the batch is a right answer of query i.

    Args:
        relevant: `[batch, r]`, the items that each query is paired with anywhere, padded with -1.
        item: `[batch]`, the item of each pair.
    """
    return tf.reduce_any(relevant[:, :, None] == item[None, None, :], axis=1)


def contrastive_loss(queries: tf.Tensor, items: tf.Tensor, right: tf.Tensor, *, temperature: float) -> tf.Tensor:
    """Return the loss of each pair, `[batch]`.

    Args:
        queries: unit vectors `[batch, width]`.
        items: unit vectors `[batch, width]`; item i belongs to query i.
        right: boolean `[batch, batch]`, whether item j is a right answer of query i; others than i are left out of the sum.
        temperature: T.
    """
    tf.debugging.assert_shapes([(queries, ("batch", "width")), (items, ("batch", "width")), (right, ("batch", "batch"))])
    false_negative = right & ~tf.eye(tf.shape(queries)[0], dtype=tf.bool)
    similarity = tf.matmul(queries, items, transpose_b=True) / temperature + tf.where(false_negative, HIDDEN, 0.0)
    own = tf.linalg.diag_part(similarity)
    return tf.reduce_logsumexp(similarity, axis=1) / 2 + tf.reduce_logsumexp(similarity, axis=0) / 2 - own


def cosine_distance(vectors: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Return the mean of 1 - <v_i, w_i> over unit vectors `[batch, width]`."""
    return tf.reduce_mean(1 - tf.reduce_sum(vectors * others, axis=-1))

"""The loss that brings a query near its item: cosines of a batch in, a loss a pair out.

    loss_i = -log( e^{s_ii} / sum_j e^{s_ij} ),    s_ij = <q_i, v_j> / T,    j over the batch but for other right answers of i

(in-batch softmax: Henderson et al. 2017, arXiv:1705.00652; false negatives are left out of the sum). Half of it is over items for
a query, and half over queries for an item.
"""
import tensorflow as tf

HIDDEN = -1e9


def right_answers(relevant: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    """Boolean `[batch, batch]`: item j of the batch is a right answer of query i.

    Args:
        relevant: item numbers `[batch, r]` that each query is paired with anywhere, padded with -1.
        item: item numbers `[batch]`.
    """
    return tf.reduce_any(relevant[:, :, None] == item[None, None, :], axis=1)


def contrastive_loss(queries: tf.Tensor, items: tf.Tensor, right: tf.Tensor, *, temperature: float) -> tf.Tensor:
    """Loss `[batch]` of unit vectors `[batch, width]`; row i of both belong together.

    Args:
        right: boolean `[batch, batch]`: item j is a right answer of query i, and no negative of it.
        temperature: T.
    """
    size = tf.shape(queries)[0]
    false_negative = right & ~tf.eye(size, dtype=tf.bool)
    similarity = tf.matmul(queries, items, transpose_b=True) / temperature + tf.where(false_negative, HIDDEN, 0.0)
    own = tf.linalg.diag_part(similarity)
    return tf.reduce_logsumexp(similarity, axis=1) / 2 + tf.reduce_logsumexp(similarity, axis=0) / 2 - own

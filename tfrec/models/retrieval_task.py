"""The softmax loss of a batch: each query against its own target and against negatives that all queries share.

    loss_m = -log( e^{s_mm} / (e^{s_mm} + sum_n e^{s_mn}) ),  s_mm = <u_m, v_m> + a_m,  s_mn = <u_m, w_n> + b_mn

The biases hold popularity, the logQ correction (`sampled_softmax.py`) and what hides an item.
"""
import tensorflow as tf
import tensorflow_recommenders as tfrs


class CorrectedRetrieval(tfrs.tasks.Retrieval):
    """A TFRS task that equals `tfrs.tasks.Retrieval` with extra negatives, at about half the time of a step.

    It overrides `call` and inherits only the place of a task in a `tfrs.Model`. The base class would compute the same loss from
    `candidates = [targets; negatives]`, with the other rows' targets masked and `b` as sampling probabilities; a test holds the
    two equal. But it makes labels and scores of `[M, M + N]`, and takes the correction as probabilities, to be exponentiated and
    logged again. This class makes `[M, N]` once. It takes no option of the base class: the temperature is in the vectors, items
    are hidden by the biases, and metrics over all items are those of `tfrec.evaluation`.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)

    def call(self, query_embeddings: tf.Tensor, candidate_embeddings: tf.Tensor, *, negative_embeddings: tf.Tensor,
             candidate_bias: tf.Tensor, negative_bias: tf.Tensor, sample_weight: tf.Tensor) -> tf.Tensor:
        """The summed, weighted loss.

        Args:
            query_embeddings: `[M, dim]`, u.
            candidate_embeddings: `[M, dim]`, the target v of each query.
            negative_embeddings: `[N, dim]`, w.
            candidate_bias: `[M]`, a.
            negative_bias: `[M, N]`, b, of which no gradient is taken; large and negative hides a negative from a query.
            sample_weight: `[M]`. Where it is 0 a query is masked: its vector, target and bias `a` may be anything.

        Raises:
            ValueError: A shape is another one.
        """
        _check_shapes(query_embeddings, candidate_embeddings, negative_embeddings, candidate_bias, negative_bias, sample_weight)
        counts = sample_weight != 0.0
        u, v = (tf.where(counts[:, None], x, 0.0) for x in (query_embeddings, candidate_embeddings))
        own = tf.reduce_sum(u * v, axis=1) + tf.where(counts, candidate_bias, 0.0)
        rest = _log_sum_exp(u, negative_embeddings, negative_bias)
        return tf.reduce_sum(tf.nn.softplus(rest - own) * sample_weight)  # -log(e^own / (e^own + e^rest))


def _check_shapes(u: tf.Tensor, v: tf.Tensor, w: tf.Tensor, a: tf.Tensor, b: tf.Tensor, weight: tf.Tensor) -> None:
    shapes = [x.shape for x in (u, v, w, a, b, weight)]
    if [shape.rank for shape in shapes] != [2, 2, 2, 1, 2, 1] or not (
            u.shape.is_compatible_with(v.shape) and u.shape[1:].is_compatible_with(w.shape[1:])
            and b.shape.is_compatible_with([u.shape[0], w.shape[0]])
            and all(u.shape[:1].is_compatible_with(x.shape) for x in (a, weight))):
        raise ValueError("CorrectedRetrieval: expected queries and targets [M, dim], negatives [N, dim], biases [M] and [M, N] "
                         f"and weights [M], got {', '.join(str(shape) for shape in shapes)}.")


def _log_sum_exp(u: tf.Tensor, w: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """`[M]`: ln sum_n exp(<u_m, w_n> + b_mn), of which `b` is a constant.

    A step is as fast as `[M, N]` is read and written seldom, so the gradient is by hand: two products of what is there already.

        r_m = sum_n p_mn w_n,   d value_m / d u_m = r_m,   d value_m / d w_n = p_mn u_m,   p_m: the softmax of the scores

    These are the gradients of <u_m, r_m> with p held constant. `tf.custom_gradient` is not used: for each graph that is traced it
    puts a function into a registry of the process, and with it the graph and its variables. A process that retrains for months
    would keep every model that it ever had.
    """
    scores = tf.stop_gradient(tf.matmul(u, w, transpose_b=True) + bias)
    top = tf.reduce_max(scores, axis=1, keepdims=True)
    parts = tf.exp(scores - top)
    total = tf.reduce_sum(parts, axis=1, keepdims=True)
    slope = tf.reduce_sum(u * tf.matmul(parts, w) / total, axis=1)
    return tf.squeeze(top + tf.math.log(total), axis=1) + (slope - tf.stop_gradient(slope))

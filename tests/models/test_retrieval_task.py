"""The loss by hand, and equal to the stock task on the same numbers."""
import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
from numpy.testing import assert_allclose

from tfrec.models.retrieval_task import CorrectedRetrieval


def test_one_row_by_hand():
    # own score 1 * 2 + .5, negatives 1 * 1 + 0 and 1 * 3 - 1: log(e^2.5 + e + e^2) - 2.5, twice
    loss = CorrectedRetrieval()(
        tf.constant([[1.0, 0.0]]), tf.constant([[2.0, 9.0]]), negative_embeddings=tf.constant([[1.0, 0.0], [3.0, 0.0]]),
        candidate_bias=tf.constant([0.5]), negative_bias=tf.constant([[0.0, -1.0]]), sample_weight=tf.constant([2.0]),
    )
    assert_allclose(loss, 2 * (np.log(np.exp(2.5) + np.exp(1) + np.exp(2)) - 2.5), rtol=1e-6)


def test_equals_the_stock_task():
    """Stock: candidates [targets; negatives], the other rows' targets masked, the correction as sampling probabilities."""
    rng = np.random.default_rng(0)
    rows, negatives, dim = 5, 9, 4
    u, v, w = (rng.normal(size=(n, dim)).astype(np.float32) for n in (rows, rows, negatives))
    weight = rng.uniform(0, 2, rows).astype(np.float32)
    q = rng.uniform(0.01, 1, rows + negatives).astype(np.float32)
    hidden = rng.random((rows, negatives)) < 0.3
    mask = np.concatenate([np.eye(rows, dtype=bool), ~hidden], axis=1)
    stock = tfrs.tasks.Retrieval()(
        tf.constant(u), tf.constant(np.concatenate([v, w])), sample_weight=tf.constant(weight),
        candidate_sampling_probability=tf.constant(q), score_mask=tf.constant(mask), compute_metrics=False,
    )
    bias = np.where(hidden, -1e9, -np.log(q[rows:])).astype(np.float32)
    ours = CorrectedRetrieval()(
        tf.constant(u), tf.constant(v), negative_embeddings=tf.constant(w), candidate_bias=tf.constant(-np.log(q[:rows])),
        negative_bias=tf.constant(bias), sample_weight=tf.constant(weight),
    )
    assert_allclose(ours, stock, rtol=1e-5)


def test_a_row_without_negatives_costs_nothing_and_is_finite():
    loss = CorrectedRetrieval()(
        tf.ones([1, 2]), tf.ones([1, 2]), negative_embeddings=tf.ones([3, 2]), candidate_bias=tf.zeros([1]),
        negative_bias=tf.fill([1, 3], -1e9), sample_weight=tf.ones([1]),
    )
    assert float(loss) == 0.0


def test_the_gradient_is_that_of_the_formula():
    rng = np.random.default_rng(1)
    u, v, w = (tf.constant(rng.normal(size=(n, 3)), tf.float32) for n in (4, 4, 7))
    a, b, weight = (tf.constant(rng.normal(size=size), tf.float32) for size in (4, (4, 7), 4))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([u, v, w])
        ours = CorrectedRetrieval()(u, v, negative_embeddings=w, candidate_bias=a, negative_bias=b, sample_weight=weight)
        own = tf.reduce_sum(u * v, axis=1) + a
        logits = tf.concat([own[:, None], tf.matmul(u, w, transpose_b=True) + b], axis=1)
        formula = tf.reduce_sum((tf.reduce_logsumexp(logits, axis=1) - own) * weight)
    assert_allclose(ours, formula, rtol=1e-6)
    for x in (u, v, w):
        assert_allclose(tape.gradient(ours, x), tape.gradient(formula, x), rtol=1e-5, atol=1e-6)


def test_a_traced_gradient_goes_with_its_function():
    """A process that retrains for months traces a new step whenever its catalogue has grown."""
    @tf.function(autograph=False)
    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = CorrectedRetrieval()(x, x, negative_embeddings=x, candidate_bias=x[:, 0], negative_bias=x, sample_weight=x[0])
        return tape.gradient(loss, x)

    assert np.isfinite(slope(tf.ones([2, 2]))).all()
    graph = weakref.ref(slope.get_concrete_function(tf.ones([2, 2])).graph)
    del slope
    gc.collect()
    assert graph() is None


def test_a_row_of_weight_0_is_masked_whatever_it_holds():
    rng = np.random.default_rng(2)
    u, v, w = (tf.constant(rng.normal(size=(n, 3)), tf.float32) for n in (2, 2, 4))
    garbage = tf.constant([[1.0], [np.nan]])
    u, v = tf.Variable(u * garbage), tf.Variable(v * garbage)
    bias = {"candidate_bias": tf.constant([0.5, np.inf]), "negative_bias": tf.zeros([2, 4])}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(w)
        loss = CorrectedRetrieval()(u, v, negative_embeddings=w, sample_weight=tf.constant([1.0, 0.0]), **bias)
    alone = CorrectedRetrieval()(u[:1], v[:1], negative_embeddings=w, candidate_bias=tf.constant([0.5]),
                                 negative_bias=tf.zeros([1, 4]), sample_weight=tf.ones([1]))
    assert_allclose(loss, alone, rtol=1e-6)
    for slope in tape.gradient(loss, [u, v, w]):
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("wrong", [
    {"candidate_bias": tf.zeros([2, 1])}, {"candidate_bias": tf.zeros([3])}, {"negative_bias": tf.zeros([2, 3])},
    {"negative_bias": tf.zeros([4])}, {"sample_weight": tf.zeros([1])}, {"negative_embeddings": tf.zeros([4, 2])},
])
def test_a_wrong_shape_is_refused(wrong):
    good = {"negative_embeddings": tf.zeros([4, 3]), "candidate_bias": tf.zeros([2]), "negative_bias": tf.zeros([2, 4]),
            "sample_weight": tf.zeros([2])}
    with pytest.raises(ValueError, match=r"expected queries and targets \[M, dim\]"):
        CorrectedRetrieval()(tf.zeros([2, 3]), tf.zeros([2, 3]), **(good | wrong))

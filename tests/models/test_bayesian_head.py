"""The head's draws and widths against the posterior that they come from."""
import numpy as np
import tensorflow as tf
from numpy.testing import assert_allclose

from tfrec.models.bayesian_head import PRIOR_SD, BayesianHead, features, reweighed

U = tf.constant([[1.0, 2.0], [0.5, -1.0]])
V = tf.constant([[3.0, -1.0], [2.0, 2.0]])
BETA, LOG_P = tf.constant([0.5, 2.0]), tf.constant([-4.0, -1.0])


def head(precision: list[list[float]], mean: list[float]) -> BayesianHead:
    made = BayesianHead(len(mean) - 1)
    made.mean.assign(mean)
    made.factor.assign(np.linalg.cholesky(np.array(precision, np.float32)))
    return made


def test_before_any_reward_the_mean_is_the_models_score() -> None:
    made = BayesianHead(2)
    phi = features(U, V, BETA * LOG_P)
    assert phi.numpy().tolist() == [[3.0, -2.0, -2.0], [1.0, -2.0, -2.0]]
    assert_allclose(tf.linalg.matvec(phi, made.expected()), [1.0 * 3 - 2 - 2, 1.0 - 2 - 2])
    # sqrt(9 + 4 + 4) and sqrt(1 + 4 + 4) times the prior's standard deviation
    assert_allclose(made.sd(phi), [PRIOR_SD * 17**0.5, PRIOR_SD * 3], rtol=1e-6)


def test_a_query_weighed_anew_has_the_heads_score() -> None:
    w = tf.constant([[2.0, 0.5, 3.0], [1.0, 1.0, -1.0]])
    u, beta = reweighed(w, U, BETA)
    score = tf.reduce_sum(u * V, axis=1) + beta * LOG_P
    assert_allclose(score, tf.reduce_sum(w * features(U, V, BETA * LOG_P), axis=1), rtol=1e-6)
    assert_allclose(score, [2 * 3 - 0.5 * 2 - 3 * 2, 1 - 2 + 2], rtol=1e-6)


def test_the_width_is_that_of_the_covariance() -> None:
    # the inverse of [[4, 2], [2, 5]] is [[5, -2], [-2, 4]] / 16
    made = head([[4.0, 2.0], [2.0, 5.0]], [1.0, 1.0])
    assert_allclose(made.sd(tf.constant([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]]])),
                    [[(5 / 16) ** 0.5, (4 / 16) ** 0.5], [(5 / 16) ** 0.5, 0.0]], rtol=1e-6)


def test_draws_have_the_mean_and_covariance_of_the_posterior() -> None:
    made = head([[4.0, 2.0], [2.0, 5.0]], [1.0, -3.0])
    n = 200_000
    drawn = made.draw(tf.random.stateless_normal([n, 2], [1, 2])).numpy()
    # standard errors: .56 / sqrt(n) = .0013 of a mean, and .44 / sqrt(n) = .001 of a variance
    assert_allclose(drawn.mean(axis=0), [1.0, -3.0], atol=0.006)
    assert_allclose(np.cov(drawn, rowvar=False), np.array([[5, -2], [-2, 4]]) / 16, atol=0.005)
    assert_allclose(made.draw(tf.zeros([1, 2])), [[1.0, -3.0]])

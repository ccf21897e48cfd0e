"""Likelihoods by hand, and that each correction finds the truth where the plain loss does not."""
import numpy as np
import tensorflow as tf
from numpy.testing import assert_allclose

from tfrec.training.slates import pointwise
from tfrec.training.slates.pointwise import delay_chance, entire_space, mean_delay


def const(rows: object) -> tf.Tensor:
    return tf.constant(rows, tf.float32)


def observed_cross_entropy(logit: tf.Tensor, happened: tf.Tensor, chance: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    mask, chance = tf.ones(logit.shape, tf.bool), tf.broadcast_to(chance, logit.shape)
    return pointwise.observed_cross_entropy(logit, happened, chance, weight, mask)


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_observed_cross_entropy_by_hand() -> None:
    # p = .8, c = .5: seen with .4; weights 1 and 2, and a position that is not there
    z = const([[logit(0.8), logit(0.8), np.nan]])
    loss = pointwise.observed_cross_entropy(z, const([[1, 0, 1]]), const([[0.5, 0.5, 0]]), const([[1, 2, np.inf]]),
                                            tf.constant([[True, True, False]]))
    assert_allclose(loss, -(np.log(0.4) + 2 * np.log(0.6)), rtol=1e-5)


def test_with_a_chance_of_one_it_is_plain_cross_entropy() -> None:
    z, y = const([[-40.0, 0.3, 40.0]]), const([[0, 1, 1]])
    plain = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(y, z))
    assert_allclose(observed_cross_entropy(z, y, tf.ones([1, 1]), tf.ones([1, 3])), plain, rtol=1e-5)


def test_gradients_stay_finite_and_are_right() -> None:
    z, y, c = tf.Variable([[-60.0, 60.0, 0.2]]), const([[0, 0, 0]]), const([[1.0, 1.0, 0.3]])
    with tf.GradientTape() as tape:
        loss = observed_cross_entropy(z, y, c, tf.ones([1, 3]))
    p = 1 / (1 + np.exp(-0.2))
    found = tape.gradient(loss, z).numpy()
    assert_allclose(found[0, 2], 0.3 * p * (1 - p) / (1 - 0.3 * p), rtol=1e-4)  # d/dz -ln(1 - c sigma(z))
    assert np.isfinite(found).all()


def fitted(y: np.ndarray, chance: np.ndarray) -> float:
    """The one probability that `y` [n] speaks for."""
    z = tf.Variable([[0.0]])
    for _ in range(200):
        with tf.GradientTape() as tape:
            spread = tf.tile(z, [1, len(y)])
            loss = observed_cross_entropy(spread, const(y[None]), const(chance[None]), tf.ones([1, len(y)])) / len(y)
        z.assign_sub(8.0 * tape.gradient(loss, z))
    return float(tf.sigmoid(z)[0, 0])


def test_skipped_items_are_corrected_for_their_position() -> None:
    # wanted with .6; the second position is looked at half of the time: of 1,000 each, 600 and 300 clicks
    y = np.concatenate([np.arange(1000) < 600, np.arange(1000) < 300]).astype(np.float32)
    assert_allclose(fitted(y, np.repeat([1.0, 0.5], 1000)), 0.6, atol=1e-3)
    assert_allclose(fitted(y, np.ones(2000)), 0.45, atol=1e-3)  # uncorrected


def test_late_outcomes_are_corrected_for() -> None:
    """Simulated: 30% convert, a mean of 2 hours after; labels have waited from 0 to 3 hours."""
    rng = np.random.default_rng(0)
    elapsed = rng.uniform(0, 3 * 3600, 20_000)
    seen = (rng.random(20_000) < 0.3) & (rng.exponential(7200, 20_000) < elapsed)
    chance = delay_chance(const(elapsed), const(7200)).numpy()
    assert_allclose(fitted(seen.astype(np.float32), chance), 0.3, atol=0.015)
    assert fitted(seen.astype(np.float32), np.ones(20_000)) < 0.17


def test_delay_chance_by_hand() -> None:
    assert_allclose(delay_chance(const([0.0, 3600 * np.log(2)]), const(3600)), [0, 0.5], atol=1e-6)


def test_the_mean_delay_counts_on_what_came_too_late() -> None:
    delays = np.random.default_rng(1).exponential(7200, 50_000)
    within = delays[delays < 6 * 3600]
    assert within.mean() < 6200
    assert_allclose(mean_delay(within, waited=6 * 3600), 7200, rtol=0.02)
    assert mean_delay(np.array([50.0, 60.0]), waited=100.0) == 1000  # as if all delays were as likely
    assert mean_delay(np.zeros(0), waited=100.0) == 0


def test_entire_space_by_hand() -> None:
    # click .5, conversion after it .2: both .1; shown to three: nothing, a click, a click and a conversion
    z, w = const([[0.0] * 3]), const([[logit(0.2)] * 3])
    ones = tf.ones([1, 3])
    loss = entire_space(z, w, const([[0, 1, 1]]), const([[0, 0, 1]]), ones, ones, ones > 0)
    assert_allclose(loss, -(3 * np.log(0.5) + 2 * np.log(0.9) + np.log(0.1)), rtol=1e-5)
    # conversions that had half a chance to come in
    loss = entire_space(z, w, const([[0, 1, 1]]), const([[0, 0, 1]]), ones, 0.5 * ones, ones > 0)
    assert_allclose(loss, -(3 * np.log(0.5) + 2 * np.log(0.95) + np.log(0.05)), rtol=1e-5)

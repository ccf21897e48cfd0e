"""The policy's probabilities and the two losses, on values worked by hand; their gradients against differences."""
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tfrec.training.slates import policy_gradient
from tfrec.training.slates.mask import slate_length
from tfrec.training.slates.policy_gradient import NEVER, clipped_surrogate, policy, reinforce, top_k_correction

LN = np.log


def const(rows: object) -> tf.Tensor:
    return tf.constant(rows, tf.float32)


def all_of(array: tf.Tensor) -> tf.Tensor:
    return tf.ones(array.shape, tf.bool)


def plackett_luce(own: tf.Tensor, rest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return policy_gradient.plackett_luce(own, rest, all_of(own), all_of(own))


def with_chance(log_pi: tf.Tensor, epsilon: float, own: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
    return policy_gradient.with_chance(log_pi, all_of(log_pi), epsilon, own, total)


def test_plackett_luce_by_hand() -> None:
    # exponentials 2, 1 were shown, the others sum to 3: 2/6, then 1/4 of what is left; 1/6 as a first choice
    log_pi, log_first = plackett_luce(const([[LN(2), LN(1)]]), const([LN(3)]))
    assert_allclose(np.exp(log_pi), [[2 / 6, 1 / 4]], rtol=1e-6)
    assert_allclose(np.exp(log_first), [[2 / 6, 1 / 6]], rtol=1e-6)


def test_a_shorter_slate_changes_nothing_before_its_end() -> None:
    log_pi, log_first = policy_gradient.plackett_luce(
        const([[LN(2), np.nan]]), const([LN(3)]), tf.constant([[True, False]]), tf.constant([[True, True]]))
    assert_allclose(log_pi, [[LN(2 / 5), 0]], rtol=1e-6)
    assert_allclose(log_first, [[LN(2 / 5), 0]], rtol=1e-6)


def test_the_policy_with_a_shortlist_by_hand() -> None:
    """Listed: a and b, exponentials 2 and 1; shown: a, c (that chance brought; exponential 4), b; 10 may come; epsilon .1."""
    same = tf.constant([[[True, False], [False, False], [False, True]]])
    found = policy(const([[LN(2), LN(4), LN(1)]]), const([[LN(2), LN(1)]]), same, tf.ones([1, 3], tf.bool), epsilon=0.1,
                   mass=(tf.ones([1, 3]), const([10])))
    assert_allclose(np.exp(found.log_pi), [[0.9 * 2 / 3 + 0.1 / 10, 0.1 / 9, 0.9 * 1 + 0.1 / 8]], rtol=1e-5)
    assert_allclose(np.exp(found.log_listed), [[0.9 * 2 / 3 + 0.1 / 10, 0.9 * 4 / 5 + 0.1 / 9, 0.9 * 1 + 0.1 / 8]], rtol=1e-5)
    assert_allclose(np.exp(found.log_first), [[2 / 3, 4 / 7, 1 / 3]], rtol=1e-5)


def test_nothing_left_to_chance_and_no_chance_at_all_stay_finite() -> None:
    logits, mask = tf.Variable([[-400.0, 300.0]]), tf.constant([[True, True]])
    for epsilon in (0.0, 1.0):
        with tf.GradientTape() as tape:
            found = policy(logits, const([[600.0]]), tf.zeros([1, 2, 1], tf.bool), mask, epsilon=epsilon,
                           mass=(const([[0, 1]]), const([1])))
            loss = tf.reduce_sum(found.log_pi + found.log_listed + found.log_first)
        assert np.isfinite(loss)
        assert np.isfinite(tape.gradient(loss, logits)).all()


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=5), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_the_positions_of_all_orders_add_up_to_one(logits: list[float], seed: int) -> None:
    # the first position over all items, the second over those left, whichever came first
    n = len(logits)
    order = np.random.default_rng(seed).permutation(n)
    first, second = [], []
    for i in range(n):
        others = [logits[j] for j in range(n) if j != i]
        first.append(plackett_luce(const([[logits[i]]]), const([np.logaddexp.reduce(others)]))[0][0, 0])
    for j in order[1:]:
        rest = [logits[k] for k in range(n) if k not in (order[0], j)]
        log_rest = np.logaddexp.reduce(rest) if rest else NEVER
        second.append(plackett_luce(const([[logits[order[0]], logits[j]]]), const([log_rest]))[0][0, 1])
    assert_allclose([np.exp(first).sum(), np.exp(second).sum()], [1, 1], rtol=1e-4)


def test_with_chance_by_hand() -> None:
    # .9 * .5 + .1 * 1 / 4, then .9 * .25 + .1 * 1 / 3
    log_pi = with_chance(const([[LN(0.5), LN(0.25)]]), 0.1, const([[1, 1]]), const([4]))
    assert_allclose(np.exp(log_pi), [[0.475, 0.225 + 1 / 30]], rtol=1e-6)
    # masses 3 and 1 of 8: .9 * .5 + .1 * 3 / 8, then .9 * .25 + .1 * 1 / 5
    log_pi = with_chance(const([[LN(0.5), LN(0.25)]]), 0.1, const([[3, 1]]), const([8]))
    assert_allclose(np.exp(log_pi), [[0.4875, 0.245]], rtol=1e-6)


def test_top_k_correction_by_hand() -> None:
    assert_allclose(top_k_correction(const([LN(0.5), LN(0.1)]), 1.0), [1, 1])
    assert_allclose(top_k_correction(const([LN(0.5), LN(0.1)]), 3.0), [3 * 0.25, 3 * 0.81], rtol=1e-6)


def test_the_top_k_correction_takes_each_slates_own_length() -> None:
    """A slate of one beside a slate of three: p = .1 counts 1 and 3 * .81."""
    mask = tf.constant([[True, False, False], [True, True, True]])
    p, one = const(np.full((2, 3), LN(0.1))), tf.ones([2, 3])
    alone = p[:1]
    loss = [reinforce(alone, alone, alone, one[:1], its, k=slate_length(its), cap=9.0) for its in (mask[:1], mask[1:])]
    assert_allclose(loss, [-LN(0.1), -3 * 2.43 * LN(0.1)], rtol=1e-5)
    assert_allclose(reinforce(p, p, p, one, mask, k=slate_length(mask), cap=9.0), sum(loss), rtol=1e-6)


def test_reinforce_by_hand() -> None:
    # weights .2 / .4 = .5, and .9 / .1 capped at 4; correction 2 (1 - pi): 1.6 and 1; rewards 1 and 2
    loss = reinforce(const([[LN(0.2), LN(0.5)]]), const([[LN(0.2), LN(0.9)]]), const([[LN(0.4), LN(0.1)]]), const([[1, 2]]),
                     tf.ones([1, 2], tf.bool), k=2.0, cap=4.0)
    assert_allclose(loss, -(0.5 * 1.6 * 1 * LN(0.2) + 4 * 1 * 2 * LN(0.5)), rtol=1e-6)


def test_the_gradient_of_reinforce_is_that_of_the_value() -> None:
    """With every action logged in proportion to its propensity the gradient is that of sum_i pi_i reward_i; K = 1, no cap."""
    logits, reward = const([0.3, -1.0, 0.8]), const([1.0, 4.0, 2.0])
    propensity = const([0.5, 0.25, 0.25])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_pi = tf.nn.log_softmax(logits)[:, None]
        loss = tf.zeros([])
        for i in range(3):
            one = log_pi[i : i + 1]
            loss += propensity[i] * reinforce(one, one, tf.math.log(propensity[i : i + 1, None]), reward[i : i + 1, None],
                                              all_of(one), k=1.0, cap=1e6)
    with tf.GradientTape() as value_tape:
        value_tape.watch(logits)
        value = tf.reduce_sum(tf.nn.softmax(logits) * reward)
    assert_allclose(-tape.gradient(loss, logits), value_tape.gradient(value, logits), rtol=1e-5)


@pytest.mark.parametrize(("ratio", "advantage", "expected", "moves"), [
    (1.1, 1.0, -1.1, True),
    (1.5, 1.0, -1.2, False),  # gained enough
    (0.5, 1.0, -0.5, True),  # a good action has become rarer: that is mended
    (0.5, -1.0, 0.8, False),
    (1.5, -1.0, 1.5, True),
])
def test_clipped_surrogate_by_hand(ratio: float, advantage: float, expected: float, moves: bool) -> None:
    log_pi = tf.Variable([[LN(0.2 * ratio)]], dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss = clipped_surrogate(log_pi, const([[LN(0.2)]]), const([[advantage]]), all_of(log_pi), clip=0.2)
    assert_allclose(loss, expected, rtol=1e-5)
    assert_allclose(tape.gradient(loss, log_pi), [[-ratio * advantage if moves else 0]], rtol=1e-5)


def test_slates_by_the_top_k_correction_hold_the_second_best_as_well() -> None:
    """The simulation of Chen et al. 2019, section 5: ten items of which two are far better, slates of two, uniform logging.

    Trained to the end, K = 1 puts all its probability on the best item, and what stands beside that is as good as chance;
    with the correction for 2 both good ones are kept likely.
    """
    reward = np.array([10.0, 9.0] + [1.0] * 8)
    logged = const(np.full((10, 1), np.log(0.1)))

    def trained(k: float) -> np.ndarray:
        logits = tf.Variable(np.zeros(10, np.float32))
        optimizer = tf.keras.optimizers.Adam(0.1)
        for _ in range(400):  # each item logged equally often: the exact gradient
            with tf.GradientTape() as tape:
                log_first = tf.nn.log_softmax(logits)[:, None]
                loss = reinforce(log_first, log_first, logged, const(reward[:, None]), all_of(log_first), k=k, cap=1e6)
            optimizer.apply_gradients([(tape.gradient(loss, logits), logits)])
        return tf.nn.softmax(logits).numpy().astype(np.float64)

    def earned(pi: np.ndarray) -> float:
        """Expected reward of two draws without replacement, the second uniform once the first has taken everything."""
        pi = 0.99 * pi + 0.01 / 10
        return float(sum(p * (r + np.delete(pi, i) @ np.delete(reward, i) / np.delete(pi, i).sum())
                         for i, (p, r) in enumerate(zip(pi, reward, strict=True))))

    one, two = trained(1.0), trained(2.0)
    assert one[0] > 0.99
    assert two[1] > 0.3
    assert earned(two) > earned(one) + 3

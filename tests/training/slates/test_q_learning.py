"""Targets and losses of value learning, by hand."""
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from tfrec.training.slates.q_learning import bootstrapped, double_q_value, first_shown, squared_error


def test_the_target_network_values_what_the_online_one_prefers() -> None:
    online, target = tf.constant([[1.0, 3.0, 2.0], [5.0, 0.0, 0.0]]), tf.constant([[9.0, 4.0, 7.0], [1.0, 8.0, 8.0]])
    assert_allclose(double_q_value(online, target, tf.ones([2, 3], tf.bool)), [4, 1])  # and not 9 and 8
    some = tf.constant([[True, False, True], [False, False, False]])
    assert_allclose(double_q_value(online, target, some), [7, 0])  # of what could come, and of nothing
    with pytest.raises(ValueError, match=r"target: expected the mask's shape \(2, 3\), \[batch, K\], got \(2, 2\)"):
        double_q_value(online, target[:, 1:], some)


def test_what_follows_is_the_first_item_that_was_shown() -> None:
    value = tf.constant([[np.nan, 2.0, 3.0], [np.nan] * 3])
    assert_allclose(first_shown(value, tf.constant([[False, True, True], [False] * 3])), [2, 0])


def test_bootstrapped_by_hand() -> None:
    reward = tf.constant([[1.0, 0.0], [0.0, 2.0]])
    goal = bootstrapped(reward, tf.constant([10.0, np.nan]), tf.constant([True, False]), discount=0.5)
    assert_allclose(goal, [[6, 5], [0, 2]])


def test_squared_error_moves_the_value_and_not_the_goal() -> None:
    value, goal = tf.Variable([[1.0, 2.0]]), tf.Variable([[3.0, 9.0]])
    with tf.GradientTape(persistent=True) as tape:
        loss = squared_error(value, goal, tf.constant([[True, False]]))
    assert_allclose(loss, 2)
    assert_allclose(tape.gradient(loss, value), [[-2, 0]])
    assert tape.gradient(loss, goal) is None


def test_the_values_of_a_chain_are_found() -> None:
    """Two states in turn, reward 1 in the first only, discount .5: V = 1 + .5 V', V' = .5 V, so 4/3 and 2/3."""
    value, older = tf.Variable([[0.0], [0.0]]), tf.Variable([[0.0], [0.0]])
    for _ in range(60):
        with tf.GradientTape() as tape:
            goal = bootstrapped(tf.constant([[1.0], [0.0]]), older[::-1, 0], tf.ones([2], tf.bool), discount=0.5)
            loss = squared_error(value, goal, tf.ones([2, 1], tf.bool))
        value.assign_sub(tape.gradient(loss, value))
        older.assign(value)
    assert_allclose(value[:, 0], [4 / 3, 2 / 3], rtol=1e-5)

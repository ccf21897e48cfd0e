"""Negatives that are drawn, what they stand for, and which are hidden."""
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tfrec.models.query_tower import HIDDEN
from tfrec.models.sampled_softmax import (
    Negatives,
    correct_for_sampling,
    draw_negatives,
    hide_own,
    proposal,
    whole_catalogue,
)

POPULARITY = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))
Q = np.array([*proposal(POPULARITY), 0, 0], np.float32)  # two rows beyond the catalogue


def draw(step: int, count: int) -> Negatives:
    return draw_negatives(tf.constant(Q), tf.constant(np.cumsum(Q)), tf.constant([0, step]), count=count, n_items=4)


def test_half_of_the_draws_go_by_popularity_and_half_are_uniform():
    assert_allclose(proposal(POPULARITY), [0.375, 0.25, 0.2, 0.175], rtol=1e-6)
    assert_allclose(proposal(POPULARITY + 3), proposal(POPULARITY), rtol=1e-6)  # unnormalised


def test_a_drawn_item_stands_for_as_many_as_it_must():
    """E sum_n [n is i] / (N q_i) = 1 for every item i: the corrected sum over negatives is unbiased."""
    steps, each, found = 30, 600, np.zeros(6)
    for step in range(steps):
        negatives = draw(step, each)
        np.add.at(found, negatives.item.numpy(), np.exp(-negatives.log_q.numpy()))
    q = Q[:4]
    deviation = np.sqrt((1 - q) / (q * each * steps))
    assert (np.abs(found[:4] / steps - 1) < 5 * deviation).all()
    assert_array_equal(found[4:], 0)


def test_the_same_seed_draws_the_same_items():
    assert_array_equal(draw(1, 50).item, draw(1, 50).item)
    assert (draw(1, 50).item.numpy() != draw(2, 50).item.numpy()).any()


def test_the_whole_catalogue_needs_no_correction():
    negatives = whole_catalogue(6)
    assert_array_equal(negatives.item, np.arange(6))
    assert_array_equal(correct_for_sampling(tf.ones([2, 6]), negatives.log_q), np.ones((2, 6)))


def test_a_correction_by_hand():
    # drawn twice on average, and half the time: ln 2 less, and ln 2 more
    corrected = correct_for_sampling(tf.constant([[1.0, 1.0]]), tf.math.log(tf.constant([2.0, 0.5])))
    assert_allclose(corrected, [[1 - np.log(2), 1 + np.log(2)]], rtol=1e-6)


@pytest.mark.parametrize("log_q", [tf.zeros([3]), tf.zeros([1]), tf.zeros([])])
def test_a_correction_of_other_items_is_refused(log_q):
    with pytest.raises(ValueError, match=r"expected logits \[\.\.\., N\] and log_q \[N\], got \(1, 2\) and"):
        correct_for_sampling(tf.zeros([1, 2]), log_q)


def test_own_items_are_hidden_whether_drawn_or_from_the_whole_catalogue():
    own = tf.constant([[2, -1, 2], [0, 3, -1], [-1, -1, -1]])
    expected = np.array([[0, 0, HIDDEN, 0], [HIDDEN, 0, 0, HIDDEN], [0, 0, 0, 0]])
    found = hide_own(own, whole_catalogue(4)).numpy()
    assert_array_equal(found < HIDDEN / 2, expected < 0)  # an item that is named twice is hidden twice as deep
    assert_array_equal(found[expected == 0], 0)
    item = tf.constant([3, 1, 2, 2])
    assert_array_equal(hide_own(own, Negatives(item, tf.zeros([4]), is_catalogue=False)), expected[:, item])

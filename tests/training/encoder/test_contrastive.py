"""The in-batch loss by hand, with and without other right answers in the batch."""
import numpy as np
import pytest
import tensorflow as tf

from tfrec.training.encoder.contrastive import contrastive_loss, right_answers

QUERIES = tf.constant([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
ITEMS = tf.constant([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
COSINES = np.array([[1, 0, 0], [0, 1, 1], [0.6, 0.8, 0.8]])


def softmax_loss(cosines: np.ndarray, temperature: float) -> np.ndarray:
    e = np.exp(cosines / temperature)
    return (-np.log(np.diag(e) / e.sum(1)) - np.log(np.diag(e) / e.sum(0))) / 2


def test_items_for_a_query_and_queries_for_an_item():
    found = contrastive_loss(QUERIES, ITEMS, tf.eye(3, dtype=tf.bool), temperature=0.5)
    np.testing.assert_allclose(found, softmax_loss(COSINES, 0.5), rtol=1e-5)
    # the first row: 2 - log(e^2 + 1 + 1) for items, 2 - log(e^2 + 1 + e^1.2) for queries
    assert float(found[0]) == pytest.approx(np.log((np.e**2 + 2) * (np.e**2 + 1 + np.e**1.2)) / 2 - 2, rel=1e-5)


def test_another_right_answer_is_no_negative():
    right = right_answers(tf.constant([[0, -1], [7, 8], [8, -1]]), tf.constant([0, 7, 8]))
    assert right.numpy().tolist() == [[True, False, False], [False, True, True], [False, False, True]]
    found = contrastive_loss(QUERIES, ITEMS, right, temperature=1.0)
    hidden = COSINES.astype(float)
    hidden[1, 2] = -np.inf  # item 8 for the query whose answers are 7 and 8
    np.testing.assert_allclose(found, softmax_loss(hidden, 1.0), rtol=1e-5)


def test_the_same_item_twice_is_right_in_both_places():
    right = right_answers(tf.constant([[4], [4]]), tf.constant([4, 4]))
    assert right.numpy().all()
    found = contrastive_loss(QUERIES[:2], ITEMS[:2], right, temperature=1.0)
    np.testing.assert_allclose(found, [0, 0], atol=1e-6)

"""Item arrays: their capacity, what stands beyond the catalogue, and which variables hold them."""
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tfrec.models.item_store import CAPACITY_STEP, ItemStore, capacity_for
from tfrec.models.query_tower import HIDDEN


def store_of(n: int) -> ItemStore:
    store = ItemStore()
    store.set_catalogue(np.ones((n, 3), np.float32), np.ones((n, 2), np.float32), np.ones(n, np.int32))
    return store


def test_a_growing_catalogue_rarely_changes_a_shape():
    assert [capacity_for(n) for n in (1, CAPACITY_STEP - 1, CAPACITY_STEP)] == [CAPACITY_STEP, CAPACITY_STEP, 2 * CAPACITY_STEP]


def test_rows_beyond_the_catalogue_are_empty_and_never_drawn():
    store = store_of(4)
    store.set_prior(np.log(np.full((2, 4), 0.25, np.float32)), np.array([0, 1, 2, 0]))
    assert (store.n_items, store.rows) == (4, CAPACITY_STEP)
    for array in (store.text, store.features, store.slot, store.q):
        assert array.shape[0] == CAPACITY_STEP
        assert not array.numpy()[4:].any()
    assert_allclose(store.q[:4], [0.25] * 4, rtol=1e-6)
    assert_allclose(store.q_below[3:], [1.0] * (CAPACITY_STEP - 3), rtol=1e-6)
    assert_array_equal(store.log_p.numpy()[:, 4:], HIDDEN)


def test_an_item_is_hidden_in_the_snapshots_before_its_first_event():
    store = store_of(4)
    store.set_prior(np.full((2, 4), -1, np.float32), np.array([0, 1, 2, 0]))
    assert_array_equal(store.log_p[:, :4], [[-1, HIDDEN, HIDDEN, -1], [-1, -1, HIDDEN, -1]])


def test_a_traced_step_reads_a_catalogue_that_has_grown_within_its_capacity():
    store = store_of(2)
    total = tf.function(lambda: tf.reduce_sum(store.text) + tf.cast(tf.reduce_sum(store.slot), tf.float32))
    assert float(total()) == pytest.approx(2 * 3 + 2)
    store.set_catalogue(np.ones((5, 3), np.float32), np.ones((5, 2), np.float32), np.ones(5, np.int32))
    assert float(total()) == pytest.approx(5 * 3 + 5)
    assert total.experimental_get_tracing_count() == 1

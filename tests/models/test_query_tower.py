"""The query tower sees backwards only; gaps fall into the buckets that the docstring says."""
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tfrec.models.dropout import Noise
from tfrec.models.query_tower import GAP_BUCKETS, QueryTower, gap_bucket

LENGTH, DIM = 5, 8


def test_gap_buckets_by_hand():
    assert gap_bucket(tf.constant([-1, 0, 1, 2, 3, 6, 7, 86_400], tf.int64)).numpy().tolist() == [0, 1, 2, 2, 3, 3, 4, 17]
    assert gap_bucket(tf.constant([2**31, 2**40], tf.int64)).numpy().tolist() == [GAP_BUCKETS - 1] * 2


@pytest.mark.parametrize("compiled", [False, True])
def test_a_gap_bucket_begins_at_a_power_of_two(compiled):
    k = np.arange(31)
    edges = tf.constant(2**k - 1, tf.int64)
    buckets = tf.function(gap_bucket, jit_compile=compiled)
    assert buckets(edges).numpy().tolist() == (1 + k).tolist()
    # from 2**21 on a float32 logarithm is not exact to a second; an hour before the edge it is
    early = np.where(k < 20, 1, 3600)
    assert buckets(edges - early)[1:].numpy().tolist() == k[1:].tolist()


@pytest.fixture(scope="module")
def tower() -> QueryTower:
    tf.keras.utils.set_random_seed(0)
    made = QueryTower(dim=DIM, layers=2, heads=2, length=LENGTH, actions=3, rate=0.5)
    made(tf.zeros([1, 1, DIM]), tf.zeros([1, 1], tf.int32), tf.zeros([1, 1], tf.int64))
    return made


def history(*, rows: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return (rng.normal(size=(rows, LENGTH, DIM)).astype(np.float32), rng.integers(0, 3, (rows, LENGTH)).astype(np.int32),
            rng.integers(0, 10_000, (rows, LENGTH)))


def test_unit_vectors_one_a_position(tower):
    out = tower(*history()).numpy()
    assert out.shape == (2, LENGTH, DIM)
    assert_allclose(np.linalg.norm(out, axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("part", ["item", "action", "gap"])
@pytest.mark.parametrize("position", range(LENGTH))
def test_a_later_event_changes_no_earlier_query(tower, part, position):
    items, action, gap = history()
    before = tower(items, action, gap).numpy()
    items, action, gap = items.copy(), action.copy(), gap.copy()
    if part == "item":
        items[:, position] += np.arange(DIM)
    elif part == "action":
        action[:, position] = (action[:, position] + 1) % 3
    else:
        gap[:, position] = -1
    after = tower(items, action, gap).numpy()
    assert_allclose(after[:, :position], before[:, :position], atol=1e-6)
    assert (np.abs(after[:, position:] - before[:, position:]).max(-1) > 1e-4).all()


def test_a_shorter_history_gives_the_queries_of_its_beginning(tower):
    items, action, gap = history()
    assert_allclose(tower(items[:, :3], action[:, :3], gap[:, :3]), tower(items, action, gap)[:, :3], atol=1e-6)


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_one_position_alone_gives_the_query_that_all_positions_give(layers):
    made = QueryTower(dim=DIM, layers=layers, heads=2, length=LENGTH, actions=3, rate=0.5)
    given = history(rows=4)
    at = np.array([4, 0, 2, 2], np.int32)
    whole = made(*given).numpy()
    newest = made(*given, at=tf.constant(at))
    assert newest.shape == (4, 1, DIM)
    assert_allclose(newest[:, 0], whole[np.arange(4), at], atol=1e-5)


def test_an_action_beyond_the_codes_is_read_as_the_last(tower):
    items, action, gap = history()
    assert_array_equal(tower(items, np.full_like(action, 2), gap), tower(items, np.full_like(action, 99), gap))


def test_noise_changes_queries_only_in_training(tower):
    plain = tower(*history()).numpy()
    assert_array_equal(tower(*history()), plain)
    noisy = tower(*history(), noise=Noise(tf.constant([0, 1]))).numpy()
    assert np.abs(noisy - plain).max() > 0.01
    assert_array_equal(tower(*history(), noise=Noise(tf.constant([0, 1]))), noisy)

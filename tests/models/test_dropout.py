"""Noise is a function of its seed, and each use draws anew."""
import numpy as np
import tensorflow as tf
from numpy.testing import assert_array_equal

from tfrec.models.dropout import Noise, dropout


def test_equal_seeds_give_equal_noise_and_uses_differ():
    one, same, other = Noise(tf.constant([1, 2])), Noise(tf.constant([1, 2])), Noise(tf.constant([1, 3]))
    x = tf.ones([100])
    first = one.dropout(x, 0.5).numpy()
    assert_array_equal(first, same.dropout(x, 0.5))
    assert not np.array_equal(first, one.dropout(x, 0.5))
    assert not np.array_equal(first, other.dropout(x, 0.5))


def test_dropout_keeps_the_mean_and_is_off_when_serving():
    x = tf.ones([10_000])
    thinned = dropout(x, 0.25, Noise(tf.constant([0, 0]))).numpy()
    assert set(np.unique(thinned)) == {0.0, np.float32(1 / 0.75)}
    assert abs(thinned.mean() - 1) < 0.03
    assert dropout(x, 0.25, None) is x
    assert dropout(x, 0.0, Noise(tf.constant([0, 0]))) is x


def test_keep_rows_hides_the_share_it_is_told():
    kept = Noise(tf.constant([4, 4])).keep_rows(10_000, 0.1).numpy()
    assert kept.shape == (10_000, 1)
    assert set(np.unique(kept)) == {0.0, 1.0}
    assert abs(kept.mean() - 0.9) < 0.02
    assert Noise(tf.constant([4, 4])).keep_rows(50, 0.0).numpy().all()

"""Batches that a Python function makes, as a dataset."""
import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from tfrec.training.dataset_from_function import dataset_from_function

SIGNATURE = {"x": tf.TensorSpec([None, 2], tf.float32), "n": tf.TensorSpec([1], tf.int64)}


def batch(step: int) -> dict[str, np.ndarray]:
    return {"n": np.array([step]), "x": np.full((step, 2), step, np.float32), "not asked for": np.zeros(9)}


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_each_batch_comes_once_in_order_and_again_the_next_time(steps):
    data = dataset_from_function(batch, SIGNATURE, steps=steps)
    assert len(data) == steps
    for _ in range(2):
        got = list(data.as_numpy_iterator())
        assert [int(b["n"][0]) for b in got] == list(range(steps))
        assert [b["x"].shape for b in got] == [(n, 2) for n in range(steps)]
        assert all((b["x"] == n).all() for n, b in enumerate(got))


def test_an_array_of_another_shape_is_an_error_where_it_is_made():
    data = dataset_from_function(lambda step: {"x": np.zeros((1, 3), np.float32), "n": np.array([0])}, SIGNATURE, steps=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[1,3\]"):
        list(data)


def test_what_makes_the_batches_goes_with_the_dataset():
    """It holds all that is trained on, and a process that retrains every few seconds makes many."""
    def make(n):
        def made(step):
            return {"x": np.full((1, 2), n, np.float32), "n": np.array([step])}
        return dataset_from_function(made, SIGNATURE, steps=2), weakref.ref(made)

    sets = [make(n) for n in range(3)]
    for n, (data, _) in enumerate(sets):
        assert [float(b["x"][0, 0]) for b in data.as_numpy_iterator()] == [n, n]
    left = [source for _, source in sets]
    assert all(source() is not None for source in left)
    del data, sets
    gc.collect()
    assert [source() for source in left] == [None] * 3

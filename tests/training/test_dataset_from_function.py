"""Batches that a Python function makes, as a dataset."""
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

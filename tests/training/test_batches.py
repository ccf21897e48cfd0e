"""Batches of Python as a dataset, and the memory of the process that reads them."""
import resource
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfrec.training.batches import dataset
from tfrec.training.devices import choose_strategy

SIGNATURE = {"x": tf.TensorSpec([None, 2], tf.float32), "n": tf.TensorSpec([1], tf.int64)}


def batch(step: int) -> dict[str, np.ndarray]:
    return {"n": np.array([step]), "x": np.full((step, 2), step, np.float32), "not asked for": np.zeros(9)}


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_each_batch_comes_once_in_order_and_again_the_next_time(steps):
    data = dataset(batch, SIGNATURE, steps=steps)
    assert len(data) == steps
    for _ in range(2):
        got = list(data.as_numpy_iterator())
        assert [int(b["n"][0]) for b in got] == list(range(steps))
        assert [b["x"].shape for b in got] == [(n, 2) for n in range(steps)]
        assert all((b["x"] == n).all() for n, b in enumerate(got))


def test_an_array_of_another_shape_is_an_error_where_it_is_made():
    data = dataset(lambda step: {"x": np.zeros((1, 3), np.float32), "n": np.array([0])}, SIGNATURE, steps=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[1,3\]"):
        list(data)


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_memory_that_is_freed_on_a_cpu_stays_for_the_next_step():
    choose_strategy("cpu")
    list(dataset(batch, SIGNATURE, steps=3))  # reading changes nothing of that
    faults = []
    for _ in range(20):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        tensor = tf.ones(10 << 20, tf.float32)  # 40 MB, 10,240 pages
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        del tensor
    assert np.median(faults) < 1000, faults  # the first of each of TensorFlow's threads is new memory

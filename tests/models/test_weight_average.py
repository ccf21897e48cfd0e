"""The moving average: by hand, exchanged with the weights, and where residuals are cleared."""
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tests.eagerly import eagerly
from tests.models import world
from tfrec.models.weight_average import DECAY, WeightAverage

N = 40
INTER = world.interactions(world.catalogue(N))


def test_an_average_by_hand():
    weight = tf.Variable([1.0, 2.0])
    average = WeightAverage([weight])
    weight.assign([12.0, 2.0])
    average.update()  # the first of the fast steps keeps 1 / 11
    assert_allclose(average.values[0], [1 / 11 + 12 * 10 / 11, 2], rtol=1e-6)
    average.count.assign(10**6)
    before = average.of(weight).numpy()
    average.update()
    assert_allclose(average.of(weight), DECAY * before + (1 - DECAY) * weight.numpy(), rtol=1e-6)
    average.restart()
    assert_array_equal(average.values[0], weight)
    assert int(average.count) == 0


@eagerly()
def test_the_average_follows_a_training_and_can_be_exchanged():
    made = world.recommender(world.config(Path("unused"), training={"negatives": 64}), n=N)
    made.give_slots(INTER.item, np.arange(N))
    model = made.model
    model.average.restart()
    batch = tf.data.Dataset.from_tensors({k: tf.constant(v) for k, v in world.batch(made, INTER).items()})
    first = model.log_scale.numpy()
    model.compile(optimizer=tf.keras.optimizers.SGD(0.5), jit_compile=False)
    model.fit(batch, verbose=0)
    second = model.log_scale.numpy()
    assert second != first
    assert model.average.of(model.log_scale).numpy() == pytest.approx(first / 11 + second * 10 / 11, rel=1e-6)
    before = [w.numpy() for w in model.average.weights]
    model.average.swap()
    assert model.log_scale.numpy() == pytest.approx(first / 11 + second * 10 / 11, rel=1e-6)
    model.average.swap()
    for weight, kept in zip(model.average.weights, before, strict=True):
        assert_array_equal(weight, kept)
    assert (int(model.steps), int(model.average.count)) == (1, 1)


def test_cleared_residuals_are_zero_in_the_average_too():
    made = world.recommender(world.config(Path("unused")), n=N)
    made.model.average.restart()
    made.model.clear_residuals(np.array([2, 5]))
    for _ in range(2):
        table = made.model.items.residual.numpy()
        assert_array_equal(table[[2, 5]], 0)
        assert (table[[1, 3, 4]] != 0).all()
        made.model.average.swap()

"""L2-SP: the towers are pulled back to where they were, and nothing else is."""
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from tests.eagerly import eagerly
from tests.models import world
from tfrec.models.recommender import Recommender

N = 40
INTER = world.interactions(world.catalogue(N))


def build(**model: Any) -> Recommender:
    made = world.recommender(world.config(Path("unused"), training={"negatives": 64}, **model), n=N)
    made.give_slots(INTER.item, np.arange(N))
    return made


def test_an_anchor_pulls_the_towers_back_and_nothing_else():
    made = build()
    model, batch = made.model, {k: tf.constant(v) for k, v in world.batch(made, INTER).items()}
    model.anchor.hold(0.5)
    towers = model.anchor.weights
    start = [w.numpy() for w in towers]
    assert float(model.anchor.penalty()) == 0.0
    rng = np.random.default_rng(1)
    for weight in towers:
        weight.assign_add(rng.normal(0, 0.1, weight.shape).astype(np.float32))
    moved = [w.numpy() - w0 for w, w0 in zip(towers, start, strict=True)]
    assert float(model.anchor.penalty()) == pytest.approx(0.25 * sum(float((d**2).sum()) for d in moved), rel=1e-4)

    def gradients(strength: float) -> tuple[float, list[np.ndarray]]:
        model.anchor.strength = strength
        with tf.GradientTape() as tape:
            found = model.compute_loss(batch, training=True)
        slopes = tape.gradient(found, [*towers, model.log_scale])
        return float(found), [tf.convert_to_tensor(slope).numpy() for slope in slopes]

    free, free_slopes = gradients(0.0)
    model.mean_query.assign(np.zeros(8, np.float32))
    held, held_slopes = gradients(0.5)
    assert held - free == pytest.approx(0.25 * sum(float((d**2).sum()) for d in moved), rel=1e-3)
    for with_it, without, d in zip(held_slopes, free_slopes, [*moved, 0.0], strict=True):
        assert_allclose(with_it - without, 0.5 * np.asarray(d), atol=2e-4)
    judged = float(model.compute_loss(batch))  # the penalty is no part of what is judged
    model.anchor.hold(0.0)
    assert float(model.compute_loss(batch)) == judged
    assert float(model.anchor.penalty()) == 0.0


def test_an_anchored_model_stays_nearer():
    @eagerly()
    def drift(strength: float) -> float:
        made = build(layers=0)
        data = tf.data.Dataset.from_tensors({k: tf.constant(v) for k, v in world.batch(made, INTER).items()}).repeat(5)
        model = made.model
        model.anchor.hold(strength)
        start = [w.numpy() for w in model.anchor.weights]
        model.compile(optimizer=tf.keras.optimizers.SGD(0.05), jit_compile=False)
        model.fit(data, verbose=0)
        return sum(float(((w.numpy() - first) ** 2).sum()) for w, first in zip(model.anchor.weights, start, strict=True))

    assert drift(5.0) < 0.7 * drift(0.0)


def test_the_penalty_can_be_compiled():
    model = build().model
    model.anchor.hold(0.5)
    model.items.residual.assign_add(tf.ones_like(model.items.residual))

    @tf.function(jit_compile=True)
    def pull() -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            found = model.anchor.penalty()
        return found, tape.gradient(found, model.items.residual)

    distance, slope = pull()
    assert float(distance) == pytest.approx(0.25 * model.items.residual.shape.num_elements(), rel=1e-5)
    assert_allclose(slope, np.full(model.items.residual.shape, 0.5), rtol=1e-4)

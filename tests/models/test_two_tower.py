"""The loss against a brute-force one in numpy; centring; compiled steps."""
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tests.eagerly import eagerly
from tests.models import world
from tfrec.models import two_tower
from tfrec.models.recommender import Recommender
from tfrec.models.sampled_softmax import Negatives
from tfrec.models.two_tower import MEAN_MOMENTUM, SEARCH_BETA, SEARCH_WEIGHT

N = 40
INTER = world.interactions(world.catalogue(N))
RUN = Path("unused")
Batch = dict[str, np.ndarray]


def build(**model: float) -> Recommender:
    made = world.recommender(world.config(RUN, training={"negatives": 64}, **model), n=N)
    made.give_slots(INTER.item, np.arange(N))
    return made


@pytest.fixture
def made() -> Recommender:
    return build()


def loss(made: Recommender, batch: Batch) -> float:
    return float(made.model.compute_loss({k: tf.constant(v) for k, v in batch.items()}))


def one_target_each() -> np.ndarray:
    """The last event of every user: each window has one target, so the target that stands for a query is known."""
    chosen = np.zeros(len(INTER), bool)
    chosen[[np.flatnonzero(INTER.user == u)[-1] for u in range(len(INTER.users))]] = True
    return chosen


def brute_force(made: Recommender, batch: Batch) -> float:
    """The formulas of the docstrings, one target and one item at a time."""
    model, v = made.model, made.item_vectors()
    text = made.text
    log_p = model.store.log_p.numpy()
    hidden = model.queries(v[np.maximum(batch["item"], 0)], batch["action"], batch["gap"]).numpy()
    s, mean = np.exp(float(model.log_scale)), model.mean_query.numpy()
    total, search, weights, asked = 0.0, 0.0, 0.0, 0.0
    for row, position in zip(*np.nonzero(batch["weight"]), strict=True):
        weight, target, snapshot = (batch[name][row, position] for name in ("weight", "target", "snapshot"))
        u = s * (hidden[row, batch["read_at"][row, position]] - mean)
        query = model.items.text_part(text[target][None])[0].numpy()
        query = float(model.search_scale) * s * query / np.linalg.norm(query)
        is_query = text[target].any()
        own = {*batch["item"][row], *batch["target"][row]}
        touched = [i for i in range(N) if log_p[snapshot, i] > -1e8]
        for q, beta, barred in ((u, 1.0, own), (query, SEARCH_BETA, {target})):
            right = q @ v[target] + beta * batch["log_p"][row, position]
            others = [q @ v[i] + beta * log_p[snapshot, i] for i in touched if i not in barred]
            value = weight * (np.logaddexp.reduce([right, *others]) - right)
            if barred is own:
                total += value
            elif is_query:
                search += value
        weights += weight
        asked += weight * is_query
    return total / weights + SEARCH_WEIGHT * search / max(asked, 1e-6)


def test_the_loss_is_the_one_that_is_written_down(made):
    batch = world.batch(made, INTER, learn=one_target_each())
    batch["weight"] *= np.linspace(0.5, 2, len(batch["weight"]), dtype=np.float32)[:, None]
    assert made.model.uses_whole_catalogue
    assert (made.model.store.log_p.numpy()[:, :N] < -1e8).any()  # some item was untouched at some time
    assert loss(made, batch) == pytest.approx(brute_force(made, batch), rel=1e-5)


@pytest.mark.parametrize("described", [N // 2, 0])
def test_a_target_without_a_text_is_no_query(made, described):
    made.text = np.where(np.arange(N)[:, None] < described, made.text, 0)
    made.refresh()
    batch = world.batch(made, INTER, learn=one_target_each())
    target = batch["target"][batch["weight"] > 0]
    assert (target >= described).any()
    assert loss(made, batch) == pytest.approx(brute_force(made, batch), rel=1e-5)


def test_all_items_drawn_once_are_the_whole_catalogue(made, monkeypatch):
    batch = world.batch(made, INTER)
    whole = loss(made, batch)
    drawn = Negatives(tf.random.shuffle(tf.range(N), seed=3), tf.zeros([N]), is_catalogue=False)
    monkeypatch.setattr(two_tower, "draw_negatives", lambda *args, **kwargs: drawn)
    made.model.negatives = 2
    assert not made.model.uses_whole_catalogue
    assert loss(made, batch) == pytest.approx(whole, rel=1e-5)


def test_items_untouched_at_the_time_are_no_negatives(made):
    early = np.flatnonzero(np.arange(len(INTER)) < len(INTER) // 8)[-1]  # read with the first snapshot: nothing touched
    middle = len(INTER) // 2
    for event, felt in ((early, False), (middle, True)):
        chosen = np.zeros(len(INTER), bool)
        chosen[event] = True
        batch = world.batch(made, INTER, learn=chosen)
        if not len(batch["item"]):
            pytest.fail(f"event {event} has no history; choose another")
        own = {*batch["item"].ravel(), *batch["target"].ravel()}
        other = next(i for i in INTER.item[: len(INTER) // 8] if i not in own)
        before = loss(made, batch)
        text = made.text.copy()
        text[other] *= -3
        made.text, kept = text, made.text
        made.refresh()
        assert (abs(loss(made, batch) - before) > 1e-4) == felt
        made.text = kept
        made.refresh()


def still(made: Recommender) -> Batch:
    """A batch in which training has no noise but that of the search part."""
    batch = world.batch(made, INTER)
    batch["gap"] = np.full_like(batch["gap"], -1)
    return batch


def test_the_mean_query_is_taken_off_and_moves():
    made = build(dropout=0.0, id_dropout=0.0)
    made.model.search_weight = 0.0
    model, batch = made.model, still(made)
    hidden = model.queries(made.item_vectors()[np.maximum(batch["item"], 0)], batch["action"], batch["gap"])
    u = tf.gather(hidden, batch["read_at"], batch_dims=1).numpy()
    mean = (u * batch["weight"][..., None]).sum((0, 1)) / batch["weight"].sum()
    before = model.mean_query.numpy()
    trained = float(model.compute_loss({k: tf.constant(v) for k, v in batch.items()}, training=True))
    assert_allclose(model.mean_query.numpy(), MEAN_MOMENTUM * before + (1 - MEAN_MOMENTUM) * mean, atol=1e-6)
    # in training the batch's own mean is taken off, later the moving one; where they agree, so do the losses
    model.mean_query.assign(mean)
    assert loss(made, batch) == pytest.approx(trained, rel=1e-5)
    assert_allclose(model.scale_behaviour(mean[None]), 0, atol=1e-6)


def test_a_filler_changes_nothing(made):
    made.model.search_weight = 0.0  # its random choice depends on the size of the batch
    batch = world.batch(made, INTER)
    filled = {k: np.concatenate([v, v[:3]]) for k, v in batch.items()}
    filled["weight"][-3:] = 0
    assert loss(made, filled) == pytest.approx(loss(made, batch), rel=1e-5)


def test_a_query_points_where_its_text_does_and_an_empty_one_nowhere(made):
    scaled = made.model.scale_query(tf.constant(np.concatenate([made.text[:1], np.zeros((1, world.WIDTH), np.float32)]))).numpy()
    part = made.model.items.text_part(made.text[:1]).numpy()[0]
    assert scaled[0] @ part == pytest.approx(np.linalg.norm(scaled[0]) * np.linalg.norm(part), rel=1e-5)
    assert_array_equal(scaled[1], 0)


def test_a_compiled_step_equals_a_plain_one():
    """Without noise: compiled and plain steps draw different numbers from one seed, whichever algorithm is asked for."""
    results = []
    for compiled in (False, True):
        made = build(dropout=0.0, id_dropout=0.0, layers=0)  # a layer of attention doubles the time of compiling
        made.model.search_weight = 0.0
        data = tf.data.Dataset.from_tensors({k: tf.constant(v) for k, v in still(made).items()}).repeat(2)
        optimizer = tf.keras.optimizers.SGD(0.05)
        optimizer.build(made.model.trainable_variables)  # or the step is compiled twice
        made.model.compile(optimizer=optimizer, jit_compile=compiled)
        with nullcontext() if compiled else eagerly():
            history = made.model.fit(data, verbose=0).history["loss"]
        results.append([np.array(history), *(w.numpy() for w in made.model.trainable_variables), made.model.mean_query.numpy()])
    for plain, other in zip(*results, strict=True):
        assert_allclose(other, plain, atol=1e-4, rtol=1e-4)


def test_it_holds_nothing_that_a_gpu_cannot_run(made):
    """TensorFlow 2.21 keeps int32 variables on the CPU, and turns norms of 1e-3 into an operator that only a CPU has."""
    held = {v.name: v.dtype for v in [*made.model.variables, *vars(made.model).values()] if isinstance(v, tf.Variable)}
    assert len(held) > 20
    assert tf.int32 not in held.values(), held
    norms = [module for module in made.model.submodules if isinstance(module, tf.keras.layers.LayerNormalization)]
    assert len(norms) > 3
    assert all(norm.epsilon < 1e-4 for norm in norms)


def test_sharper_scores_keep_each_ranking_of_a_history_and_the_size_of_a_query(made):
    model = made.model
    model.beta.assign(1.5)
    items, text = tf.constant(made.item_vectors()), tf.constant(made.text[:3])
    history = [tf.constant([[0, 1, 2]], tf.int64)] * 3 + [tf.constant([3], tf.int64), made.event_context(INTER)[:1]]
    before, query = model.history_scores(items, *history).numpy(), model.scale_query(text).numpy()
    model.sharpen(0.5)
    assert_allclose(model.history_scores(items, *history), 0.5 * before, rtol=1e-5, atol=1e-6)
    assert_allclose(model.scale_query(text), query, rtol=1e-5)
    assert float(model.beta) == 0.75

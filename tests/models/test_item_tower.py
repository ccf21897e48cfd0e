"""Item vectors: the formula, items without feedback, and where the text projection starts."""
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from tests.models.world import CLUSTERS, WIDTH, text_vectors
from tfrec.models.dropout import Noise
from tfrec.models.item_tower import ItemTower

DIM, FEATURES = 6, 3


@pytest.fixture
def tower() -> ItemTower:
    tf.keras.utils.set_random_seed(0)
    made = ItemTower(dim=DIM, text_width=WIDTH, feature_width=FEATURES, slots=5, id_dropout=0.5)
    rng = np.random.default_rng(0)
    for weight in made.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return made


def inputs(n: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return text_vectors(n), rng.normal(size=(n, FEATURES)).astype(np.float32), np.array([0, 3, 0, 1, 4][:n], np.int32)


def test_the_formula(tower):
    text, features, slot = inputs()
    kernel, bias = tower.project_text.get_weights()
    raw = text @ kernel + bias + features @ tower.project_features.get_weights()[0]
    raw += tower.residual.numpy()[slot] * (slot > 0)[:, None]
    assert_allclose(tower(text, features, slot), raw / np.linalg.norm(raw, axis=1, keepdims=True), rtol=1e-5, atol=1e-6)


def test_hidden_residuals_leave_what_text_and_features_say(tower):
    text, features, slot = inputs(1)
    slot = np.full(200, 3, np.int32)
    text, features = np.repeat(text, 200, axis=0), np.repeat(features, 200, axis=0)
    noisy = tower(text, features, slot, noise=Noise(tf.constant([0, 0]))).numpy()
    full, bare = tower(text, features, slot)[0].numpy(), tower(text, features, np.zeros_like(slot))[0].numpy()
    hidden = np.isclose(noisy, bare, atol=1e-5).all(1)
    assert (hidden | np.isclose(noisy, full, atol=1e-5).all(1)).all()
    assert 60 < hidden.sum() < 140  # half of 200


@pytest.mark.parametrize("dim", [6, 20])
def test_near_texts_start_near(dim):
    tower = ItemTower(dim=dim, text_width=WIDTH, feature_width=FEATURES, slots=5, id_dropout=0.5)
    text = text_vectors(40)
    tower.start_from(text)
    v = tower(text, np.zeros((40, FEATURES), np.float32), np.zeros(40, np.int32)).numpy()
    similar, same = v @ v.T, np.arange(40)[:, None] % CLUSTERS == np.arange(40) % CLUSTERS
    assert similar[same].mean() > 0.7
    assert similar[~same].mean() < 0


def test_a_projection_onto_as_many_components_keeps_all_distances():
    tower = ItemTower(dim=WIDTH, text_width=WIDTH, feature_width=FEATURES, slots=5, id_dropout=0.5)
    text = text_vectors(40)
    tower.start_from(text)
    projected, centred = tower.text_part(text).numpy(), text - text.mean(0)
    assert_allclose(projected @ projected.T, centred @ centred.T, atol=1e-5)


def test_an_item_that_nothing_describes_keeps_its_residual(tower):
    text, features, slot = np.zeros((200, WIDTH), np.float32), np.zeros((200, FEATURES), np.float32), np.full(200, 3, np.int32)
    noisy = tower(text, features, slot, noise=Noise(tf.constant([0, 0]))).numpy()
    assert_allclose(noisy, tower(text, features, slot).numpy(), atol=1e-6)
    for described in (text, features):  # by one of the two alone
        described[:, 1] = 0.1
        noisy = tower(text, features, slot, noise=Noise(tf.constant([0, 0]))).numpy()
        assert 60 < (~np.isclose(noisy, tower(text, features, slot).numpy(), atol=1e-5).all(1)).sum() < 140
        described[:, 1] = 0

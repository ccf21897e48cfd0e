"""A recommender before training, when its catalogue grows, and what its codes mean."""
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.models import world
from tests.models.bert.tiny import arrays, write_bert
from tfrec.data.items.catalogue import Catalogue
from tfrec.models.recommender import MAX_ACTIONS, Recommender, encode_catalogue


@pytest.fixture
def settings(tmp_path: Path):
    return world.config(tmp_path)


def test_initial_weights_depend_on_the_seed_alone(settings, tmp_path):
    one, same = (world.recommender(settings, stir=False) for _ in range(2))
    other = world.recommender(world.config(tmp_path, training={"seed": 1}), stir=False)
    for a, b in zip(one.model.trainable_variables, same.model.trainable_variables, strict=True):
        assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(one.model.trainable_variables, other.model.trainable_variables, strict=True))


def test_before_training_near_texts_are_near_and_popularity_is_uniform(settings):
    made = world.recommender(settings, stir=False)
    v = made.item_vectors()
    assert_allclose(np.linalg.norm(v, axis=1), 1, rtol=1e-5)
    similar, same = v @ v.T, np.arange(40)[:, None] % world.CLUSTERS == np.arange(40) % world.CLUSTERS
    assert similar[same].min() > similar[~same].mean()
    assert_allclose(made.prior.log_p(), np.log(1 / 40), rtol=1e-5)
    assert made.slot.sum() == 0


def test_a_grown_catalogue_keeps_what_was_known(settings):
    made = world.recommender(settings)
    made.give_slots(np.array([3, 5]), np.arange(40))
    made.model.items.project_features.set_weights([np.zeros((made.features.width, 8), np.float32)])
    before = made.item_vectors()
    made.extend(world.catalogue(43), np.concatenate([made.text, made.text[:3]]))
    after = made.item_vectors()
    assert after.shape == (43, 8)
    assert_allclose(after[:40], before, atol=1e-6)
    assert (len(made.prior), len(made.slot), made.slot[40:].sum()) == (43, 43, 0)
    assert_allclose(after[40:], before[:3], atol=1e-6)  # the same text, and features say nothing


def test_a_slot_that_changes_hands_takes_no_residual_along(tmp_path):
    made = world.recommender(world.config(tmp_path, id_slots=3))
    made.give_slots(np.array([1, 2]), np.array([0, 5, 6, *[0] * 37]))
    with_residual = made.item_vectors()[[1, 3]]
    made.give_slots(np.array([3]), np.array([0, 5, 6, 9, *[0] * 36]))
    assert made.slot[:4].tolist() == [0, 0, 1, 2]
    after = made.item_vectors()[[1, 3]]
    assert np.abs(after[0] - with_residual[0]).max() > 1e-3  # item 1 is back to its text
    assert_allclose(after[1], with_residual[1], atol=1e-6)  # item 3 starts from its text


def test_actions_beyond_the_codes_are_read_as_the_last(settings):
    made = world.recommender(settings)
    assert made.action_codes(["buy", "view", "new", "buy"]).tolist() == [1, 0, MAX_ACTIONS - 1, 1]
    many = [f"a{n}" for n in range(30)]
    crowded = Recommender.build(settings, made.catalogue, made.text, actions=many)
    assert crowded.action_codes(many).tolist() == [*range(MAX_ACTIONS - 1), *[MAX_ACTIONS - 1] * (30 - MAX_ACTIONS + 1)]


def test_an_encoder_that_came_under_the_same_name_does_not_meet_the_vectors_of_the_one_before(settings, tmp_path):
    directory = write_bert(tmp_path / "bert")
    mine = settings.model_copy(update={"text": settings.text.model_copy(update={"encoder": str(directory)})})
    before = encode_catalogue(mine, ["jazz"])
    write_bert(directory, weights=arrays(seed=1))
    assert np.abs(encode_catalogue(mine, ["jazz"]) - before).max() > 1e-3


def test_no_encoder_is_loaded_for_texts_that_are_kept(settings):
    unknown = settings.model_copy(update={"text": settings.text.model_copy(update={"encoder": "/no/such/encoder"})})
    world.keep_vectors(unknown, world.catalogue(), world.text_vectors())
    assert_array_equal(encode_catalogue(unknown, world.catalogue().texts[:7]), world.text_vectors()[:7])


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_items_without_feedback_have_a_share_of_what_is_left_to_chance(tmp_path, share):
    """Items 1 and 3 of 40 were chosen: at one half, the 37 others weigh as much as these two together; 5 is not available."""
    settings = world.config(tmp_path)
    settings = settings.model_copy(update={"serving": settings.serving.model_copy(update={"newcomer_share": share})})
    made = world.recommender(settings)
    made.catalogue = Catalogue([item.model_copy(update={"available": item.id != "i5"}) for item in made.catalogue.items])
    made.prior.update([1, 3, 3], [10, 20, 30])
    mass = made.explored_mass()
    assert mass[5] == 0
    assert_allclose(mass[[1, 3]], 1)
    if share:
        assert_allclose(mass[[0, 2]], 2 / 37)
        assert_allclose(mass[[1, 3]].sum() / mass.sum(), 0.5)
    else:
        assert_allclose(mass.sum(), 39)

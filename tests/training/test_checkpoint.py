"""A checkpoint gives back the same recommender; what does not fit is named."""
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tests.models import world
from tfrec.config import Config, RankerConfig
from tfrec.errors import DataError, ModelError
from tfrec.models.ranking.item_rates import ItemRates
from tfrec.models.recommender import Recommender, new_ranker
from tfrec.models.scorer import Scorer
from tfrec.training import checkpoint

N = 40
INTER = world.interactions(world.catalogue(N))


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    made = world.config(tmp_path / "run")
    world.keep_vectors(made, world.catalogue(50), world.text_vectors(50))
    return made


@pytest.fixture
def made(settings: Config) -> Recommender:
    built = Recommender.build(settings, world.catalogue(N), world.text_vectors(50)[:N], actions=("view", "buy"))
    rng = np.random.default_rng(5)
    for weight in (*built.model.trainable_variables, built.model.mean_query):
        weight.assign_add(rng.normal(0, 0.1, weight.shape).astype(np.float32))
    built.model.beta.assign(1.3)
    built.model.steps.assign(17)
    built.head.mean.assign_add(rng.normal(0, 0.1, 9))
    built.head.factor.assign(3 * built.head.factor)
    built.model.average.restart()
    built.give_slots(INTER.item[:50], np.arange(N))
    built.prior.update(INTER.item[:60], INTER.time[:60])
    return built


def test_round_trip(made, settings, tmp_path):
    path = checkpoint.save(tmp_path / "deep" / "checkpoint", made, meta={"epoch": 3})
    again, meta = checkpoint.load(path, settings)
    assert meta == {"epoch": 3} == checkpoint.read_meta(path)
    assert (again.actions, again.catalogue.digest(), int(again.model.steps)) == (made.actions, made.catalogue.digest(), 17)
    assert_array_equal(again.slot, made.slot)
    assert_array_equal(again.head.mean, made.head.mean)
    assert_array_equal(again.head.factor, made.head.factor)
    events = np.arange(60, len(INTER))
    assert_allclose(Scorer(again, INTER, counted=60)(events), Scorer(made, INTER, counted=60)(events), atol=1e-5)
    again.model.average.swap()
    made.model.average.swap()
    assert_array_equal(again.item_vectors(), made.item_vectors())


def test_a_checkpoint_replaces_the_one_before_and_leaves_nothing_beside_it(made, settings, tmp_path):
    path = tmp_path / "checkpoint"
    checkpoint.save(path, made, meta={"epoch": 1})
    made.model.beta.assign(0.5)
    checkpoint.save(path, made, meta={"epoch": 2})
    again, meta = checkpoint.load(path, settings)
    assert (meta["epoch"], float(again.model.beta)) == (2, 0.5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "run"]


def test_a_grown_catalogue(made, settings, tmp_path):
    path = checkpoint.save(tmp_path / "checkpoint", made)
    again, _ = checkpoint.load(path, settings, catalogue=world.catalogue(N + 5))
    assert_allclose(again.item_vectors()[:N], made.item_vectors(), atol=1e-6)
    assert (len(again.item_vectors()), len(again.prior), len(again.slot), again.slot[N:].sum()) == (N + 5, N + 5, N + 5, 0)
    checkpoint.save(path, again)
    assert len(checkpoint.load(path, settings)[0].catalogue) == N + 5


HEADS = RankerConfig(heads={"view": 1.0, "buy": 2.0}, after={"buy": "view"}, min_slates=3)


@pytest.fixture
def with_heads(settings, made):
    """A second stage that has learnt."""
    made.config = settings.model_copy(update={"ranker": HEADS})
    made.ranker = new_ranker(made.config, made.features.width)
    made.rates = ItemRates(N, HEADS.names)
    made.rates.update([3, 4], [60, 90], np.array([[True, False], [True, True]]), looked_at=[1.0, 1.0], slates=2)
    for weight in made.ranker.trainable_weights:
        weight.assign(np.random.default_rng(3).normal(0, 0.1, weight.shape))
    made.ranker.learnt.assign(2.0)
    return made


def test_the_second_stage_goes_on_by_its_new_weights_of_heads_and_knows_new_items(with_heads, tmp_path):
    path = checkpoint.save(tmp_path / "checkpoint", with_heads)
    weighs = with_heads.config.model_copy(update={"ranker": HEADS.model_copy(update={
        "heads": {"view": 0.5, "buy": 9.0}, "min_slates": 77})})
    again, _ = checkpoint.load(path, weighs, catalogue=world.catalogue(N + 5))
    assert_allclose(again.ranker_columns()[:N], with_heads.ranker_columns(), rtol=1e-6)
    assert again.ranker_columns()[N:, -again.rates.width :].any() == np.False_
    assert again.ranker.weights_of_heads.numpy().tolist() == [0.5, 9.0]
    assert (float(again.ranker.learnt), float(again.ranker.least), again.rates.slates) == (2, 77, 2)
    for mine, theirs in zip(again.ranker.trainable_weights, with_heads.ranker.trainable_weights, strict=True):
        assert_array_equal(mine, theirs)
    assert checkpoint.of_version(path, weighs).ranker == HEADS  # as it is served


@pytest.mark.parametrize("heads", [{"view": 1.0}, {"buy": 1.0, "view": 1.0}, {"view": 1.0, "buy": 2.0, "hide": -1.0}])
def test_other_heads_begin_to_learn_and_no_heads_leave_the_second_stage(with_heads, settings, tmp_path, caplog, heads):
    path = checkpoint.save(tmp_path / "checkpoint", with_heads)
    other = settings.model_copy(update={"ranker": RankerConfig(heads=heads)})
    with caplog.at_level("INFO"):
        again, _ = checkpoint.load(path, other)
    assert f"no second stage with the heads {', '.join(heads)}: it begins to learn now" in caplog.text
    assert (float(again.ranker.learnt), again.rates.slates, again.rates.actions) == (0, 0, tuple(heads))
    assert_allclose(again.item_vectors(), with_heads.item_vectors(), atol=1e-6)
    assert checkpoint.load(path, settings)[0].ranker is None
    none = checkpoint.save(tmp_path / "none", checkpoint.load(path, settings)[0])
    assert float(checkpoint.load(none, other)[0].ranker.learnt) == 0


def test_damaged_rates_are_named(with_heads, tmp_path):
    path = checkpoint.save(tmp_path / "checkpoint", with_heads)
    (path / "rates.npz").write_bytes(b"PK")
    with pytest.raises(ModelError, match=r"rates\.npz: expected the rates of a checkpoint"):
        checkpoint.load(path, with_heads.config)


def test_the_optimiser_goes_on(made, settings, tmp_path):
    optimizer = tf.keras.optimizers.AdamW(0.01)
    optimizer.build(made.model.trainable_variables)
    for variable in optimizer.variables:
        if variable.dtype.is_floating:
            variable.assign_add(tf.fill(variable.shape, 0.25))
    path = checkpoint.save(tmp_path / "checkpoint", made, optimizer=optimizer)
    fresh = tf.keras.optimizers.AdamW(0.01)
    checkpoint.load(path, settings, optimizer=fresh)
    for kept, found in zip(optimizer.variables, fresh.variables, strict=True):
        assert_array_equal(found, kept)


def test_an_optimiser_that_was_not_saved_starts_anew(made, settings, tmp_path):
    path = checkpoint.save(tmp_path / "checkpoint", made)
    fresh = tf.keras.optimizers.AdamW(0.01)
    again, _ = checkpoint.load(path, settings, optimizer=fresh)
    assert_array_equal(again.item_vectors(), made.item_vectors())
    assert int(fresh.iterations) == 0


def test_no_checkpoint_there(settings, tmp_path):
    with pytest.raises(ModelError, match=r"nowhere: expected a checkpoint, found none\. Train first"):
        checkpoint.load(tmp_path / "nowhere", settings)


def test_the_catalogue_grows_by_a_file(made, tmp_path):
    path = checkpoint.save(tmp_path / "checkpoint", made)
    (tmp_path / "items.csv").write_text("id,text\nnew,a new one\ni3,said otherwise\n")
    assert checkpoint.grown_catalogue(path, None).digest() == made.catalogue.digest()
    grown = checkpoint.grown_catalogue(path, tmp_path / "items.csv")
    assert grown.ids.tolist() == [*made.catalogue.ids, "new"]
    assert grown.texts[3] == "said otherwise"
    with pytest.raises(ModelError, match=r"nowhere: expected a checkpoint, found none\. Train first"):
        checkpoint.grown_catalogue(tmp_path / "nowhere", None)


def test_an_item_whose_row_is_gone_is_not_shown_until_it_is_back(made, tmp_path):
    path, file = checkpoint.save(tmp_path / "checkpoint", made), tmp_path / "items.csv"
    rows = [f"{item},text {item}\n" for item in made.catalogue.ids]
    file.write_text("id,text\n" + "".join(rows[1:]))
    shorter = checkpoint.grown_catalogue(path, file, withdraw_at_most=0.5)
    assert shorter.ids.tolist() == made.catalogue.ids.tolist()
    assert shorter.unavailable == [str(made.catalogue.ids[0])]
    shorter.write(path / "catalogue.jsonl")
    file.write_text("id,text\n" + "".join(rows))
    assert checkpoint.grown_catalogue(path, file, withdraw_at_most=0.5).unavailable == []
    file.write_text("id,text\n" + rows[-1])
    with pytest.raises(DataError, match="items that are shown have no row any more.*data.withdraw_at_most=1"):
        checkpoint.grown_catalogue(path, file, withdraw_at_most=0.5)
    assert len(checkpoint.grown_catalogue(path, file, withdraw_at_most=1.0).unavailable) == len(rows) - 1


def test_another_format(made, settings, tmp_path):
    path = checkpoint.save(tmp_path / "checkpoint", made)
    described = path / "checkpoint.json"
    described.write_text(described.read_text().replace(f'"format": {checkpoint.FORMAT}', '"format": 99'))
    with pytest.raises(ModelError, match=f"expected format {checkpoint.FORMAT}, got 99"):
        checkpoint.load(path, settings)


def test_another_encoder_under_the_same_name_is_refused(made, settings, tmp_path, monkeypatch):
    path = checkpoint.save(tmp_path / "checkpoint", made)
    monkeypatch.setattr(checkpoint, "fingerprint", lambda name: f"what {name} says now")
    with pytest.raises(ModelError, match="is not the one that this model was trained with: its files have changed"):
        checkpoint.load(path, settings)


def test_another_configuration_is_named(made, settings, tmp_path):
    path = checkpoint.save(tmp_path / "checkpoint", made)
    other = settings.model_copy(update={"model": settings.model.model_copy(update={"dim": 16})})
    with pytest.raises(ModelError, match=r"model\.dim = 16, the checkpoint has 8\. Set them back"):
        checkpoint.load(path, other)
    text = settings.text.model_copy(update={"tuning": "full"})  # of another command
    assert checkpoint.load(path, settings.model_copy(update={"text": text}))


def test_another_catalogue(made, settings, tmp_path):
    path = checkpoint.save(tmp_path / "checkpoint", made)
    shuffled = type(made.catalogue)(made.catalogue.items[::-1])
    with pytest.raises(ModelError, match="does not begin with the 40 items of the checkpoint"):
        checkpoint.load(path, settings, catalogue=shuffled)
    with pytest.raises(ModelError, match="does not begin with the 40 items"):
        checkpoint.load(path, settings, catalogue=world.catalogue(N - 1))


@pytest.mark.parametrize("name", ["weights.index", "weights.data-00000-of-00001", "slots.npz", "checkpoint.json"])
def test_a_truncated_file_is_named(made, settings, tmp_path, name):
    path = checkpoint.save(tmp_path / "checkpoint", made)
    whole = (path / name).read_bytes()
    (path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=name.split(".")[0]):
        checkpoint.load(path, settings)

"""Joint training: its gradient is the plain one, it moves what it may, and what it leaves behind is used by everything else."""
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tests.eagerly import eagerly
from tests.graph.tiny_recommender import by_item, exporting, request
from tests.models import world
from tests.models.bert.tiny import arrays, write_bert
from tfrec.config import Config
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.errors import DataError, ModelError, UsageError
from tfrec.model_server.saved_model import SavedModel
from tfrec.models.item_store import LiveTexts
from tfrec.models.recommender import encode_catalogue, with_encoder
from tfrec.models.scorer import SearchScorer
from tfrec.models.text_encoder import TextEncoder
from tfrec.release.export import export
from tfrec.training import checkpoint
from tfrec.training.encoder import joint
from tfrec.training.encoder.joint import JointTrainer
from tfrec.training.loop import Trainer, optimiser
from tfrec.training.profile import Profile
from tfrec.training.train import Trained, TrainingInputs, train
from tfrec.training.training_state import TrainingState

ITEMS = Catalogue([item.model_copy(update={"text": f"{'ab cd ef gh'[: 2 + n % 9]} {n}"}) for n, item in
                   enumerate(world.catalogue(40).items)])
INTER = world.interactions(ITEMS, users=16)
EVERY = np.ones(len(INTER), bool)


def settings(run: Path, encoder: str, text: str = "lora", **changed: object) -> Config:
    made = world.config(run, layers=0, training={"text": text, "texts": 12, "epochs": 2, "batch_size": 16, **changed})
    words = made.text.model_copy(update={"encoder": encoder, "max_tokens": 12})
    tuning = made.tuning.model_copy(update={"learning_rate": 0.05, "average": 0.5})
    search = made.search.model_copy(update={"lexical": 0.0})
    return made.model_copy(update={"text": words, "tuning": tuning, "search": search})


def started(config: Config) -> tuple[JointTrainer, tf.keras.optimizers.Optimizer]:
    _, trainer, optimizer = TrainingInputs.of(config, ITEMS, INTER, Profile()).start(EVERY)
    assert isinstance(trainer, JointTrainer)
    return trainer, optimizer


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Directory of a BERT of one layer."""
    weights = {name: array for name, array in arrays().items() if "layer.1." not in name}
    return str(write_bert(tmp_path_factory.mktemp("bert") / "bert", weights=weights, num_hidden_layers=1))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def trained(run: Path, bert: str) -> Trained:
    with eagerly():
        return train(settings(run, bert), ITEMS, INTER)


@pytest.mark.parametrize(("text", "negatives"), [("lora", 4096), ("full", 5)])
def test_cached_gradients_are_the_plain_ones(tmp_path, bert, monkeypatch, text, negatives):
    monkeypatch.setattr(joint, "CHUNK", 5)  # of 12 texts: the last part is not full
    trainer, _ = started(settings(tmp_path, bert, text, negatives=negatives))
    model, towers, learnt = trainer.joint, trainer.recommender.model, trainer.joint.text
    for variable in learnt.trained:
        variable.assign_add(np.random.default_rng(3).normal(0, 0.1, variable.shape).astype(np.float32))
    batch = next(iter(trainer.batches.epoch(0, 0)))
    item = model.chosen(batch)
    assert len(item) == len(set(item.numpy())) == 12
    loss, of_towers, of_encoder = model.gradients(batch)
    with tf.GradientTape() as tape:
        vectors = learnt.encoder.pool(tf.gather(model.tokens, item))
        plain = towers.compute_loss(batch, training=True, live=LiveTexts(item, vectors))
    found = tape.gradient(plain, [*towers.trainable_variables, *learnt.trained])
    assert_allclose(loss, plain, rtol=1e-6)
    assert any(np.abs(g).max() > 1e-3 for g in of_encoder)
    for mine, theirs in zip([*of_towers, *of_encoder], found, strict=True):
        assert_allclose(tf.convert_to_tensor(mine), tf.convert_to_tensor(theirs), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("negatives", [4096, 5])
def test_live_texts_that_are_the_stored_ones_change_nothing(tmp_path, negatives):
    made = world.recommender(world.config(tmp_path, training={"negatives": negatives}))
    batch = {name: tf.constant(array) for name, array in world.batch(made, world.interactions(made.catalogue)).items()}
    item = tf.constant([3, 0, 39])
    live = LiveTexts(item, tf.gather(made.model.store.text, item))
    assert_array_equal(made.model.compute_loss(batch, live=live), made.model.compute_loss(batch))
    moved = live._replace(text=-live.text)
    assert float(made.model.compute_loss(batch, live=moved)) != float(made.model.compute_loss(batch))


@eagerly()
@pytest.mark.parametrize("text", ["lora", "full"])
def test_only_what_is_trained_moves(tmp_path, bert, text):
    trainer, optimizer = started(settings(tmp_path, bert, text))
    learnt = trainer.joint.text
    names = {id(variable) for variable in learnt.trained}
    before = [(variable, variable.numpy()) for variable in learnt.encoder.bert.variables]
    trainer.run(optimizer, epochs=range(1))
    assert {id(v) for v, was in before if (v.numpy() != was).any()} == names
    assert len(names) == (2 * 4 if text == "lora" else len(before))  # A and B of 4 matrices


def test_frozen_is_a_training_of_the_towers_alone(tmp_path, bert):
    config = settings(tmp_path, bert, "frozen")
    inputs = TrainingInputs.of(config, ITEMS, INTER, Profile())
    made, trainer, optimizer = inputs.start(EVERY)
    assert type(trainer) is Trainer
    assert trainer.model is made.model
    assert trainer.resumable(optimizer) is optimizer
    trainer.finish()
    assert made.config is config
    assert made.text is inputs.text


def test_the_texts_are_those_of_the_encoder_that_the_run_has(trained, run, bert):
    made = trained.recommender
    encoder = made.config.text.encoder
    assert Path(encoder).parent == run / joint.ENCODERS
    assert [path.name for path in (run / joint.ENCODERS).iterdir()] == [Path(encoder).name]
    fresh = TextEncoder(encoder, max_tokens=12).encode(ITEMS.texts, batch_size=7)
    assert_allclose(made.text, fresh, atol=1e-5)
    assert_allclose(made.model.store.text[: len(ITEMS)], fresh, atol=1e-5)
    parent = TextEncoder(bert, max_tokens=12).encode(ITEMS.texts, batch_size=7)
    assert np.abs(parent - fresh).max() > 0.01
    assert_array_equal(encode_catalogue(made.config, ITEMS.texts), made.text)  # the cache tells the two encoders apart
    assert_allclose(encode_catalogue(with_encoder(made.config, bert), ITEMS.texts), parent, atol=1e-5)


def test_the_settings_that_trained_it_load_it_and_its_export_reads_by_the_trained_encoder(trained, run, bert):
    config = settings(run, bert)
    saved = checkpoint.save(run / "checkpoint", trained.recommender, optimizer=trained.optimizer)
    grown = ITEMS.with_items([Item(id="new", text="gh ab new")])
    made, _ = checkpoint.load(saved, config, catalogue=grown, optimizer=optimiser(config, learning_rate=0.01))
    assert made.config.text.encoder == trained.recommender.config.text.encoder
    assert checkpoint.fits(saved, config, made, grown)
    with exporting("recommend"):
        served = SavedModel(export(made, run / "export", created_at=5))
    answer = by_item(served.run("recommend", request([[]], query=["ef ab"])))
    asked = TextEncoder(made.config.text.encoder, max_tokens=12)(tf.constant(["ef ab"]), role="query").numpy()
    scores = SearchScorer(made, asked, log_p=made.prior.log_p())(np.array([0]))[0]
    assert_allclose([answer[name] for name in grown.ids], scores, atol=1e-4)
    parent = TextEncoder(bert, max_tokens=12)(tf.constant(["gh ab new", "ef ab"])).numpy()
    assert np.abs(made.text[-1] - parent[0]).max() > 0.01
    assert np.abs(asked - parent[1]).max() > 0.01
    assert checkpoint.load_items(saved, [0, 3]).config.text.encoder == made.config.text.encoder


def test_a_checkpoint_whose_encoder_is_gone_says_so(trained, run, bert, tmp_path):
    saved = checkpoint.save(run / "other", trained.recommender)
    away = shutil.move(trained.recommender.config.text.encoder, tmp_path / "away")
    try:
        with pytest.raises(ModelError, match=r"encoders/\w+' is not the one that this model was trained with: .* Put them back"):
            checkpoint.load(saved, settings(run, bert))
    finally:
        shutil.move(away, trained.recommender.config.text.encoder)


def test_an_interrupted_training_goes_on(trained, run, tmp_path, bert, monkeypatch):
    """Stopped after the first epoch of each pass, it ends as one that was left alone."""
    real, config, stopped = TrainingState.save, settings(tmp_path, bert), []

    def save_and_stop(self, name, *words):
        real(self, name, *words)
        if name not in stopped:
            stopped.append(name)
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingState, "save", save_and_stop)
    with eagerly():
        for _ in ("choose", "fit"):
            with pytest.raises(KeyboardInterrupt):
                train(config, ITEMS, INTER)
        again = train(config, ITEMS, INTER)
    assert (stopped, again.epochs) == (["choose", "fit"], trained.epochs)
    assert_allclose(again.recommender.text, trained.recommender.text, atol=1e-4)
    assert_allclose(again.recommender.item_vectors(), trained.recommender.item_vectors(), atol=1e-4)


def test_another_way_does_not_throw_away_an_interrupted_training(tmp_path, bert):
    TrainingState(tmp_path / "train", identity="a", resume=True, text="full")
    with pytest.raises(UsageError, match=r"interrupted training has training.text = full, and now it is lora\. .*--restart"):
        train(settings(tmp_path, bert), ITEMS, INTER)


def test_what_cannot_be_trained_is_refused_before_the_texts_are_read(tmp_path, bert, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr("tfrec.training.train.encode_catalogue", lambda *_, **__: pytest.fail("texts were read"))
    config = settings(tmp_path, bert)

    def refused(error: type[Exception], match: str, config: Config = config, items: Catalogue = ITEMS) -> None:
        with pytest.raises(error, match=match):
            train(config, items, INTER)

    refused(UsageError, "training.jit_compile is true, but with training.text = lora",
            settings(tmp_path, bert, jit_compile=True))
    refused(DataError, "none of the 40 items has a text", items=Catalogue([replaced(item) for item in ITEMS.items]))
    refused(UsageError, "training.text is full, which trains every layer, but tuning.layers is 1",
            with_layers(settings(tmp_path, tiny_checkpoint, "full"), 1))
    refused(ModelError, "expected a checkpoint directory", with_encoder(config, str(tmp_path / "nowhere")))


def replaced(item: Item) -> Item:
    return item.model_copy(update={"text": ""})


def with_layers(config: Config, layers: int) -> Config:
    return config.model_copy(update={"tuning": config.tuning.model_copy(update={"layers": layers})})

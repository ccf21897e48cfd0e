"""An interrupted training goes on as if nothing had happened; what is learnt, and what cannot be."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.eagerly import eagerly
from tests.models import world
from tfrec.data.behaviour.interactions import Interactions
from tfrec.errors import DataError
from tfrec.models.recommender import Recommender
from tfrec.training.loop import Trainer, give_slots, optimiser
from tfrec.training.training_state import TrainingState
from tfrec.training.validation import sum_log_likelihood

N = 40
INTER = world.interactions(world.catalogue(N), users=16)


def start(run: Path, *, inter: Interactions = INTER, targets: np.ndarray | None = None) -> tuple[Recommender, Trainer]:
    made = world.recommender(world.config(run, training={"batch_size": 16}, layers=0), n=N, stir=False)
    chosen = np.ones(len(inter), bool) if targets is None else targets
    return made, Trainer(made, inter, chosen, prior_weights=made.prior.weights)


@eagerly()
def test_two_epochs_and_two_more_are_four(tmp_path):
    whole, trainer = start(tmp_path)
    optimizer = optimiser(whole.config, learning_rate=0.01)
    losses = []
    trainer.run(optimizer, epochs=range(4), after=lambda epoch, loss: losses.append((epoch, loss)) is None)

    first, trainer = start(tmp_path)
    optimizer = optimiser(first.config, learning_rate=0.01)
    trainer.run(optimizer, epochs=range(2))
    TrainingState(tmp_path / "train", identity="a", resume=True).save("fit", first, optimizer, 2, [1.5])

    again, trainer = start(tmp_path)
    optimizer = optimiser(again.config, learning_rate=0.01)
    assert TrainingState(tmp_path / "train", identity="a", resume=True).restore("fit", again, optimizer) == (2, [1.5])
    more = []
    trainer.run(optimizer, epochs=range(2, 4), after=lambda epoch, loss: more.append((epoch, loss)) is None)

    assert [epoch for epoch, _ in losses] == [0, 1, 2, 3]
    assert_allclose(more, losses[2:], rtol=1e-5)
    assert losses[3][1] < losses[0][1]
    for _ in range(2):  # the weights, then their moving averages
        for a, b in zip(whole.model.average.weights, again.model.average.weights, strict=True):
            assert_allclose(b, a, atol=1e-5)
        whole.model.average.swap()
        again.model.average.swap()
    assert int(again.model.steps) == int(whole.model.steps) == 4 * trainer.steps


def test_what_an_other_training_left_is_not_taken_up(tmp_path):
    made, _ = start(tmp_path)
    optimizer = optimiser(made.config, learning_rate=0.01)
    optimizer.build(made.model.trainable_variables)
    for identity, resume in (("b", True), ("a", False)):
        TrainingState(tmp_path / "train", identity="a", resume=True).save("fit", made, optimizer, 1, [])
        state = TrainingState(tmp_path / "train", identity=identity, resume=resume)
        assert state.restore("fit", made, optimizer) == (0, [])
    store = TrainingState(tmp_path / "train", identity="a", resume=True)
    assert store.result("choose") is None
    store.finish("choose", {"epochs": 3})
    assert TrainingState(tmp_path / "train", identity="a", resume=True).result("choose") == {"epochs": 3}
    store.clear()
    assert not (tmp_path / "train").exists()


@eagerly()
def test_false_ends_the_training_and_each_step_is_told(tmp_path):
    made, trainer = start(tmp_path)
    ticks = []
    trainer.run(optimiser(made.config, learning_rate=0.01), epochs=range(9), advance=ticks.append, log_dir=tmp_path / "logs",
               after=lambda epoch, _: epoch < 1)
    assert len(ticks) == 2 * trainer.steps == int(made.model.steps)
    assert list((tmp_path / "logs" / "train").glob("events*"))


def test_only_items_seen_by_the_last_target_have_slots(tmp_path):
    half = len(INTER) // 2
    made, _ = start(tmp_path, targets=np.arange(len(INTER)) < half)
    assert set(np.flatnonzero(made.slot)) == set(INTER.item[:half].tolist())


def test_nothing_to_learn_is_said(tmp_path):
    lonely = Interactions.from_columns(["a", "b", "c"], ["i1", "i2", "i3"], [1, 2, 3], items=world.catalogue(N).ids.tolist())
    with pytest.raises(DataError, match="of 3 events none has an earlier event of the same user. Expected users with"):
        start(tmp_path, inter=lonely)


def test_log_likelihood_by_hand():
    scores = np.array([[0.0, np.log(3), -np.inf], [1.0, 1.0, 1.0]])
    assert sum_log_likelihood(scores, np.array([1, 2])) == pytest.approx(np.log(0.75) + np.log(1 / 3))


def test_an_item_that_was_only_shown_gets_a_slot(tmp_path):
    made = world.recommender(world.config(tmp_path, id_slots=30), n=N, stir=False)
    inter, shown = INTER.slice(0, 3), world.slates(4)
    times = shown.time + int(INTER.time[-1])  # after all behaviour
    give_slots(made, inter)
    assert set(np.flatnonzero(made.slot)) == set(inter.item)
    give_slots(made, inter, slates=replace(shown, time=times))
    assert set(np.flatnonzero(made.slot)) == {*inter.item, *shown.item[shown.shown]}

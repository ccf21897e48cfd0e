"""Where the time of a training goes: what is entered for which part, and what is said about the input."""
import time
from types import SimpleNamespace

import numpy as np
import pytest

from tests.eagerly import eagerly
from tests.models import world
from tfrec.training.loop import Trainer, optimiser
from tfrec.training.profile import INPUT, OTHER, STEPS, TRACING, VALIDATION, PassProfile, Profile

ITEMS = world.catalogue(40)
INTER = world.interactions(ITEMS, users=16)


@eagerly()
def test_the_steps_of_a_training_are_entered_and_some_are_in_a_tensorboard_profile(tmp_path):
    profile = Profile(tmp_path / "profile")
    made = world.recommender(world.config(tmp_path, training={"batch_size": 12}, layers=0, history=4), stir=False)
    trainer = Trainer(made, INTER, np.ones(len(INTER), bool), prior_weights=made.prior.weights, one_shape=True)
    watched = PassProfile(profile, trainer.batches, traced=True)
    trainer.run(optimiser(made.config, learning_rate=0.01), epochs=range(2), callbacks=[watched.callback])
    watched.finish()
    assert profile.steps == len(profile.seconds[INPUT]) == 2 * trainer.steps > 3
    assert profile.seconds[STEPS][0] > 0 <= profile.seconds[TRACING][0]
    assert len(list((tmp_path / "profile").rglob("*.xplane.pb"))) == 1


def test_the_first_step_traces_while_its_batch_is_made():
    profile, batches = Profile(), SimpleNamespace(made=None)
    watched = PassProfile(profile, batches, traced=False)
    for batch, seconds in enumerate((0.2, 0.01, 0.01)):
        watched.callback.on_train_batch_begin(batch, {})
        time.sleep(seconds)
        batches.made(batch)  # as late as can be
        watched.callback.on_train_batch_end(batch, {})
    watched.finish()
    assert profile.seconds[INPUT] == pytest.approx([0, 0.01, 0.01], abs=0.01)
    assert profile.seconds[TRACING] == pytest.approx([0.2], abs=0.02)


@pytest.mark.parametrize(("making", "working", "said"), [(0.05, 0.01, "is a bottleneck. Raise training.batch_size"),
                                                         (0.0, 0.03, "is no bottleneck")])
def test_a_step_waits_as_long_as_its_batch_is_not_ready(making, working, said):
    """The first batch of each epoch is ready before its step begins, the others are not."""
    profile, batches = Profile(), SimpleNamespace(made=None)
    watched = PassProfile(profile, batches, traced=False)
    for epoch in range(2):
        watched.callback.on_epoch_begin(epoch, {})
        for batch in range(3):
            if batch == 0:
                batches.made(batch)
            watched.callback.on_train_batch_begin(batch, {})
            if batch > 0:
                time.sleep(making)
                batches.made(batch)
            time.sleep(working)
            watched.callback.on_train_batch_end(batch, {})
    watched.finish()
    assert sum(profile.seconds[INPUT]) == pytest.approx(4 * making, abs=0.02)
    assert sum(profile.seconds[STEPS]) + sum(profile.seconds[TRACING]) == pytest.approx(6 * working, abs=0.03)
    assert said in profile.report()["input"]


def test_the_parts_make_up_the_whole_and_the_first_validation_is_partly_tracing():
    profile = Profile()
    for seconds in (0.05, 0.01, 0.01):
        with profile.part(VALIDATION):
            time.sleep(seconds)
    found = {row["part"]: row for row in profile.report()["parts"]}
    assert found[VALIDATION]["seconds"] == pytest.approx(0.03, abs=0.02)
    assert found[TRACING]["seconds"] == pytest.approx(0.04, abs=0.02)
    assert found.keys() <= {VALIDATION, TRACING, OTHER}
    assert sum(float(row["share"].rstrip("%")) for row in found.values()) == pytest.approx(100, abs=0.5)


def test_nothing_trained_is_said():
    assert Profile().report()["input"] == "no step was taken"

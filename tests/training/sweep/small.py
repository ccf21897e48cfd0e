"""A sweep that takes seconds: 40 items, 16 users, and a model without layers."""
from pathlib import Path

from optuna.trial import FrozenTrial

from tests.models import world
from tfrec.config import Config
from tfrec.training.profile import Profile
from tfrec.training.sweep.search import ended, sweep
from tfrec.training.sweep.space import search_space
from tfrec.training.train import TrainingInputs

VARIED = ("training.learning_rate=1e-3..1e-1", "model.dropout=0..0.4")
ITEMS = world.catalogue(40)
INTER = world.interactions(ITEMS, users=16)


def config(run: Path) -> Config:
    return world.config(run, training={"epochs": 2, "batch_size": 64}, layers=0)


def inputs(run: Path) -> TrainingInputs:
    world.keep_vectors(config(run), ITEMS, world.text_vectors(40))
    return TrainingInputs.of(config(run), ITEMS, INTER, Profile())


def swept(run: Path, *, trials: int, varied: tuple[str, ...] = VARIED, restart: bool = False) -> list[FrozenTrial]:
    settings = config(run)
    world.keep_vectors(settings, ITEMS, world.text_vectors(40))
    return sweep(settings, ITEMS, INTER, search_space(settings, varied), trials=trials, restart=restart)


def results(trials: list[FrozenTrial]) -> list[tuple[dict[str, float], float | None]]:
    return [(trial.user_attrs["values"], trial.value) for trial in ended(trials)]

"""Training from scratch: `train` makes a recommender of a catalogue and behaviour, in two passes.

The first pass learns the older events and is validated on the newest (`training.validation_share`). It chooses how many epochs to
train and how much the popularity prior weighs. The second pass learns all events for that many epochs, since the newest
behaviour is the most telling and must not be left out. An interrupted training goes on from the last finished epoch.
"""
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.config import Config
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.user_table import UserTable, read_users
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.people.erasures import load_people
from tfrec.errors import DataError
from tfrec.models.context.request_features import warn_of_features
from tfrec.models.pretrained.checkpoint_files import fingerprint
from tfrec.models.prior_timeline import PriorTimeline
from tfrec.models.prior_weights import fit_weights, lean
from tfrec.models.recommender import Recommender, encode_catalogue
from tfrec.training.devices import choose_strategy, describe
from tfrec.training.early_stopping import EarlyStopping
from tfrec.training.encoder.joint import JointTrainer, loaded
from tfrec.training.loop import Trainer, optimiser
from tfrec.training.profile import PREPARATION, SAVING, TEXTS, VALIDATION, PassProfile, Profile
from tfrec.training.progress import bar
from tfrec.training.training_state import TrainingState, check_text
from tfrec.training.validation import Validation, Validator, best_beta

log = logging.getLogger(__name__)

PRIOR_SHARE = 0.4  # of the events, the newest: the popularity mixture is fitted on these


@dataclass(frozen=True)
class Trained:
    """A trained recommender and what training it took."""

    recommender: Recommender
    optimizer: Any  # a retrain goes on with its moments
    epochs: int
    seconds: float
    encode_seconds: float
    strategy: Any = field(default_factory=tf.distribute.get_strategy)  # in its scope the variables are


@dataclass(frozen=True)
class TrainingInputs:
    """What both passes learn from, and what the trials of a sweep share."""

    config: Config
    catalogue: Catalogue
    inter: Interactions
    text: npt.NDArray[np.float32]  # [n_items, text width]
    prior_weights: npt.NDArray[np.float64]
    users: UserTable = field(default_factory=dict)
    profile: Profile = field(default_factory=Profile)
    chosen: npt.NDArray[np.bool_] | None = None  # [n_events] those that validate; None: the newest share

    @classmethod
    def of(cls, config: Config, catalogue: Catalogue, inter: Interactions, profile: Profile,
           chosen: npt.NDArray[np.bool_] | None = None) -> "TrainingInputs":
        """Encode the texts that the run's cache lacks, fit the weights of the popularity mixture, and read the users file.

        Raises:
            DataError: there are too few events to hold some back for validation, or the users file cannot be used.
        """
        made = cls(config, catalogue, inter, np.zeros((0, 0), np.float32), np.zeros(0), profile=profile, chosen=chosen)
        learnt = int((~made.validates).sum())
        if learnt < 2 or learnt == len(inter):
            raise DataError(f"training needs at least {int(2 / config.training.validation_share)} events, got {len(inter)}.")
        if config.training.text != "frozen":
            loaded(config, catalogue)  # raises what it raises before the texts are read
        users = read_users(config.features, people=load_people(config, make_key=False))
        warn_of_features(config.features, [users.get(user, {}) for user in inter.users], where="users")
        with bar("reading texts", total=len(catalogue)) as advance, profile.part(TEXTS):
            text = encode_catalogue(config, catalogue.texts, advance=advance)
        with profile.part(PREPARATION):
            newest = {"start": int((1 - PRIOR_SHARE) * len(inter)), "stop": len(inter)}
            prior_weights = lean(inter, fit_weights(inter, **newest), **newest)
        return replace(made, text=text, prior_weights=prior_weights, users=users)

    @property
    def validates(self) -> npt.NDArray[np.bool_]:
        """Whether each event validates, `[n_events]`."""
        if self.chosen is not None:
            return self.chosen
        first = len(self.inter) - int(self.config.training.validation_share * len(self.inter))
        return np.arange(len(self.inter)) >= first

    @property
    def identity(self) -> str:
        """Digest of everything that the training is a function of."""
        sha = hashlib.sha256(f"{self.config.digest()}{self.catalogue.digest()}".encode())
        sha.update(repr(sorted(self.users.items())).encode() if self.users else b"")
        sha.update(b"" if self.config.training.text == "frozen" else fingerprint(self.config.text.encoder).encode())
        sha.update(b"" if self.chosen is None else self.chosen.tobytes())
        for column in (self.inter.user, self.inter.item, self.inter.time, self.inter.weight):
            sha.update(np.ascontiguousarray(column).tobytes())
        return sha.hexdigest()

    def start(self, targets: npt.NDArray[np.bool_]) -> tuple[Recommender, Trainer, Any]:
        """An untrained recommender, its trainer on the events in `targets`, and an optimiser."""
        with self.profile.part(PREPARATION):
            recommender = Recommender.build(self.config, self.catalogue, self.text, actions=self.inter.actions,
                                            users=self.users)
            trains = Trainer if self.config.training.text == "frozen" else JointTrainer
            trainer = trains(recommender, self.inter, targets, prior_weights=self.prior_weights)
        return recommender, trainer, optimiser(self.config, learning_rate=self.config.training.learning_rate)


def train(config: Config, catalogue: Catalogue, inter: Interactions, *, resume: bool = True,
          profile: Profile | None = None, validates: npt.NDArray[np.bool_] | None = None) -> Trained:
    """Train a recommender on all events of `inter`.

    Args:
        config: sizes, rates, and the run directory, where text vectors, training states and TensorBoard logs are kept.
        catalogue: the items, by which `inter` is coded.
        inter: behaviour in protocol order.
        resume: whether to go on with an interrupted training of the same data and configuration.
        profile: where the seconds of each part are entered.
        validates: `[len(inter)]`, the events that choose the number of epochs and are never learnt. By default the newest share
            of all events chooses, and is learnt afterwards.

    Raises:
        DataError: there are too few events to hold some back for validation, or the users file cannot be used.
        UsageError: `training.text` cannot be what it is, or is not that of the interrupted training.
        ModelError: the text encoder cannot be read, or cannot be trained so.
    """
    began = time.monotonic()
    if resume:
        check_text(config.run / "train", config.training.text)
    inputs = TrainingInputs.of(config, catalogue, inter, profile or Profile(), validates)
    encoded = time.monotonic()
    strategy = choose_strategy(config.training.device)
    log.info("training on %s: %d events, %d items", describe(strategy), len(inter), len(catalogue))
    with strategy.scope():
        state = TrainingState(config.run / "train", identity=inputs.identity, resume=resume, text=config.training.text)
        epochs, beta, sharpness = _choose(inputs, state)
        recommender, optimizer = _train_on_all(inputs, epochs, state)
    recommender.model.beta.assign(beta)
    recommender.model.sharpen(sharpness)  # a model that is too sure of itself explores too little
    recommender.timeline = PriorTimeline.of(inter, weights=inputs.prior_weights)
    recommender.prior = recommender.timeline.prior.copy()
    state.clear()
    log.info("trained %d epochs; popularity weighs %.2f, and scores are multiplied by %.1f", epochs, beta, sharpness)
    return Trained(recommender, optimizer, epochs, time.monotonic() - began, encoded - began, strategy)


def _choose(inputs: TrainingInputs, state: TrainingState) -> tuple[int, float, float]:
    """The number of epochs, beta, and how sharp scores should be."""
    if (known := state.result("choose")) is not None:
        return int(known["epochs"]), float(known["beta"]), float(known["sharpness"])
    curve = first_pass(inputs, state, log_dir=inputs.config.run / "tensorboard" / "choose")
    best = best_epoch(curve)
    beta, figures = best_beta(curve[max(best - 1, 0) : best + 2])
    log.info("NDCG@10 by weight of popularity, against 1: %s", figures)
    state.finish("choose", {"epochs": best + 1, "beta": beta, "sharpness": curve[best].sharpness})
    return best + 1, beta, curve[best].sharpness


def first_pass(inputs: TrainingInputs, state: TrainingState, *, log_dir: Path | None = None,
               report: Callable[[int, float], bool] | None = None) -> list[Validation]:
    """Train without the validation events until they are predicted no better; return the figures of each epoch.

    Args:
        inputs: what is learnt.
        state: of the training; the pass goes on from its last finished epoch.
        log_dir: where TensorBoard's logs go; None writes none.
        report: called with the number and the score of each epoch, also of those that are finished already; False ends the pass.
            The caller shows the progress then, and this function does not.
    """
    training = inputs.config.training
    recommender, trainer, optimizer = inputs.start(~inputs.validates)
    profile, watched = inputs.profile, PassProfile(inputs.profile, trainer.batches, traced=True)
    with profile.part(PREPARATION):
        validator = Validator(recommender, inputs.inter, inputs.validates, inputs.prior_weights)
    resumable = trainer.resumable(optimizer)
    first, saved = state.restore("choose", recommender, resumable)
    curve = [Validation(*epoch) for epoch in saved]
    stopping = EarlyStopping(patience=training.patience, scores=[epoch.log_likelihood for epoch in curve])

    def goes_on(epoch: int) -> bool:
        return report is None or report(epoch, curve[epoch].log_likelihood)

    def after(epoch: int, loss: float) -> bool:
        with profile.part(TEXTS):
            trainer.refresh()
        with profile.part(VALIDATION):
            recommender.model.average.swap()
            curve.append(validator.evaluate())
            recommender.model.average.swap()
        stopping.record(curve[-1].log_likelihood)
        if report is None:
            log.info("epoch %d: loss %.4f, validation log-likelihood %.4f%s", epoch + 1, loss, curve[-1].log_likelihood,
                     " *" if stopping.improved else "")
        with profile.part(SAVING):
            state.save("choose", recommender, resumable, epoch + 1, curve)
        return goes_on(epoch) and not stopping.should_stop

    if all(goes_on(epoch) for epoch in range(first)) and not stopping.should_stop and first < training.epochs:
        total = trainer.steps * (training.epochs - first)
        with bar("finding the number of epochs", total=total) if report is None else nullcontext() as advance:
            trainer.run(optimizer, epochs=range(first, training.epochs), advance=advance, after=after, log_dir=log_dir,
                        callbacks=[watched.callback])
        watched.finish()
    return curve


def best_epoch(curve: Sequence[Validation]) -> int:
    """The index of the epoch with the best score, the first of several equal ones."""
    return EarlyStopping(patience=1, scores=[epoch.log_likelihood for epoch in curve]).best


def _train_on_all(inputs: TrainingInputs, epochs: int, state: TrainingState) -> tuple[Recommender, Any]:
    """The second pass: train on all events that may be learnt. The weights are left at their moving average."""
    learnt = np.ones(len(inputs.inter), bool) if inputs.chosen is None else ~inputs.chosen
    recommender, trainer, optimizer = inputs.start(learnt)
    resumable = trainer.resumable(optimizer)
    first, curve = state.restore("fit", recommender, resumable)
    watched = PassProfile(inputs.profile, trainer.batches, traced=False)

    def after(epoch: int, loss: float) -> bool:
        with inputs.profile.part(SAVING):
            state.save("fit", recommender, resumable, epoch + 1, curve)
        return True

    with bar("training", total=trainer.steps * (epochs - first)) as advance:
        trainer.run(optimizer, epochs=range(first, epochs), advance=advance, after=after,
                    log_dir=inputs.config.run / "tensorboard" / "fit", callbacks=[watched.callback])
    watched.finish()
    trainer.finish()
    return recommender, optimizer


def checkpoint_dir(config: Config) -> Path:
    """Return where `tfrec train` writes its result."""
    return config.run / "checkpoint"

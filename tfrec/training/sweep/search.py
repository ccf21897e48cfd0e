"""The search: trials of settings, each one the first pass of a training, scored by how well it predicts the validation events.

Optuna keeps the trials in a SQLite file of the run directory. It draws settings by its tree-structured Parzen estimator (Bergstra
et al. 2011), and prunes a trial whose best score so far is below the median of the others at the same epoch. What is drawn is a
function of the seed and of the trials that have ended. So a sweep that was killed goes on as if it had not been: the trial that
was running draws the same settings again, and goes on from its last finished epoch.
"""
import gc
import hashlib
import json
import logging
import math
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from tfrec.config import Config, SweepConfig
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.file_lock import held
from tfrec.data.items.catalogue import Catalogue
from tfrec.errors import TfrecError
from tfrec.training.devices import choose_strategy
from tfrec.training.profile import Profile
from tfrec.training.progress import bar
from tfrec.training.sweep.space import Choices, Scalar, Space, Span, present, settled
from tfrec.training.train import TrainingInputs, best_epoch, first_pass
from tfrec.training.training_state import TrainingState

log = logging.getLogger(__name__)

DRAWN = 10  # trials that are drawn by chance before the estimator has something to go by
UNPRUNED = 5  # trials that are not pruned, so that there is a median
ATTEMPTS = 3  # a trial that the system ends so often, as for want of memory, is given up
GIVEN_UP = "given_up"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
# sections that no trial depends on
IRRELEVANT = ("run", "data", "sweep", "tuning", "retrain", "serving", "gateway", "ingest")


def sweep(config: Config, catalogue: Catalogue, inter: Interactions, space: Space, *, trials: int,
          restart: bool = False) -> list[FrozenTrial]:
    """Run trials until there are `trials` of them, those of earlier calls included.

    Args:
        config: of the run, in whose directory `sweep` the trials are kept. Nothing else in it is written but text vectors.
        catalogue: the items, by which `inter` is coded.
        inter: behaviour in protocol order.
        space: which settings are varied.
        trials: how many.
        restart: forget the trials of earlier calls.

    Returns:
        What the file has; `ended` tells those that count.

    Raises:
        TfrecError: another sweep of this run is at work.
        DataError: there are too few events.
    """
    directory = config.run / "sweep"
    with _alone(directory), _storage(directory / "trials.sqlite3") as storage:
        inputs = TrainingInputs.of(config, catalogue, inter, Profile())
        study = _study(storage, _identity(inputs, space), restart)
        _end_interrupted(study, storage)
        began, before = time.monotonic(), len(ended(_trials(study)))
        with choose_strategy(config.training.device).scope(), bar("trials", total=trials) as advance:
            advance(before)
            while (done := len(ended(_trials(study)))) < trials:
                _Trial(study, inputs, space, done).run(directory / "trial")
                advance(1)
                gc.collect()  # models are cycles of few objects and much memory, which Python would keep for several trials
                _tell(ended(_trials(study)), trials, seconds=(time.monotonic() - began) / (done + 1 - before))
        shutil.rmtree(directory / "trial", ignore_errors=True)
        return study.get_trials()


def ended(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count, in order: an interrupted one does not, until it is given up."""
    return [t for t in trials if t.state in ENDED or GIVEN_UP in t.user_attrs]


def _trials(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False)


@dataclass
class _Trial:
    """One trial: its settings are drawn, and the first pass of a training scores them."""

    study: optuna.Study
    inputs: TrainingInputs
    space: Space
    number: int

    def run(self, directory: Path) -> None:
        began, config = time.monotonic(), self.inputs.config
        trial = self._drawn()
        now = _present(config, self.space)
        values = {name: value if value == now[name] else self.space[name].rounded(value) for name, value in trial.params.items()}
        tried = settled(config, values).model_copy(update={"run": directory, "sweep": SweepConfig()})
        pruned = False

        def report(epoch: int, score: float) -> bool:
            nonlocal pruned
            if math.isfinite(score):
                trial.report(score, epoch)
            pruned = not math.isfinite(score) or trial.should_prune()  # of a loss that is not finite nothing comes any more
            return not pruned

        inputs = replace(self.inputs, config=tried)
        curve = first_pass(inputs, TrainingState(directory, identity=inputs.identity, resume=True), report=report)
        best = best_epoch(curve)
        for name, value in {"values": values, "epochs": best + 1, "seconds": time.monotonic() - began,
                            "present": values == now}.items():
            trial.set_user_attr(name, value)
        if pruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, curve[best].log_likelihood)

    def _drawn(self) -> optuna.Trial:
        """A trial with its settings. The first one has the present settings, if they are within the space."""
        now = _present(self.inputs.config, self.space)
        waits = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if self.number == 0 and not waits and all(self.space[name].has(value) for name, value in now.items()):
            self.study.enqueue_trial(now)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `multivariate`
            seed = self.inputs.config.training.seed + 1_000_003 * self.number
            self.study.sampler = optuna.samplers.TPESampler(n_startup_trials=DRAWN, multivariate=True, seed=seed % 2**32)
        return self.study.ask({name: _distribution(values) for name, values in self.space.items()})


def _present(config: Config, space: Space) -> dict[str, Scalar]:
    return {name: present(config, name) for name in space}


def _distribution(values: Span | Choices) -> BaseDistribution:
    if isinstance(values, Choices):
        return CategoricalDistribution(values.values)
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.by_logarithm)
    return FloatDistribution(values.low, values.high, log=values.by_logarithm)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    with held(directory / "lock", wait=False) as is_held:
        if not is_held:
            raise TfrecError(f"{directory}: another sweep of this run is at work. Wait until it has ended.")
        yield


@contextmanager
def _storage(file: Path) -> Iterator[optuna.storages.RDBStorage]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{quote(str(file))}")
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _study(storage: optuna.storages.BaseStorage, identity: str, restart: bool) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = {study.study_name for study in optuna.get_all_study_summaries(storage, include_best_trial=False)}
    if restart and identity in known:
        optuna.delete_study(study_name=identity, storage=storage)
    elif known and identity not in known:
        log.warning("the data, the settings or the search space differ from those of the last sweep: a new one begins")
    pruner = optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED, n_warmup_steps=1)
    return optuna.create_study(storage=storage, study_name=identity, direction="maximize", pruner=pruner, load_if_exists=True)


def _identity(inputs: TrainingInputs, space: Space) -> str:
    """Digest of everything that the scores are a function of, the varied settings and those of the machine apart."""
    same: dict[str, Any] = inputs.config.model_dump(mode="json", exclude={*IRRELEVANT})
    for name in (*space, "training.device", "training.jit_compile"):
        section, _, last = name.partition(".")
        del same[section][last]
    plain = Config()
    data = replace(inputs, config=plain).identity
    return hashlib.sha256(json.dumps([data, same, repr(sorted(space.items()))], sort_keys=True).encode()).hexdigest()


def _end_interrupted(study: optuna.Study, storage: optuna.storages.BaseStorage) -> None:
    """What is still running in the file was ended from outside, as there is no other sweep. It does not count."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        earlier = _trials(study)[: trial.number]
        attempts = [t.state == TrialState.FAIL and GIVEN_UP not in t.user_attrs for t in earlier[-(ATTEMPTS - 1):]]
        if len(attempts) == ATTEMPTS - 1 and all(attempts):
            log.warning("a trial was ended %d times from outside, and is given up: %s", ATTEMPTS, trial.params)
            study_id = storage.get_study_id_from_name(study.study_name)
            trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
            storage.set_trial_user_attr(trial_id, GIVEN_UP, True)
        study.tell(trial.number, state=TrialState.FAIL)


def _tell(over: list[FrozenTrial], trials: int, *, seconds: float) -> None:
    """A line about the last trial, and the time that is left."""
    scores = [t.value for t in over if t.value is not None and t.state == TrialState.COMPLETE]
    score = "pruned" if over[-1].state == TrialState.PRUNED else f"{over[-1].value:.4f}"
    best = f"best {max(scores):.4f}" if scores else "none complete"
    log.info("trial %d of %d: %s (%s), about %.0f min left: %s", len(over), trials, score, best,
             seconds * (trials - len(over)) / 60, over[-1].user_attrs.get("values"))

"""Gives a promoted version to a share of the users first, and promotes it or takes it back as the log says.

The gate of a retrain has let the version through on past data. Here it is the arm `canary` of an experiment beside the stable
version, at most one at a time, and is judged at each run of the job:

    better, or no worse            it becomes the stable version
    worse, or shares that are off  it is taken back: the stable version is published again, from which the next retrain goes on
    open for too long              the same: what cannot be told apart is not worth the risk

What is decided is one file, which is replaced whole: the experiments and the version that each label denotes. The model server's
file is brought in line with it afterwards, and again at the beginning of each run, so that a kill at any instant leaves at most
labels that are a step behind: the gateway then asks for a label that is not served, and the stable version answers.
"""
import logging
from typing import NamedTuple

from tfrec.config import Config
from tfrec.config.experiment import CANARY, Arm, Trial
from tfrec.data.readers.quarantine import Quarantine
from tfrec.experiments.report import DAY, judged, settled_now
from tfrec.experiments.state import ExperimentState, Started, StateFile
from tfrec.experiments.verdict import Judged, Verdict
from tfrec.release.manifest import read_manifest
from tfrec.release.publish import rollback, versions
from tfrec.release.shared_versions import store_of
from tfrec.rollout.labels import labels_in_file, write_labels

STABLE = "stable"  # the arm beside the canary
PROMOTE = frozenset({Verdict.BETTER, Verdict.HARMLESS})
log = logging.getLogger(__name__)


class _Newest(NamedTuple):
    """The newest published version."""

    version: int
    original: int  # the version whose files these are: itself, unless it is a rollback
    replaced: int | None  # the version that a rollback replaced


def judge_canary(config: Config, *, now: int, quarantine: Quarantine | None = None) -> None:
    """End the canary that runs if the log has decided, or if somebody has rolled it back, and bring the labels in line.

    Args:
        config: of the run; nothing happens where `experiment.canary` is 0.
        now: seconds since 1970.
        quarantine: takes rows of the log that cannot be used.

    Raises:
        UsageError: the model server's file cannot be used.
        DataError: the log cannot be read.
    """
    if not config.experiment.canary:
        return
    file = StateFile(config.run)
    state = _known_labels(config, file)
    write_labels(config, state.labels)
    one = state.find(CANARY)
    if one is None or one.version is None:
        return
    newest = _newest(config)
    if one.verdict:  # a run was killed while it took the canary back
        _take_back(config, file, one, now, one.verdict)
    elif newest.replaced is not None and newest.replaced >= one.version:
        _end(config, file, one, now, "rolled back", stable=_stable_after_rollback(config, state, newest))
    else:
        _judge(config, file, one, now, quarantine)


def begin_canary(config: Config, *, now: int) -> None:
    """Let the newest version be the canary, unless there is one, or it is the stable version.

    A version that somebody rolled back to is the stable version at once.

    Raises:
        UsageError: the model server's file cannot be used.
    """
    if not config.experiment.canary:
        return
    file = StateFile(config.run)
    state = _known_labels(config, file)
    newest = _newest(config)
    stable = state.labels[config.gateway.stable_label]
    if state.find(CANARY) is None and newest.version > stable:
        if newest.replaced is not None:
            stable = _stable_after_rollback(config, state, newest)
            state = file.change(lambda state: _with_labels(state, {config.gateway.stable_label: stable}))
        else:
            state = file.change(lambda state: _begun(config, state, newest.version, now))
    write_labels(config, state.labels)


def _judge(config: Config, file: StateFile, one: Started, now: int, quarantine: Quarantine | None) -> None:
    settled = settled_now(config, now=now, quarantine=quarantine)
    verdict = judged(one, settled, past_days=config.experiment.past_days).verdicts[CANARY]
    if verdict.verdict in PROMOTE:
        assert one.version is not None
        _end(config, file, one, now, f"promoted: {verdict.words}", stable=one.version)
    elif why := _reason_to_take_back(config, one, verdict, now):
        _take_back(config, file, one, now, f"taken back: {why}")
    else:
        log.info("the canary, version %s, %s", one.version, verdict.words)


def _take_back(config: Config, file: StateFile, one: Started, now: int, verdict: str) -> None:
    """Publish the stable version again and end the canary; what was decided is on disk before anything is done."""
    state = file.change(lambda state: state.with_decided(one, verdict))
    stable = state.labels[config.gateway.stable_label]
    rollback(config.models_dir, stable, now=now, store=store_of(config))  # one that was done before a kill is not done again
    _end(config, file, one, now, verdict, stable=stable)


def _reason_to_take_back(config: Config, one: Started, verdict: Judged, now: int) -> str:
    if verdict.verdict in (Verdict.WORSE, Verdict.BROKEN):
        return verdict.words
    if now - one.since >= config.experiment.canary_days * DAY:
        return f"undecided after {config.experiment.canary_days} days: {verdict.words}"
    return ""


def _begun(config: Config, state: ExperimentState, version: int, now: int) -> ExperimentState:
    """With a canary, unless there is one, or an experiment of somebody's own is on versions."""
    if others := [one.id for one in state.running if "label" in one.trial.settings]:
        log.info("version %d is not tried yet: %s compares versions. Stop it to let it be the canary", version, others[0])
        return state
    share = config.experiment.canary
    arms = {STABLE: Arm(share=1 - share, label=config.gateway.stable_label),
            CANARY: Arm(share=share, label=config.gateway.canary_label)}
    one = Started(name=CANARY, number=state.last + 1, trial=Trial(arms=arms), level=config.experiment.level,
                  effect=config.experiment.effect, since=now, version=version)
    labels = {config.gateway.stable_label: state.labels[config.gateway.stable_label], config.gateway.canary_label: version}
    return _with_labels(state.with_started(one), labels)


def _end(config: Config, file: StateFile, one: Started, now: int, verdict: str, *, stable: int) -> None:
    def ended(state: ExperimentState) -> ExperimentState:
        return _with_labels(state.with_ended(one.ended(now, verdict)), {config.gateway.stable_label: stable})

    state = file.change(ended)
    write_labels(config, state.labels)
    log.info("the canary, version %s, was %s", one.version, verdict)


def _known_labels(config: Config, file: StateFile) -> ExperimentState:
    """The state with the stable version: at first that of the model server's file or, where it has none, the newest."""
    label = config.gateway.stable_label
    state = file.read()
    if label in state.labels:
        return state
    stable = labels_in_file(config).get(label, versions(config.models_dir)[-1])
    return file.change(lambda state: state if label in state.labels else _with_labels(state, {label: stable}))


def _with_labels(state: ExperimentState, labels: dict[str, int]) -> ExperimentState:
    return state.model_copy(update={"labels": labels})


def _newest(config: Config) -> _Newest:
    version = versions(config.models_dir)[-1]
    manifest = read_manifest(config.models_dir / str(version))
    return _Newest(version, manifest.copy_of or version, manifest.rolled_back_from)


def _stable_after_rollback(config: Config, state: ExperimentState, newest: _Newest) -> int:
    """The stable version stays where it was rolled back to; else the rollback is the stable version."""
    stable = state.labels[config.gateway.stable_label]
    directory = config.models_dir / str(stable)
    original = read_manifest(directory).copy_of or stable if directory.is_dir() else None
    return stable if original == newest.original else newest.version


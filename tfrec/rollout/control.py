"""Starts and stops experiments of the configuration. What cannot tell anything is refused, with what to do about it."""
from typing import Any

from tfrec.config import Config
from tfrec.config.experiment import CANARY, Arm, Trial
from tfrec.errors import UsageError
from tfrec.experiments.state import ExperimentState, Started, StateFile
from tfrec.nearest import nearest
from tfrec.release.retention import named_labels


def start(config: Config, name: str, *, now: int) -> Started:
    """Start a trial of `experiment.trials`. Gateways of this run directory take it up within a second or two.

    Raises:
        UsageError: there is no such trial, it runs already, another one that runs changes the same setting, an arm names a label
            that no version has, or two arms do the same.
    """
    trial = config.experiment.trials.get(name)
    if trial is None:
        known = list(config.experiment.trials)
        raise UsageError(f"there is no experiment {name!r}{nearest(name, known)}. The configuration has "
                         f"{', '.join(known) or 'none: add [experiment.trials.NAME.arms]'}.")
    _check_arms(config, name, trial)
    _check_labels(config, name, trial)

    def started(state: ExperimentState) -> ExperimentState:
        for other in state.running:
            if other.name == name:
                raise UsageError(f"{name} runs already, as {other.id}. Stop it first: tfrec experiment stop {name}.")
            if trial.kind == other.trial.kind == "interleave":
                raise UsageError(f"{name} interleaves two rankings, as does {other.id}, which runs: an answer has room for two. "
                                 f"Stop the other one first: tfrec experiment stop {other.name}.")
            if both := sorted(other.trial.settings & trial.settings):
                raise UsageError(f"{name} and {other.id}, which runs, both change {both[0]!r}: one setting can be in one "
                                 f"experiment at a time. Stop the other one first: tfrec experiment stop {other.name}.")
        return state.with_started(Started(name=name, number=state.last + 1, trial=trial, level=config.experiment.level,
                                          effect=config.experiment.effect, since=now))

    found = StateFile(config.run).change(started).find(name)
    assert found is not None
    return found


def stop(config: Config, name: str, *, now: int, verdict: str = "stopped") -> Started:
    """Stop an experiment: from now on all users get what is configured.

    Raises:
        UsageError: it does not run.
    """
    if name == CANARY:
        raise UsageError("the canary is ended by the retrain job. To take its version back: tfrec rollback, then tfrec retrain.")

    def stopped(state: ExperimentState) -> ExperimentState:
        one = state.find(name)
        if one is None:
            running = [other.name for other in state.running]
            raise UsageError(f"{name!r} does not run{nearest(name, running)}. What runs: {', '.join(running) or 'nothing'}.")
        return state.with_ended(one.ended(now, verdict))

    return StateFile(config.run).change(stopped).ended[-1]


def _check_arms(config: Config, name: str, trial: Trial) -> None:
    effective: dict[str, str] = {}
    for arm_name, arm in trial.arms.items():
        policy = arm.policy or config.gateway.policy
        other_policy = {"alpha"} if policy == "plackett_luce" else {"temperature", "epsilon"}
        if unread := other_policy & arm.settings.keys():
            raise UsageError(f"{name}: the arm {arm_name!r} sets {min(unread)!r}, which the policy {policy!r} does not read.")
        if strange := set(arm.head_weights or ()) - set(config.ranker.names):
            heads = ", ".join(config.ranker.names) or "none"
            raise UsageError(f"{name}: the arm {arm_name!r} weighs {min(strange)!r}, which is none of ranker.heads: {heads}.")
        does = repr(_effective(config, arm))
        if (other := effective.setdefault(does, arm_name)) != arm_name:
            raise UsageError(f"{name}: the arms {other!r} and {arm_name!r} do the same, as what one of them sets is what is "
                             "configured. There is nothing to find out.")


def _effective(config: Config, arm: Arm) -> dict[str, Any]:
    usual = {"label": config.gateway.stable_label, "explore": config.gateway.explore, "policy": config.gateway.policy,
             "temperature": config.gateway.temperature, "epsilon": config.gateway.epsilon, "alpha": config.gateway.alpha,
             "diversity": 0.0, "head_weights": None}
    found = usual | arm.settings
    drawn_by = ("temperature", "epsilon") if found["policy"] == "plackett_luce" else ("alpha",)
    return {setting: value for setting, value in found.items()
            if setting not in ("temperature", "epsilon", "alpha") or setting in drawn_by}


def _check_labels(config: Config, name: str, trial: Trial) -> None:
    labels = {arm_name: arm.label for arm_name, arm in trial.arms.items() if arm.label}
    if not labels:
        return
    if config.gateway.canary_share:
        raise UsageError(f"{name} changes 'label', as does gateway.canary_share: one setting can be in one experiment at a time. "
                         "Set gateway.canary_share to 0.")
    if config.serving.models_config is None:
        raise UsageError(f"{name} has arms with labels, and only the model server's configuration says which versions those are. "
                         "Set serving.models_config to that file.")
    named = named_labels(config)
    for arm_name, label in labels.items():
        if label not in named:
            there = ", ".join(sorted(named)) or "none"
            raise UsageError(f"{name}: the arm {arm_name!r} asks for {label!r}, a label that no version has"
                             f"{nearest(label, named)}. {config.serving.models_config} names {there}.")

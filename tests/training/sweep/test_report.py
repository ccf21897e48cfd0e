"""What is said of trials: the best settings as lines that can be pasted, what they gain, and what mattered."""
import io
import tomllib

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial
from rich.console import Console

from tfrec.training.sweep.report import report

RANGES = {"training.learning_rate": FloatDistribution(0.0, 1.0), "model.dropout": FloatDistribution(0.0, 1.0)}


def trials_of(complete: int, *, pruned: int = 0, present: int = 0) -> list[FrozenTrial]:
    """Trials whose score is their learning rate; their dropout means nothing."""
    found = []
    for n in range(complete + pruned):
        values = {"training.learning_rate": (n * 7 % 30) / 30, "model.dropout": (n * 11 % 30) / 30}
        attrs = {"values": values, "epochs": 3, "seconds": 2.0, "present": n == present}
        state = optuna.trial.TrialState.COMPLETE if n < complete else optuna.trial.TrialState.PRUNED
        found.append(optuna.create_trial(
            state=state, params=values, distributions=RANGES, user_attrs=attrs,
            intermediate_values={0: values["training.learning_rate"]},
            value=values["training.learning_rate"] if n < complete else None))
    return found


def printed(trials: list[FrozenTrial]) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(report(trials))
    return console.file.getvalue()


def test_the_best_settings_are_toml_and_what_mattered_is_found():
    found = report(trials_of(20, pruned=10))
    assert (found.trials, found.pruned, found.given_up) == (30, 10, 0)
    assert found.best.score == max(result.score for result in found.top) == found.best.settings["training.learning_rate"]
    assert tomllib.loads(found.toml) == {"training": {"learning_rate": found.best.settings["training.learning_rate"]},
                                         "model": {"dropout": found.best.settings["model.dropout"]}}
    assert list(found.importance) == ["training.learning_rate", "model.dropout"]
    assert sum(found.importance.values()) == pytest.approx(1, abs=1e-3)
    assert found.importance["training.learning_rate"] > 0.6
    assert found.to_dict()["toml"] == found.toml
    assert len(found.top) == 10


def test_the_gain_over_the_present_settings_is_said():
    found = report(trials_of(20))
    assert found.present.score == 0.0
    text = printed(trials_of(20))
    assert "20 trials, of which 0 were pruned" in text
    assert f"The best score is {found.best.score:.4f}, {found.best.score:.4f} above that of the present settings" in text
    assert "0.0000 (present)" not in text  # not among the best ten
    best = max(range(20), key=lambda n: n * 7 % 30)
    assert "that of the present settings, after 3 epochs" in printed(trials_of(20, present=best))
    assert "present" not in printed(trials_of(20, present=-1))


def test_few_trials_say_nothing_of_what_mattered_and_none_complete_nothing_at_all():
    assert report(trials_of(5)).importance == {}
    assert "What mattered cannot be said from fewer than 12 trials." in printed(trials_of(5))
    nothing = report(trials_of(0, pruned=3))
    assert (nothing.best, nothing.present, nothing.toml, nothing.top) == (None, None, "", [])
    assert "None is complete: widen the ranges, or run more trials." in printed(trials_of(0, pruned=3))


def test_a_trial_without_any_score_is_no_obstacle():
    trials = trials_of(15)
    trials.append(optuna.create_trial(state=optuna.trial.TrialState.PRUNED, params={}, distributions={}))
    assert report(trials).trials == 16
    assert report(trials).importance

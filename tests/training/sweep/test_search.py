"""Trials: how many there are, what a kill costs, what is pruned, and what a sweep leaves as it was."""
import math
import sys
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState

from tests.eagerly import eagerly
from tests.forked import Forks
from tests.training.sweep import small
from tfrec.errors import TfrecError
from tfrec.training.sweep import search
from tfrec.training.sweep.report import report
from tfrec.training.sweep.search import ended
from tfrec.training.train import first_pass
from tfrec.training.training_state import TrainingState
from tfrec.training.validation import Validation

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[FrozenTrial]:
    """Three trials that nothing interrupted."""
    with eagerly():
        return small.swept(tmp_path_factory.mktemp("whole"), trials=3)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """Nothing is trained: the curve of a trial is its learning rate less a bit, and then its learning rate."""
    tried = []

    def quick(inputs, state, *, report):
        rate = inputs.config.training.learning_rate
        tried.append(inputs.config)
        curve = []
        for epoch, score in enumerate((rate - 0.001, rate)):
            curve.append(Validation(score, []))
            if not report(epoch, score):
                break
        return curve

    monkeypatch.setattr(search, "first_pass", quick)
    return tried


def test_the_first_trial_has_the_present_settings(whole):
    first, *others = ended(whole)
    assert first.user_attrs["values"] == {"training.learning_rate": 4e-3, "model.dropout": 0.2}
    assert [first.user_attrs["present"], *(t.user_attrs["present"] for t in others)] == [True, False, False]
    assert all(0.001 <= t.user_attrs["values"]["training.learning_rate"] <= 0.1 for t in others)
    assert len({t.params["model.dropout"] for t in ended(whole)}) == 3


@pytest.mark.parametrize(("when", "count"), [("epoch", 3), ("tell", 2)])
def test_a_sweep_that_is_killed_has_the_trials_of_one_that_is_not(whole, forks: Forks, tmp_path, when, count):
    """Killed within its second trial, to go on in its middle; and after it, before its result was kept."""
    words = [str(Path(__file__).parent / "killed.py"), str(tmp_path), "3", when, str(count)]
    ended_by = forks.run([sys.executable, *words], timeout=120, env={"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"})
    assert ended_by.returncode == -9, ended_by.stderr
    with eagerly():
        trials = small.swept(tmp_path, trials=3)
    states = [t.state for t in trials]
    assert states.count(TrialState.FAIL) == 1
    assert len(states) == 4
    assert TrialState.RUNNING not in states
    assert [values for values, _ in small.results(trials)] == [values for values, _ in small.results(whole)]
    assert [value for _, value in small.results(trials)] == pytest.approx([value for _, value in small.results(whole)], abs=1e-4)


def test_a_trial_is_scored_by_the_validation_of_its_first_pass(whole, tmp_path):
    (values, value), *_ = small.results(whole)
    with eagerly():
        inputs = small.inputs(tmp_path)
        curve = first_pass(inputs, TrainingState(tmp_path / "t", identity="x", resume=False))
    assert max(epoch.log_likelihood for epoch in curve) == pytest.approx(value, abs=1e-4)


def test_a_sweep_touches_nothing_but_its_directory(tmp_path, scored):
    for name in ("checkpoint", "models", "export", "train"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    small.swept(tmp_path, trials=1)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"checkpoint/mine", "models/mine", "export/mine", "train/mine", "text_vectors.npz", "sweep/lock",
                    "sweep/trials.sqlite3"}
    assert [config.run for config in scored] == [tmp_path / "sweep" / "trial"]


def test_more_trials_go_on_and_as_many_as_there_are_do_nothing(tmp_path, scored):
    first = small.results(small.swept(tmp_path, trials=3))
    assert small.results(small.swept(tmp_path, trials=3)) == small.results(small.swept(tmp_path, trials=2)) == first
    assert len(scored) == 3
    more = small.results(small.swept(tmp_path, trials=5))
    assert (more[:3], len(more), len(scored)) == (first, 5, 5)


def test_another_space_or_a_restart_begins_anew(tmp_path, scored, caplog):
    small.swept(tmp_path, trials=2)
    other = small.swept(tmp_path, trials=2, varied=("model.dropout=0..0.3",))
    assert "a new one begins" in caplog.text
    assert (len(ended(other)), len(scored)) == (2, 4)
    assert len(ended(small.swept(tmp_path, trials=2))) == 2
    assert len(scored) == 4  # the first one is still known
    small.swept(tmp_path, trials=2, restart=True)
    assert len(scored) == 6


def test_what_is_far_behind_is_pruned_and_what_diverges_as_well(tmp_path, monkeypatch):
    lengths = []

    def worse_and_worse(inputs, state, *, report):
        curve = []
        for epoch in range(4):
            score = math.nan if len(lengths) == 7 else -float(len(lengths))
            curve.append(Validation(score, []))
            if not report(epoch, score):
                break
        lengths.append(len(curve))
        return curve

    monkeypatch.setattr(search, "first_pass", worse_and_worse)
    trials = small.swept(tmp_path, trials=8)
    assert lengths == [4, 4, 4, 4, 4, 2, 2, 1]
    found = report(trials)
    assert (found.trials, found.pruned, found.best) == (8, 3, found.present)


def test_a_trial_that_is_ended_from_outside_again_and_again_is_given_up(tmp_path, scored, monkeypatch):
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    quick = search.first_pass
    small.swept(tmp_path, trials=1)
    monkeypatch.setattr(search, "first_pass", killed)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            small.swept(tmp_path, trials=3)
    monkeypatch.setattr(search, "first_pass", quick)
    trials = small.swept(tmp_path, trials=3)
    assert [t.state.name for t in trials] == ["COMPLETE", "FAIL", "FAIL", "FAIL", "COMPLETE"]
    drawn = [t.params for t in trials]
    assert drawn[1] == drawn[2] == drawn[3] != drawn[4]
    found = report(trials)
    assert (found.trials, found.given_up) == (3, 1)


def test_two_sweeps_of_a_run_are_not_at_work_at_once(tmp_path, monkeypatch):
    def another(*_: object, **__: object) -> None:
        small.swept(tmp_path, trials=1)

    monkeypatch.setattr(search, "first_pass", another)
    with pytest.raises(TfrecError, match="another sweep of this run is at work. Wait until it has ended."):
        small.swept(tmp_path, trials=1)


def test_a_directory_may_have_any_name(tmp_path, scored):
    trials = small.swept(tmp_path / "a b#?%41", trials=1)
    assert (tmp_path / "a b#?%41" / "sweep" / "trials.sqlite3").is_file()
    assert len(ended(trials)) == 1

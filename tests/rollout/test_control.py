"""Starting and stopping, and what is refused with which words."""
import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.docs.pages import block
from tests.release.test_retention import models_config
from tfrec.cli.app import app
from tfrec.config import Config, load_config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.records import Outcome
from tfrec.errors import ConfigError, UsageError
from tfrec.experiments.state import StateFile
from tfrec.rollout.control import start, stop

WARMER = {"plain": {"share": 0.5}, "warm": {"share": 0.5, "temperature": 1.0}}


def config_of(run: Path, trials: dict[str, Any], **settings: Any) -> Config:
    return Config.model_validate({"run": run, "experiment": {"trials": {name: {"arms": arms} for name, arms in trials.items()}},
                                  **settings})


def test_an_experiment_is_started_with_its_arms_and_stopped(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"warmer": WARMER})
    one = start(config, "warmer", now=5)
    assert (one.id, one.since, one.until, list(one.trial.arms)) == ("warmer.1", 5, None, ["plain", "warm"])
    # what runs does not change with the configuration
    assert start(config_of(tmp_path, {"other": {"a": {"share": 0.1}, "b": {"share": 0.1, "diversity": 0.2}}}), "other",
                 now=6).id == "other.2"
    assert stop(config, "warmer", now=9).until == 9
    state = StateFile(tmp_path).read()
    assert ([one.id for one in state.running], [one.id for one in state.ended]) == (["other.2"], ["warmer.1"])
    assert start(config, "warmer", now=10).id == "warmer.3"


@pytest.mark.parametrize(("name", "words"), [
    ("warmr", r"there is no experiment 'warmr' \(nearest: 'warmer'\)"),
    ("warmer", r"warmer runs already, as warmer\.1\. Stop it first: tfrec experiment stop warmer"),
    ("hotter", r"hotter and warmer\.1, which runs, both change 'temperature'"),
    ("same", r"the arms 'a' and 'b' do the same, as what one of them sets is what is configured"),
    ("unread", r"the arm 'b' sets 'alpha', which the policy 'plackett_luce' does not read"),
    ("weighs", r"the arm 'b' weighs 'buy', which is none of ranker\.heads: none"),
    ("labelled", r"labelled has arms with labels, and only the model server's configuration says .* Set serving\.models_config"),
])
def test_what_cannot_tell_anything_is_refused(tmp_path: Path, name: str, words: str) -> None:
    other: dict[str, dict[str, object]] = {
        "hotter": {"temperature": 2.0}, "same": {"epsilon": 0.05}, "unread": {"alpha": 2.0},
        "weighs": {"head_weights": {"buy": 1}}, "labelled": {"label": "canary"}}
    trials = {one: {"a": {"share": 0.5}, "b": {"share": 0.5, **arm}} for one, arm in other.items()}
    config = config_of(tmp_path, {"warmer": WARMER, **trials})
    start(config, "warmer", now=1)
    before = StateFile(tmp_path).read()
    with pytest.raises(UsageError, match=words):
        start(config, name, now=2)
    assert StateFile(tmp_path).read() == before


def test_arms_name_labels_that_versions_have(tmp_path: Path) -> None:
    file = models_config(tmp_path / "models.config", Path("/srv/run/models/tfrec"), specific=[1, 2],
                         labels={"stable": 1, "new": 2})
    arms = {"old": {"share": 0.5, "label": "stable"}, "new": {"share": 0.5, "label": "nwe"}}
    where = {"serving": {"models_config": file}}
    with pytest.raises(UsageError, match=r"the arm 'new' asks for 'nwe', a label that no version has \(nearest: 'new'\)"):
        start(config_of(tmp_path, {"versions": arms}, **where), "versions", now=1)
    arms["new"]["label"] = "new"
    with pytest.raises(UsageError, match=r"versions changes 'label', as does gateway\.canary_share"):
        start(config_of(tmp_path, {"versions": arms}, gateway={"canary_share": 0.1}, **where), "versions", now=1)
    assert start(config_of(tmp_path, {"versions": arms}, **where), "versions", now=1).number == 1


def test_only_what_runs_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'warmer' does not run\. What runs: nothing\."):
        stop(config_of(tmp_path, {"warmer": WARMER}), "warmer", now=1)


@pytest.mark.parametrize(("trial", "words"), [
    ('arms.a = {share = 0.6}\narms.b = {share = 0.5, epsilon = 0.1}', "shares add up to 1.1: there are no more users than all"),
    ('arms.a = {share = 0.6}', "of the kind 'split' must have at least 2 arms, got 1"),
    ('arms.a = {share = 0.1}\narms.b = {share = 0.2}', "the arms 'a' and 'b', between which there is no difference: they set"),
    ('arms.a = {share = 0}\narms.b = {share = 0.2}', "arms.a.share must be greater than 0"),
    ('arms."A b" = {share = 0.1}\narms.b = {share = 0.2, alpha = 1}', "has the name 'A b', which must be 1 to 40 of a-z"),
    ('arms.a = {share = 0.1}\narms.b = {share = 0.2, tempreature = 1}', "there is no setting"),
    ('kind = "interleave"\narms.a = {share = 0.1}\narms.b = {share = 0.2, alpha = 1}', "must have arms of one share"),
])
def test_a_wrong_trial_is_refused_when_the_configuration_is_read(tmp_path: Path, trial: str, words: str) -> None:
    (tmp_path / "c.toml").write_text(f"[experiment.trials.one]\n{trial}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.toml")
    assert words in str(caught.value)


def test_the_commands_of_the_documentation(tmp_path: Path) -> None:
    run = f'run = "{tmp_path / "run"}"\n'
    (tmp_path / "shop.toml").write_text(run + block("docs/experiments.md", "[experiment.trials.warmer").text)
    (tmp_path / "run").mkdir()
    FeedbackLog(tmp_path / "run" / "log").append("outcomes", [(1, Outcome(
        event_id="e", user="u", item="i", action="click", time=1).model_dump_json())], writer="w")

    def said(words: str) -> Any:
        with chdir(tmp_path):
            found = CliRunner().invoke(app, [*words.split()[1:], "--json"])
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout)

    start, status, stop = block("docs/experiments.md", "tfrec experiment start").commands
    assert said(status) == {"running": 0, "can_be_started": ["warmer"], "experiments": [], "arms": [], "others": []}
    assert said(start)["experiment"] == "warmer.1"
    assert [(one["arm"], one["users"]) for one in said(status)["arms"]] == [("plain", 0), ("warm", 0)]
    assert said(stop)["ended_because"] == "stopped"
    assert [one["experiment"] for one in said(status)["others"]] == ["warmer.1"]

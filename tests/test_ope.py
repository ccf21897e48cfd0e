"""What a version would have earned, from slates that it or another policy drew: on a log whose rewards follow a known rule."""
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.logged_slates import (
    LOGGED,
    NOW,
    REQUESTS,
    acts_on,
    explored,
    impression_of,
    log,
    logged_run,
    reward_of,
    short_lists,
)
from tfrec.cli.app import app
from tfrec.config import Config
from tfrec.data.records import Impression, Shown
from tfrec.errors import DataError, UsageError
from tfrec.model_server.saved_model import SavedModel
from tfrec.ope import ope


def earned(found: dict[str, np.ndarray]) -> np.ndarray:
    return np.array([[reward_of(item.decode()) for item in row] for row in found["items"]], float)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: str, shared: Path) -> Iterator[Config]:
    with short_lists():
        config = logged_run(tmp_path_factory.mktemp("ope") / "run", tiny_checkpoint, shared, lengths=(3, 2, 12, 5))[0]
        yield config.model_copy(update={"reward": config.reward.model_copy(update={"conversions": ("click",)})})


@pytest.fixture(scope="module")
def served(config: Config) -> SavedModel:
    return SavedModel(config.models_dir / "1")


@pytest.mark.parametrize("places", [None, 1])
def test_the_policy_that_logged_earns_what_was_logged(config: Config, tmp_path: Path, places: int | None) -> None:
    """So its propensities, computed from the log, are those that it said when it drew: history, query, exclusions and tags."""
    (tmp_path / "c.toml").write_text(config.to_toml())
    command = ["ope", "--config", str(tmp_path / "c.toml"), "--json", *(["--places", str(places)] if places else [])]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert (found["version"], found["slates"], found["left_out"]) == (1, REQUESTS, {})
    assert found["policy"] == "plackett_luce(temperature=1.5, epsilon=0.3)"
    assert found["mean_weight"] == pytest.approx(1, abs=1e-3)
    assert found["largest_weight"] == pytest.approx(1, abs=0.01)
    assert found["effective_slates"] == pytest.approx(REQUESTS, rel=1e-3)
    by = found["reward_per_request"]
    assert by.keys() == {"logged", "gain", *(["IPS", "SNIPS"] if places else ["RIPS"])}
    assert by["RIPS" if places is None else "IPS"]["mean"] == pytest.approx(by["logged"]["mean"], abs=2e-3)
    assert by["gain"]["mean"] == pytest.approx(0, abs=2e-3)
    conversions = found["conversions_per_request"]
    assert conversions.keys() == by.keys()
    assert conversions["logged"]["mean"] > max(0, by["logged"]["mean"])  # of the rewards some are below zero
    assert conversions["gain"]["mean"] == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("places", [2, 1])
def test_another_policy_earns_what_it_earns_when_it_is_asked(config: Config, served: SavedModel, places: int) -> None:
    judged = {"temperature": 3.0, "epsilon": 0.6}
    rewards = earned(explored(served, rows=6_000, seed=10**6, lengths=[places], **judged))
    found = ope(config, places=places, now=NOW, **judged)
    for key, truth in (("reward_per_request", rewards.sum(axis=1)), ("conversions_per_request", (rewards > 0).sum(axis=1))):
        for name in ("RIPS",) if places > 1 else ("IPS", "SNIPS"):
            estimate = found[key][name]
            assert estimate["low"] <= truth.mean() <= estimate["high"]
            assert estimate["high"] - estimate["low"] < 0.5


def test_what_the_log_does_not_support_gets_a_reason_and_no_number(config: Config) -> None:
    with pytest.raises(DataError, match=r"no estimate: 600 rows are worth .* Judge fewer places: --places 1\."):
        ope(config, temperature=0.01, epsilon=0.0, now=NOW)


def test_slates_without_propensities_or_labels_are_counted_and_left_out(config: Config, tmp_path: Path) -> None:
    def slate(name: str, policy: str, log_pi: float | None, *, time: int = 5) -> Impression:
        return Impression(request_id=name, time=time, user="u", policy=policy, model_version=1,
                          slate=[Shown(item="i1", position=0, score=1.0, log_propensity=log_pi)])

    other = config.model_copy(update={"run": tmp_path})
    other.models_dir.parent.mkdir(parents=True)
    other.models_dir.symlink_to(config.models_dir)
    log(other, "impressions", [slate("a", "greedy", 0.0), slate("b", "thompson(alpha=1)", None),
                               slate("c", "plackett_luce(temperature=1, epsilon=0.1)", -0.5, time=NOW - 5)])
    with pytest.raises(DataError) as error:
        ope(other, now=NOW)
    for words in ("no slate can be weighed", "1 slates: greedy: nothing was left to chance",
                  "1 slates: thompson: no propensities", "1 shown items: labels not mature yet", "gateway.explore=true"):
        assert words in str(error.value)


def test_pins_are_no_choice_of_the_policy_that_logged(config: Config, served: SavedModel, tmp_path: Path) -> None:
    """What it earned is what was logged with them, and each position beside them has the propensity of its own draw."""
    other = config.model_copy(update={"run": tmp_path})
    other.models_dir.parent.mkdir(parents=True)
    other.models_dir.symlink_to(config.models_dir)
    pins, rows = {1: "i3", 0: "i50"}, 60
    found = explored(served, rows=rows, seed=7, lengths=(3,), exclude=tuple(pins.values()), **LOGGED)
    shown = [impression_of(found, row, pins=pins) for row in range(rows)]
    log(other, "impressions", shown)
    log(other, "outcomes", [act for one in shown for act in acts_on(one)])
    judged = ope(other, now=NOW)
    assert (judged["slates"], judged["mean_weight"], judged["largest_weight"]) == (rows, pytest.approx(1, abs=1e-3),
                                                                                  pytest.approx(1, abs=0.01))
    by = judged["reward_per_request"]
    assert by["RIPS"]["mean"] == pytest.approx(by["logged"]["mean"], abs=2e-3)
    assert by["logged"]["mean"] > 1  # i3 is clicked by everybody


def test_a_version_must_be_there(config: Config) -> None:
    with pytest.raises(UsageError, match=r"no version 7 to judge; there are \[1\]"):
        ope(config, version=7, now=NOW)

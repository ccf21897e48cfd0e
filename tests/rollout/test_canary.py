"""A promoted version is tried on some users first, and the log decides; no kill leaves half of it."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.experiments.test_report import LoggedRequests
from tests.release.test_retention import models_config
from tfrec.config import Config, load_config
from tfrec.data.records import ServedContext
from tfrec.errors import ConfigError, UsageError
from tfrec.experiments.report import settled_now
from tfrec.experiments.state import StateFile
from tfrec.release.file_digests import digests
from tfrec.release.manifest import Manifest, read_manifest, write_manifest
from tfrec.release.publish import rollback, versions
from tfrec.rollout.canary import begin_canary, judge_canary
from tfrec.rollout.control import start, stop
from tfrec.rollout.labels import labels_in_file, write_labels

ROOT = Path(__file__).parents[2]
DAY = 86_400
BEGAN, NOW = 100 * DAY, 103 * DAY
KILLED = """
import json, os, pkgutil, signal, sys
from unittest import mock
from tfrec.config import Config
from tfrec.rollout.canary import begin_canary, judge_canary
now, kills = json.load(sys.stdin)
for when, name, config in kills:
    if not (child := os.fork()):
        real = pkgutil.resolve_name(name)
        def deadly(*words, **named):
            if when == "after":
                real(*words, **named)
            os.kill(os.getpid(), signal.SIGKILL)
        with mock.patch(name, deadly):
            judge_canary(Config.model_validate_json(config), now=now)
            begin_canary(Config.model_validate_json(config), now=now)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, (when, name)
"""


def publish(config: Config, number: int, **fields: Any) -> None:
    """A version as far as labels and rollbacks look at it."""
    directory = config.models_dir / str(number)
    directory.mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"graph %d" % number)
    write_manifest(directory, Manifest(version=number, created_at=number, files=digests(directory), **fields))


def run_of(directory: Path, **settings: Any) -> Config:
    """A run whose version 1 is stable, and a server's file that serves the newest version."""
    (directory / "run").mkdir(parents=True)
    file = models_config(directory / "models.config", directory / "run" / "models" / "tfrec", specific=[], labels={})
    config = Config.model_validate({
        "run": directory / "run", "gateway": {"stable_label": "stable"}, "serving": {"models_config": file},
        "experiment": {"canary": 0.5, "effect": 0.1, **settings}, "reward": {"weights": {"click": 1.0}}})
    publish(config, 1)
    return config


def traffic(config: Config, *, stable: float, canary: float, users: int = 600) -> None:
    """A request of each user in each arm, and a click by these shares of them."""
    log = LoggedRequests()
    for arm, share in (("stable", stable), ("canary", canary)):
        for number in range(users):
            log.ask(f"{arm}{number}", BEGAN + DAY, int(number < share * users), arm=None)
            log.shown[-1] = log.shown[-1].model_copy(update={"context": ServedContext(arms={"canary.1": arm})})
    log.write(config)


def told(config: Config) -> tuple[dict[str, int], list[str], list[int]]:
    """Labels as they are served, the verdicts so far, and the versions on disk."""
    state = StateFile(config.run).read()
    assert labels_in_file(config) == state.labels
    return state.labels, [one.verdict.split(":")[0] for one in state.ended], versions(config.models_dir)


def step(config: Config, now: int = NOW) -> None:
    """What a run of the job does, without a retrain between."""
    judge_canary(config, now=now)
    begin_canary(config, now=now)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A run whose version 2 is the canary."""
    config = run_of(tmp_path)
    step(config, BEGAN - 1)
    publish(config, 2)
    begin_canary(config, now=BEGAN)
    return config


def test_a_promoted_version_is_the_canary_first(tmp_path: Path) -> None:
    config = run_of(tmp_path)
    step(config)
    assert told(config) == ({"stable": 1}, [], [1])
    publish(config, 2)
    begin_canary(config, now=BEGAN)
    one = StateFile(config.run).read().running[0]
    assert told(config)[0] == {"stable": 1, "canary": 2}
    assert {name: (arm.label, arm.share) for name, arm in one.trial.arms.items()} == {
        "stable": ("stable", 0.5), "canary": ("canary", 0.5)}
    publish(config, 3)  # at most one at a time
    begin_canary(config, now=BEGAN + 1)
    assert [running.id for running in StateFile(config.run).read().running] == ["canary.1"]
    assert told(config)[0] == {"stable": 1, "canary": 2}


@pytest.mark.parametrize(("stable", "canary", "labels", "verdict", "on_disk"), [
    (0.3, 0.5, {"stable": 2}, ["promoted"], [1, 2]),
    (0.97, 0.97, {"stable": 2}, ["promoted"], [1, 2]),  # no worse
    (0.5, 0.3, {"stable": 1}, ["taken back"], [1, 2, 3]),
    (0.5, 0.5, {"stable": 1, "canary": 2}, [], [1, 2]),
])
def test_the_log_decides(config: Config, stable: float, canary: float, labels: dict[str, int], verdict: list[str],
                         on_disk: list[int]) -> None:
    traffic(config, stable=stable, canary=canary)
    step(config)
    assert told(config) == (labels, verdict, on_disk)
    step(config, NOW + 1)
    assert told(config) == (labels, verdict, on_disk)  # nothing is done twice, and what was taken back is not tried again
    if on_disk[-1] == 3:
        assert read_manifest(config.models_dir / "3").copy_of == 1  # from which the next retrain goes on
        publish(config, 4)
        step(config, NOW + 2)
        assert told(config)[0] == {"stable": 1, "canary": 4}
        assert StateFile(config.run).read().running[0].id == "canary.2"


def test_a_canary_that_stays_open_is_taken_back(config: Config) -> None:
    traffic(config, stable=0.5, canary=0.5)
    step(config, BEGAN + 28 * DAY - 1)
    assert told(config)[1] == []
    step(config, BEGAN + 28 * DAY)
    assert told(config) == ({"stable": 1}, ["taken back"], [1, 2, 3])


def test_users_who_are_lost_take_the_canary_back(config: Config) -> None:
    traffic(config, stable=0.5, canary=0.5, users=600)
    log = LoggedRequests()
    for number in range(900):
        log.ask(f"more{number}", BEGAN + DAY, 0, arm=None)
        log.shown[-1] = log.shown[-1].model_copy(update={"request_id": f"m{number}",
                                                         "context": ServedContext(arms={"canary.1": "stable"})})
    log.write(config, writer="x")
    step(config)
    assert told(config)[:2] == ({"stable": 1}, ["taken back"])


def test_a_rollback_by_hand_ends_the_canary_and_goes_live_at_once(config: Config) -> None:
    traffic(config, stable=0.5, canary=0.5)
    rollback(config.models_dir, now=NOW)
    step(config)
    assert told(config) == ({"stable": 1}, ["rolled back"], [1, 2, 3])
    publish(config, 4)
    write_labels(config, {"stable": 4})  # as if it had been promoted
    StateFile(config.run).change(lambda state: state.model_copy(update={"labels": {"stable": 4}}))
    rollback(config.models_dir, 1, now=NOW)
    step(config)
    assert told(config)[0] == {"stable": 5}


def test_every_kill_is_finished_by_the_next_run(tmp_path: Path) -> None:
    points = [(when, name) for name in ("tfrec.rollout.canary.rollback", "tfrec.experiments.state.StateFile.change")
              for when in ("before", "after")]
    points.append(("after", "tfrec.rollout.canary.write_labels"))
    first = run_of(tmp_path / "first")
    step(first, BEGAN - 1)
    publish(first, 2)
    begin_canary(first, now=BEGAN)
    traffic(first, stable=0.7, canary=0.4, users=300)
    settled_now(first, now=NOW, quarantine=None)  # so that the kills below are of what follows
    write_labels(first, {"stable": 1})  # and there is something to bring in line
    configs = []
    for number in range(len(points)):
        place = tmp_path / str(number)
        shutil.copytree(tmp_path / "first", place)
        settings = first.model_dump(mode="json")
        settings["run"], settings["serving"]["models_config"] = str(place / "run"), str(place / "models.config")
        configs.append(Config.model_validate(settings))
    said = json.dumps([NOW, [[*point, config.model_dump_json()] for point, config in zip(points, configs, strict=True)]])
    subprocess.run([sys.executable, "-c", KILLED], input=said, text=True, cwd=ROOT, check=True,
                   env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})  # no thread is there to be lost in a fork
    for point, config in zip(points, configs, strict=True):
        labels = labels_in_file(config)
        assert labels["stable"] == 1, point  # whatever is half done, the stable version answers
        assert StateFile(config.run).read().labels.items() <= {"stable": 1, "canary": 2}.items(), point
        step(config)
        labels, verdicts, on_disk = told(config)
        assert (labels, on_disk, verdicts) == ({"stable": 1}, [1, 2, 3], ["taken back"]), point


def test_experiments_on_versions_and_the_canary_wait_for_each_other(tmp_path: Path) -> None:
    config = run_of(tmp_path, trials={"mine": {"arms": {"a": {"share": 0.5, "label": "stable"}, "b": {"share": 0.5}}}})
    config = config.model_copy(update={"gateway": config.gateway.model_copy(update={"stable_label": "stable"})})
    step(config)
    with pytest.raises(UsageError, match="the arms 'a' and 'b' do the same"):
        start(config, "mine", now=1)
    publish(config, 2)
    begin_canary(config, now=BEGAN)
    with pytest.raises(UsageError, match="the canary is ended by the retrain job"):
        stop(config, "canary", now=1)


@pytest.mark.parametrize(("change", "words"), [
    ('gateway.stable_label=""', "must have gateway.stable_label and serving.models_config"),
    ("gateway.canary_share=0.1", "which both say who gets the canary: one must be 0"),
    ('gateway.canary_label="stable"', "one label for the canary and for the stable version"),
    ("experiment.trials.canary.arms={a={share=0.1}, b={share=0.1, alpha=2}}", "a trial of the name 'canary'"),
])
def test_settings_that_contradict_each_other_are_refused(tmp_path: Path, change: str, words: str) -> None:
    (tmp_path / "c.toml").write_text(run_of(tmp_path / "r").to_toml())
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.toml", [change])
    assert words in str(caught.value)


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    config = run_of(tmp_path)
    file = tmp_path / "models.config"
    file.write_text(file.read_text().replace('"tfrec"', '"other"'))
    with pytest.raises(UsageError, match=r"models\.config: names no model 'tfrec', which is serving\.model_name"):
        step(config)
    file.unlink()
    with pytest.raises(UsageError, match=r"models\.config"):
        step(config)

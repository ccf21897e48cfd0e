"""Drifts that are planted in a simulated stream raise their own alarm and no other; a quiet stream raises none."""
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.monitors.stream import DAY, FIRST, Shop, catalogue, publish
from tfrec.config import Config, load_config
from tfrec.monitors.look import look

QUIET_DAYS = 8


def settings(run: Path) -> Config:
    return load_config(None, [f"run={run}", "monitors.replay_hours=0", "reward.weights={click=1.0, purchase=5.0}",
                              "monitors.slices=['device']"])


def looked(config: Config, day: int) -> dict[str, Any]:
    """What is found when a day has passed, and its horizon."""
    return look(config, now=FIRST + (day + 1) * DAY + 3600)


def alarms(found: dict[str, Any]) -> set[str]:
    return {name for name, one in found["monitors"].items() if one["state"] == "alarm"}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose log has quiet days, looked at after each."""
    config = settings(tmp_path_factory.mktemp("quiet"))
    publish(config.models_dir, 1, catalogue())
    shop = Shop(Path(config.log_uri))
    for day in range(QUIET_DAYS):
        shop.day(day)
        assert alarms(looked(config, day)) == set()
    return config.run


@pytest.fixture
def run(quiet: Path, tmp_path: Path) -> Config:
    """A copy of it."""
    shutil.copytree(quiet, tmp_path / "run")
    return settings(tmp_path / "run")


def next_day(config: Config, **planted: Any) -> dict[str, Any]:
    """What is found after one more day."""
    Shop(Path(config.log_uri), seq=10**6, **planted).day(QUIET_DAYS)
    return looked(config, QUIET_DAYS)


def test_a_quiet_day_raises_none(run):
    found = next_day(run)
    assert alarms(found) == set()
    states = {name: one["state"] for name, one in found["monitors"].items()}
    assert {name for name, state in states.items() if state == "unknown"} == {
        "calibration", "new_items", "queries", "skew", "freshness"}


@pytest.mark.parametrize(("planted", "expected"), [
    ({"silent": "2.0"}, {"silent_source"}),
    ({"silent": "2.1"}, {"silent_source"}),
    ({"clock": {"2.0": 7200}}, {"clock"}),
    ({"clock": {"1.0": -7200}}, {"clock"}),
    ({"click": 0.4}, {"reward", "action_rate"}),
    ({"devices": (0.1, 0.1, 0.8)}, {"context"}),
    ({"slower": 6.0}, {"label_delay"}),
    ({"requests": 300}, set()),
], ids=["silent", "silent in few", "fast clock", "slow clock", "fewer clicks", "devices", "slower", "fewer requests"])
def test_a_planted_drift_of_the_stream_raises_its_own_alarm(run, planted, expected):
    assert alarms(next_day(run, **planted)) == expected


@pytest.mark.parametrize(("items", "planted", "expected", "named"), [
    (catalogue(without=2), {"without": 2}, "catalogue_tags", "category:2"),
    (catalogue(prices=7.3), {}, "catalogue_numbers", "price"),
])
def test_a_planted_drift_of_the_catalogue_raises_its_own_alarm(run, items, planted, expected, named):
    publish(run.models_dir, 2, items)
    found = next_day(run, **planted)
    assert alarms(found) == {expected}
    assert named in found["monitors"][expected]["why"]


def test_the_reward_is_told_by_position_version_and_slice(run):
    told = next_day(run)["parts"]
    assert [one["part"] for one in told["position"]] == ["0", "1", "2", "3"]
    assert {one["part"] for one in told["device"]} == {"phone", "tablet", "desk"}
    assert all(one["low"] <= one["reward"] <= one["high"] for parts in told.values() for one in parts)
    assert sum(one["n"] for one in told["version"]) == sum(one["n"] for one in told["device"])

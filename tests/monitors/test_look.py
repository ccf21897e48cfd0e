"""A look: what it keeps, and what becomes of it when something is missing, broken, in progress or killed."""
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.monitors.stream import DAY, FIRST, Shop, catalogue, publish
from tfrec.config import Config, load_config
from tfrec.data.file_lock import held
from tfrec.errors import DataError, UsageError
from tfrec.monitors.latest import MONITORS, alarms, latest_path, read_latest
from tfrec.monitors.look import look, look_after_run

NOW = FIRST + DAY + 3600


def settings(run: Path, *more: str) -> Config:
    return load_config(None, [f"run={run}", "monitors.replay_hours=0", *more])


@pytest.fixture
def run(tmp_path: Path) -> Config:
    """A run with a version and one day of log."""
    config = settings(tmp_path)
    publish(config.models_dir, 1, catalogue(), learnt=FIRST)
    Shop(Path(config.log_uri), requests=50).day(0)
    return config


def test_nothing_at_all_is_unknown(tmp_path: Path) -> None:
    found = look(settings(tmp_path), now=NOW)
    assert {one["state"] for one in found["monitors"].values()} == {"unknown"}
    assert list(found["monitors"]) == list(MONITORS)
    assert read_latest(tmp_path) == json.loads(json.dumps(found))


def test_outcomes_that_no_version_has_learnt_for_hours_are_an_alarm(run: Config) -> None:
    found = look(run, now=NOW)
    assert alarms(found) == ["freshness"]
    assert 3 * 3600 < found["monitors"]["freshness"]["value"] <= DAY + 3600
    publish(run.models_dir, 2, catalogue(), learnt=NOW - 60)
    assert alarms(look(run, now=NOW)) == []


def test_the_same_log_gives_the_same_look(run: Config) -> None:
    one, other = look(run, now=NOW), look(run, now=NOW)
    assert (one["monitors"], one["parts"]) == (other["monitors"], other["parts"])


def test_one_person_has_a_reward_and_no_interval(run: Config) -> None:
    shop = Shop(Path(run.log_uri), requests=1, seq=10**6)
    shop.day(1)
    look(run, now=NOW + DAY)
    text = latest_path(run.run).read_text()
    [part] = json.loads(text, parse_constant=pytest.fail)["parts"]["version"]
    assert (part["n"], part["low"], part["high"]) == (1, None, None)


def test_a_look_in_progress_refuses_another(run: Config) -> None:
    path = latest_path(run.run).with_name("lock")
    with held(path, wait=False), pytest.raises(UsageError, match="another look is in progress"):
        look(run, now=NOW)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"monitors": 3}'])
def test_a_broken_file_of_the_look_before_is_none(run: Config, text: str) -> None:
    latest_path(run.run).parent.mkdir()
    latest_path(run.run).write_text(text)
    assert read_latest(run.run) == {}
    assert look(run, now=NOW)["looked_at"] == NOW


def test_a_catalogue_that_cannot_be_read_names_the_file(run: Config) -> None:
    path = run.models_dir / "1" / "checkpoint" / "catalogue.jsonl"
    path.write_text("{")
    with pytest.raises(DataError, match=r"catalogue\.jsonl"):
        look(run, now=NOW)


def test_after_a_run_it_looks_when_that_is_due(run: Config, caplog: pytest.LogCaptureFixture) -> None:
    look_after_run(run, now=NOW)
    assert "monitor freshness: alarm" in caplog.text
    look_after_run(run, now=NOW + 3600)  # a tenth of a day is 2.4 hours
    look_after_run(settings(run.run, "monitors.in_job=false"), now=NOW + 2 * DAY)
    assert read_latest(run.run)["looked_at"] == NOW
    look_after_run(run, now=NOW + DAY)
    assert read_latest(run.run)["looked_at"] == NOW + DAY


KILLED = """
import os, signal, sys
from tfrec.config import Config
from tfrec.data import durable_files
from tfrec.monitors.look import look

real, left = durable_files.replace, int(sys.argv[2])

def deadly(path, content):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    real(path, content)

durable_files.replace = deadly
look(Config.model_validate_json(sys.argv[1]), now=int(sys.argv[3]))
"""


@pytest.mark.parametrize("calls", [1, 2])
def test_a_kill_leaves_the_look_before_and_hinders_none(run: Config, calls: int) -> None:
    """It dies before it keeps a sample of the catalogue, or before it keeps what it found."""
    before = look(run, now=NOW - 9)
    for path in (run.run / "monitors" / "catalogue").glob("*.parquet"):
        path.unlink()
    ended = subprocess.run([sys.executable, "-c", KILLED, run.model_dump_json(), str(calls), str(NOW)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert read_latest(run.run) == json.loads(json.dumps(before))
    assert look(run, now=NOW)["looked_at"] == NOW

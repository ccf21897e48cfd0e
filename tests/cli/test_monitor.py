"""`tfrec monitor`: what it prints, how it ends, and that it looks again until it is told to stop."""
import json
import signal
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from tests.monitors.stream import DAY, FIRST, Shop, catalogue, publish
from tfrec.config import load_config
from tfrec.monitors.latest import read_latest

Call = Callable[..., tuple[int, str, str]]
NOW = FIRST + DAY + 3600


@pytest.fixture
def monitor(call: Call, tmp_path: Path) -> Call:
    """The command at a run with one day of log, of which no version has learnt the outcomes, at the end of that day."""
    config = load_config(None, [f"run={tmp_path}"])
    publish(config.models_dir, 1, catalogue(), learnt=FIRST)
    Shop(Path(config.log_uri), requests=50).day(0)

    def run(*words: object) -> tuple[int, str, str]:
        with mock.patch("time.time", return_value=float(NOW)):
            return call("monitor", "--no-replay", *words, "--set", f"run={tmp_path}")

    return run


def test_an_alarm_is_told_first_and_is_the_exit_code(monitor: Call, tmp_path: Path) -> None:
    code, out, err = monitor()
    assert code == 3, err
    assert "alarms.freshness" in out.splitlines()[0]
    assert "needs 500 requests" in " ".join(out.split())
    code, out, _ = monitor("--json")
    assert (code, json.loads(out)) == (3, read_latest(tmp_path))
    assert monitor("--set", "monitors.freshness_hours=100")[0] == 0


def test_a_wrong_setting_is_refused(monitor: Call) -> None:
    code, _, err = monitor("--set", "monitors.slices=['a', 'a']")
    assert (code, "names 'a' in slices more than once" in err) == (2, True)
    code, _, err = monitor("--set", "monitors.slices=['app_version']")
    assert (code, "a source is watched already" in err) == (2, True)
    code, _, err = monitor("--set", "monitors.window_hours=0.5")
    assert (code, "longer than a window" in err) == (2, True)


def test_it_looks_again_until_it_is_told_to_stop(monitor: Call, tmp_path: Path) -> None:
    """An error ends one look, and not the command."""
    file = tmp_path / "models" / "tfrec" / "1" / "checkpoint" / "catalogue.jsonl"
    before, looks = signal.getsignal(signal.SIGTERM), []
    whole = file.read_bytes()

    def wait(*_: object) -> None:
        looks.append(read_latest(tmp_path).get("looked_at"))
        file.write_bytes(b"{" if len(looks) == 1 else whole)
        if len(looks) == 3:
            signal.raise_signal(signal.SIGTERM)

    with mock.patch("threading.Event.wait", wait):
        code, out, err = monitor("--every", "10m")
    assert (code, looks) == (0, [NOW] * 3)
    assert len(out.splitlines()) == 2
    assert "freshness" in out
    assert "catalogue.jsonl" in err
    assert signal.getsignal(signal.SIGTERM) == before

"""`tfrec forget --retrain-from-clean`: which commands it runs, and how it ends when one of them fails."""
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from tests.erasure.named import ANN, run_of, version
from tfrec.config import Config, load_config

Call = Callable[..., tuple[int, str, str]]


class Commands:
    """Takes the place of the processes: notes their words, and ends with a code."""

    def __init__(self, **codes: int) -> None:
        self.codes, self.ran, self.settings = codes, list[str](), list[Config]()

    def __call__(self, words: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        command = words[3]
        self.ran.append(command)
        self.settings.append(load_config(Path(words[words.index("--config") + 1]), ()))
        return subprocess.CompletedProcess(words, self.codes.get(command, 0), b"")


def forgotten(call: Call, directory: Path, commands: Commands, *, learnt_by_all: bool) -> tuple[int, str, str]:
    """A user of the base interactions, from which every version has learnt, or one whom nobody knows."""
    config = run_of(directory)
    version(config, 1, upto=1)
    (directory / "c.toml").write_text(config.to_toml())
    with mock.patch("subprocess.run", commands):
        return call("forget", ANN if learnt_by_all else "nobody", "--retrain-from-clean", "--json", "--config",
                    directory / "c.toml")


@pytest.mark.parametrize(("learnt_by_all", "expected"), [
    (False, ["retrain"]), (True, ["train", "export", "publish", "retrain"])])
def test_a_version_is_trained_anew_only_where_all_have_traces(call: Call, tmp_path: Path, learnt_by_all: bool,
                                                              expected: list[str]) -> None:
    commands = Commands(retrain=3)
    code, out, err = forgotten(call, tmp_path, commands, learnt_by_all=learnt_by_all)
    assert code == 0, err
    assert json.loads(out)["steps"] == dict.fromkeys(expected, "done") | {"retrain": "rejected by the gate"}
    assert commands.ran == expected
    assert {one.run for one in commands.settings} == {tmp_path / "run"}


def test_a_step_that_fails_is_named_and_the_erasure_stays(call: Call, tmp_path: Path) -> None:
    commands = Commands(export=1)
    code, _, err = forgotten(call, tmp_path, commands, learnt_by_all=True)
    assert (code, commands.ran) == (1, ["train", "export"])
    assert "the users are erased, but `tfrec export" in err

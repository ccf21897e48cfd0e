"""Directories in the making, and what a SIGKILL before any of their steps leaves."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tfrec.data import staging as made
from tfrec.data.staging import recover, replace_directory, staging, sweep

# dies before the step of the file system whose number is given: those of Python's audit events that change something
KILLED = """
import os, pathlib, signal, sys
sys.path.insert(0, {package!r})
import staging
place, step = pathlib.Path(sys.argv[1]), int(sys.argv[2])
if len(sys.argv) > 3:
    staging._exchange = lambda one, other: False
seen = 0
def count(event, words):
    global seen
    if event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "ctypes.dlopen"):
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
with staging.staging(place, ".model.staging-") as directory:
    (directory / "weights").write_text("new")
    (directory / "meta").write_text("new")
    staging.replace_directory(directory, place / "model")
"""


@pytest.mark.parametrize("exchanges", [True, False])
def test_killed_before_any_step_the_old_or_the_new_is_there_whole(tmp_path: Path, exchanges: bool) -> None:
    found = []
    for step in range(1, 20):
        place = tmp_path / str(step)
        (place / "model").mkdir(parents=True)
        for name in ("weights", "meta"):
            (place / "model" / name).write_text("old")
        script = KILLED.format(package=str(Path(made.__file__).parent))
        words = [sys.executable, "-c", script, str(place), str(step), *([] if exchanges else ["two renames"])]
        ended = subprocess.run(words, check=False, timeout=60)
        recover(place / "model")
        assert {path.name for path in (place / "model").iterdir()} == {"weights", "meta"}
        said = {(place / "model" / name).read_text() for name in ("weights", "meta")}
        assert len(said) == 1
        found += said
        with staging(place, ".model.staging-") as directory:  # the next run
            replace_directory(directory, place / "model")
        assert [path.name for path in place.iterdir()] == ["model"]
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
    assert (found[0], found[-1], step < 19) == ("old", "new", True)
    assert found == sorted(found, reverse=True)  # old, old, ..., new: never back


def test_work_in_progress_is_not_swept(tmp_path: Path) -> None:
    with staging(tmp_path, ".m-") as ours, staging(tmp_path, ".m-") as other:
        assert ours != other
        assert sweep(tmp_path, ".m-") == []
        assert ours.is_dir()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".m-left").mkdir()
    (tmp_path / ".other").mkdir()
    (tmp_path / ".m-file").write_text("")  # no directory: not ours
    assert sweep(tmp_path, ".m-") == [tmp_path / ".m-left"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".m-file", ".other"]


def test_what_was_renamed_stays_and_what_failed_goes(tmp_path: Path) -> None:
    with staging(tmp_path, ".m-", mode=0o700) as directory:
        assert directory.stat().st_mode & 0o777 == 0o700
        directory.rename(tmp_path / "m")
    with pytest.raises(ValueError, match="no"), staging(tmp_path, ".m-"):
        raise ValueError("no")
    assert os.listdir(tmp_path) == ["m"]

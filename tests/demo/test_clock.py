"""The clock of a replay: one process tells, another reads."""
import subprocess
import sys
from pathlib import Path

from tfrec.demo.clock import ReplayClock


def test_another_process_reads_what_was_told_last(tmp_path: Path):
    clock = ReplayClock(tmp_path / "clock")
    assert clock() == 0.0
    for second in (1_339_227_125, 2**40, 5):
        clock.tell(second)
        read = "import sys, pathlib; from tfrec.demo.clock import ReplayClock; print(ReplayClock(pathlib.Path(sys.argv[1]))())"
        assert clock() == second
    done = subprocess.run([sys.executable, "-c", read, str(tmp_path / "clock")], capture_output=True, text=True, check=True)
    assert done.stdout == "5.0\n"
    clock.close()

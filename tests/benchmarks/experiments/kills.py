"""The job's step with a canary, killed at random instants: `python tests/benchmarks/experiments/kills.py --kills 40`

Each process judges a canary that loses. Every second one is killed at any time of the step, most of which is reading the log, and
the others within 50 ms after it has decided. Then the step runs to its end, and state, labels in the model server's file and
versions on disk must be those of a run that was never killed. Prints how many kills left what behind.
"""
import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.rollout.test_canary import BEGAN, publish, run_of, step, told, traffic
from tfrec.config import Config
from tfrec.experiments.state import StateFile
from tfrec.release.publish import versions
from tfrec.rollout.canary import begin_canary
from tfrec.rollout.labels import labels_in_file

ROOT = Path(__file__).parents[3]
STEP = """
import sys
from unittest import mock
from tests.rollout.test_canary import step
from tfrec.config import Config
from tfrec.rollout import canary
config, real = Config.model_validate_json(sys.argv[1]), canary.rollback

def decided(*words, **named):
    print("decided", flush=True)
    return real(*words, **named)

print("ready", flush=True)
with mock.patch("tfrec.rollout.canary.rollback", decided):
    step(config)
print("done", flush=True)
sys.stdin.read()
"""


def copy_of(first: Config, place: Path, source: Path) -> Config:
    shutil.copytree(source, place)
    settings = first.model_dump(mode="json")
    settings["run"], settings["serving"]["models_config"] = str(place / "run"), str(place / "models.config")
    return Config.model_validate(settings)


def begun(config: Config) -> subprocess.Popen[str]:
    """A process that begins its step now."""
    process = subprocess.Popen([sys.executable, "-c", STEP, config.model_dump_json()], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40, help="how many")
    options = parser.parse_args()
    rng, found = random.Random(0), Counter[str]()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        first = run_of(root / "first")
        step(first, BEGAN - 1)
        publish(first, 2)
        begin_canary(first, now=BEGAN)
        traffic(first, stable=0.7, canary=0.4)
        config = copy_of(first, root / "whole", root / "first")
        process, began = begun(config), time.monotonic()
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["decided\n", "done\n"]
        longest, expected = 1.1 * (time.monotonic() - began), told(config)
        process.kill()
        process.wait()
        for number in range(options.kills):
            config = copy_of(first, root / str(number), root / "first")
            process = begun(config)
            if number % 2:
                assert process.stdout is not None
                process.stdout.readline()
            time.sleep(rng.uniform(0, 0.05 if number % 2 else longest))
            process.kill()  # SIGKILL
            process.wait()
            state = StateFile(config.run).read()
            assert labels_in_file(config)["stable"] == 1
            behind = "" if labels_in_file(config) == state.labels else ", labels a step behind"
            found[f"{len(versions(config.models_dir))} versions, {len(state.ended)} ended{behind}"] += 1
            step(config)
            assert told(config) == expected, (number, told(config))
    print(f"{options.kills} kills, each finished by the next run. They left: {dict(found)}")


if __name__ == "__main__":
    main()

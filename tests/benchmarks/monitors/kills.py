"""Looks of the monitors killed at random instants: `PYTHONPATH=. python tests/benchmarks/monitors/kills.py --kills 40`

Each process looks at a log with a drift, and is killed at any time of the look. What is kept must be the look before or the whole
new one, and the next look must find what one finds that was never preceded by a kill. Prints how many left which of the two.
"""
import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.monitors.stream import DAY, FIRST, Shop, catalogue, publish
from tfrec.config import Config, load_config
from tfrec.monitors.latest import alarms, read_latest
from tfrec.monitors.look import look

LOOK = """
import sys
from tfrec.config import Config
from tfrec.monitors.look import look
config = Config.model_validate_json(sys.argv[1])
print("ready", flush=True)
look(config, now=int(sys.argv[2]))
print("done", flush=True)
"""
DAYS = 8
NOW = FIRST + (DAYS + 1) * DAY + 3600


def settings(run: Path) -> Config:
    return load_config(None, [f"run={run}", "monitors.replay_hours=0", "reward.weights={click=1.0, purchase=5.0}"])


def begun(config: Config) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", LOOK, config.model_dump_json(), str(NOW)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def figures(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in json.loads(json.dumps(found)).items() if name != "seconds"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    wish, rng, left = parser.parse_args(), random.Random(0), Counter[str]()
    with tempfile.TemporaryDirectory() as directory:
        first = settings(Path(directory, "first"))
        publish(first.models_dir, 1, catalogue())
        shop = Shop(Path(first.log_uri))
        for day in range(DAYS):
            shop.day(day)
            look(first, now=FIRST + (day + 1) * DAY + 3600)
        Shop(Path(first.log_uri), seq=10**6, silent="2.1").day(DAYS)
        before = figures(read_latest(first.run))
        whole = settings(Path(shutil.copytree(first.run, Path(directory, "whole"))))
        process, began = begun(whole), time.monotonic()
        assert process.wait() == 0
        longest, expected = time.monotonic() - began, figures(read_latest(whole.run))
        assert alarms(expected) == ["silent_source"]
        for number in range(wish.kills):
            config = settings(Path(shutil.copytree(first.run, Path(directory, str(number)))))
            process = begun(config)
            time.sleep(rng.uniform(0, 1.1 * longest))
            process.kill()
            process.wait()
            kept = figures(read_latest(config.run))
            assert kept in (before, expected), "half of a look was kept"
            left["the new look" if kept == expected else "the look before"] += 1
            assert figures(look(config, now=NOW)) == expected, "a kill changed what the next look finds"
            shutil.rmtree(config.run)
    print(json.dumps({"kills": wish.kills, "left": dict(left)}))


if __name__ == "__main__":
    main()

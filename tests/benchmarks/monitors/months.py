"""Months of a simulated stream under the monitors: `PYTHONPATH=. python tests/benchmarks/monitors/months.py --months 20`

Each month is another shop with other people. Its days are looked at one by one, weekends included. On the last day a drift is
planted, another one each month. Prints how many of the quiet looks raised an alarm, and which alarms each planted drift raised.
With `--rows N` it measures one look at a log of N shown items instead.
"""
import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tests.monitors.stream import DAY, FIRST, Shop, catalogue, publish
from tfrec.config import Config, load_config
from tfrec.monitors.latest import alarms
from tfrec.monitors.look import look
from tfrec.terminal import to_json

PLANTED: dict[str, dict[str, Any]] = {
    "outcomes of an app version are lost": {"silent": "2.1"}, "a clock is two hours ahead": {"clock": {"1.0": 7200}},
    "a clock is an hour behind": {"clock": {"2.0": -3600}}, "half of the clicks": {"click": 0.5},
    "people take six times as long": {"slower": 6.0}, "other devices": {"devices": (0.1, 0.1, 0.8)},
    "a category is gone": {"without": 3}, "prices in another currency": {},
}


def run_of(root: Path) -> Config:
    return load_config(None, [f"run={root}", "monitors.replay_hours=0", "reward.weights={click=1.0, purchase=5.0}",
                              "monitors.slices=['device']"])


def month(root: Path, seed: int, days: int, drift: str) -> tuple[list[list[str]], list[str]]:
    """The alarms of each quiet look, and those of the day with the drift."""
    config = run_of(root)
    publish(config.models_dir, 1, catalogue())
    shop, quiet = Shop(Path(config.log_uri), seed=seed), []
    for day in range(days):
        shop.day(day)
        quiet.append(alarms(look(config, now=FIRST + (day + 1) * DAY + 3600)))
    if drift == "prices in another currency":
        publish(config.models_dir, 2, catalogue(prices=7.3))
    if drift == "a category is gone":
        publish(config.models_dir, 2, catalogue(without=3))
    Shop(Path(config.log_uri), seed=seed, seq=10**6, **PLANTED[drift]).day(days)
    return quiet, alarms(look(config, now=FIRST + (days + 1) * DAY + 3600))


def large(root: Path, rows: int) -> dict[str, Any]:
    """How long a look at a log of so many shown items takes."""
    config = run_of(root)
    publish(config.models_dir, 1, catalogue())
    shop = Shop(Path(config.log_uri), requests=rows // 4 // 8)
    for day in range(8):
        shop.day(day)
    began, used = time.monotonic(), time.process_time()
    look(config, now=FIRST + 8 * DAY + 3600)
    took = time.monotonic() - began, time.process_time() - used
    return {"rows": rows, "seconds": round(took[0], 2), "processor_seconds": round(took[1], 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=20)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--rows", type=int, default=0)
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        if wish.rows:
            print(to_json(large(Path(directory), wish.rows)))
            return
        looks, false, raised = 0, Counter[str](), dict[str, Counter[str]]()
        for seed in range(wish.months):
            drift = list(PLANTED)[seed % len(PLANTED)]
            quiet, found = month(Path(directory) / str(seed), seed, wish.days, drift)
            looks += sum(1 for _ in quiet)
            false.update(name for one in quiet for name in one)
            raised.setdefault(drift, Counter())[", ".join(found) or "none"] += 1
        print(json.dumps({"quiet_looks": looks, "false_alarms": dict(false), "planted": {
            drift: dict(counts) for drift, counts in raised.items()}}, indent=1))
        print(f"{np.sum(list(false.values())) / max(looks, 1):.4f} false alarms a look")


if __name__ == "__main__":
    main()

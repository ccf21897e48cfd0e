"""A year of a small run, by a virtual clock: what grows on the disk, in memory, and in the time of a start and of a job.

    python tests/benchmarks/a_year.py [--days 365] [--runs 1] [--keep 60] [--burst 12] [--outcomes 40] [--users 2000]

Two gateways write slates and outcomes by way of their write-ahead files. `--runs` times a day a job settles the log, tidies up,
lets rows leave that are older than `--keep` days, and leaves a result and rows that it could not use, as a retrain does around
its training; once a day it publishes a version and retires old ones. For each day the times of all files are set back by a day.

A year has 105,120 runs of five minutes, and a run takes half a second without any training: half a day in all. So the days have
few runs, and at the end of each month come `--burst` runs that are five minutes apart. What a run leaves is bounded by number
or by age, so few runs a day show the same bounds as many; what one run adds to the memory is told by the bursts.

Each month prints a line: MB on the disk by part of the run directory, its files and rows, milliseconds to settle a run, to tidy
up, and of a whole run in the burst, what a gateway takes to read the newest outcomes (milliseconds, and MB of Arrow's memory),
and the memory of this process, which is that of the writers and the job. The last lines compare the third month with the last.
"""
import argparse
import ctypes
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from tfrec.config import Config, DataConfig, RewardConfig
from tfrec.data.behaviour.newest_outcomes import first_positives, newest_outcomes
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.records import Impression, Outcome, Shown
from tfrec.data.settled.examples import SettledExamples
from tfrec.data.settled.settle import settle
from tfrec.gateway.history import UserHistories
from tfrec.release.manifest import Manifest, write_manifest
from tfrec.release.publish import prune
from tfrec.retrain.outdated import drop_outdated
from tfrec.retrain.result import PROMOTED, WAITING, Retrained
from tfrec.retrain.run_directory import RunDirectory

DAY = 86_400
START = 1_700_000_000
PARTS = ("log", "examples", "wal", "retrain", "models")


class Year:
    """A run directory and its processes."""

    def __init__(self, run: Path, wish: argparse.Namespace, ends: ExitStack) -> None:
        self.run, self.wish, self.rng = run, wish, np.random.default_rng(0)
        self.config = Config(run=run, data=DataConfig(attribution_hours=1.0, keep_days=wish.keep))
        self.log, self.settled = FeedbackLog(run / "log"), SettledExamples(run / "examples")
        self.rule = LabelRule.of_rewards(RewardConfig(), None, attribution_seconds=self.config.data.attribution_seconds)
        self.writers = [ends.enter_context(LogWriter(self.log, WriteAheadFile(run / "wal", name), commit_seconds=3600.0))
                        for name in ("one", "two")]
        self.events = 0

    def traffic(self, now: int) -> None:
        """What both gateways record until the next run of the job."""
        for writer in self.writers:
            for _ in range(max(1, self.wish.outcomes // 2)):
                self.events += 1
                user, request = f"user-{int(self.rng.integers(self.wish.users))}", f"{self.events:032x}"
                shown = [Shown(item=f"item-{item}", position=k, score=0.0, log_propensity=-1.0)
                         for k, item in enumerate(self.rng.choice(self.wish.items, 10, replace=False))]
                writer.impression(Impression(request_id=request, time=now - 60, user=user, slate=tuple(shown), model_version=1,
                                             policy="plackett_luce"))
                writer.outcome(Outcome(event_id=request, request_id=request, user=user, item=shown[0].item, action="click",
                                       time=now - 30))
            writer.flush()

    def job(self, now: int) -> tuple[float, float]:
        """Seconds to settle, and to tidy up and let go of what is old."""
        with RunDirectory.opened(self.run / "retrain") as directory:
            directory.intent.write_text("{}")
            quarantine = directory.path / f"quarantine-{now}.jsonl"
            quarantine.write_text("{}\n")
            began = time.perf_counter()
            settle(self.log, self.settled, self.rule, now=now, quarantine=Quarantine(quarantine))
            settled = time.perf_counter()
            self.log.maintain()
            self.settled.maintain()
            drop_outdated(self.config, now=now)
            tidied = time.perf_counter()
            outcome = PROMOTED if self.rng.random() < 0.5 else WAITING
            directory.finish(Retrained(outcome, "", 1, events=0, learnt=0), f"{now}-{os.urandom(8).hex()}")
        return settled - began, tidied - settled

    def publish(self, day: int, now: int) -> None:
        """A version of a megabyte, which has learnt what is settled; the newest five stay."""
        version, last = self.config.models_dir / str(day + 1), self.settled.last()
        version.mkdir(parents=True)
        (version / "weights").write_bytes(self.rng.bytes(1 << 20))
        write_manifest(version, Manifest(identity=f"{day:016x}", created_at=now, files={},
                                         window={"upto": 0 if last is None else last.number, "now": now}))
        prune(self.config.models_dir, keep=self.config.serving.keep_versions)

    def burst(self, now: int) -> tuple[float, float]:
        """Milliseconds of a run, the median of some that are five minutes apart, and MB that one adds to the memory."""
        self.job(now)
        before, taken = rss_mb(), []
        for n in range(self.wish.burst):
            self.traffic(now + 300 * (n + 1))
            taken.append(1e3 * sum(self.job(now + 300 * (n + 1))))
        return median(taken), (rss_mb() - before) / self.wish.burst

    def a_day_passes(self) -> None:
        """Everything on the disk is a day older."""
        for path in self.run.rglob("*"):
            if path.suffix != ".wal" and path.name != "lock":
                os.utime(path, (path.stat().st_mtime - DAY,) * 2)

    def gateway_reads(self) -> tuple[float, float]:
        """Milliseconds and MB to take up the log."""
        pa.default_memory_pool().release_unused()
        before, began = pa.total_allocated_bytes(), time.perf_counter()
        outcomes = newest_outcomes(self.log)
        histories = UserHistories(self.rule)
        histories.fill(outcomes)
        first_positives(outcomes, self.rule, most=100_000)
        return 1e3 * (time.perf_counter() - began), (pa.total_allocated_bytes() - before) / 1e6

    def sizes(self) -> dict[str, float]:
        """MB of each part of the run directory, and the number of all files."""
        files = {part: [path for path in (self.run / part).rglob("*") if path.is_file()] for part in PARTS}
        megabytes = {part: sum(path.stat().st_size for path in found) / 1e6 for part, found in files.items()}
        rows = {"log rows": sum(table.dataset().count_rows() for table in self.log.tables.values()),
                "example rows": self.settled.table.dataset().count_rows()}
        return megabytes | {f"{part} files": len(found) for part, found in files.items()} | rows


def months(year: Year) -> Iterator[dict[str, Any]]:
    """A line for each 30 days."""
    settling: list[float] = []
    tidying: list[float] = []
    for day in range(year.wish.days):
        for n in range(year.wish.runs):
            now = START + day * DAY + (n + 1) * DAY // year.wish.runs
            year.traffic(now)
            settled, tidied = year.job(now)
            settling.append(1e3 * settled)
            tidying.append(1e3 * tidied)
        year.publish(day, now)
        if (day + 1) % 30 == 0 or day + 1 == year.wish.days:
            run, grown = year.burst(now)
            read, memory = year.gateway_reads()
            yield {"day": day + 1, "outcomes": year.events, **year.sizes(), "settle ms": median(settling),
                   "tidy ms": median(tidying), "run ms": run, "gateway ms": read, "gateway MB": memory, "job MB": rss_mb(),
                   "MB a run": grown}
            settling, tidying = [], []
        year.a_day_passes()


def rss_mb() -> float:
    """The memory of this process, without what the allocator could give back."""
    pa.default_memory_pool().release_unused()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--runs", type=int, default=1, help="of the job, a day")
    parser.add_argument("--keep", type=float, default=60, help="data.keep_days; 0: all stays")
    parser.add_argument("--burst", type=int, default=12, help="runs of five minutes at the end of a month")
    parser.add_argument("--outcomes", type=int, default=40, help="between two runs")
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--items", type=int, default=500)
    wish = parser.parse_args()
    wish.keep = wish.keep or None
    pa.set_memory_pool(pa.system_memory_pool())
    with tempfile.TemporaryDirectory() as directory, ExitStack() as ends:
        found = []
        for line in months(Year(Path(directory), wish, ends)):
            found.append({name: round(value, 2) for name, value in line.items()})
            print(json.dumps(found[-1]), flush=True)
    early, late = found[min(2, len(found) - 1)], found[-1]
    for name in early:
        times = f" ({late[name] / early[name]:.2f} times)" if early[name] else ""
        print(f"{name}: {early[name]} -> {late[name]}{times}")


if __name__ == "__main__":
    main()

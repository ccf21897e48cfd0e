"""A month of traffic and housekeeping in the feedback log: how many files it has, and how long it takes to open.

    python tests/benchmarks/log_growth.py [--days 30] [--commits 60] [--jobs 6]

A day is so many commits of both tables, by one writer, and so many calls of `maintain`, which is what a retrain does at its end.
After each day all times in the directory are made a day older. A last line says whether the last day is within twice the first.
"""
import argparse
import os
import tempfile
import time
from pathlib import Path

from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.schema import KINDS
from tfrec.data.records import Impression, Outcome, Shown

DAY = 86_400


def commit(log: FeedbackLog, seq: int) -> None:
    """A slate and what came of it."""
    shown = Impression(request_id=f"r{seq}", time=seq, user="u", policy="greedy", model_version=1,
                       slate=[Shown(item=f"i{k}", position=k, score=0.0, log_propensity=0.0) for k in range(10)])
    outcome = Outcome(event_id=f"e{seq}", request_id=f"r{seq}", user="u", item="i0", action="click", time=seq)
    log.append("impressions", [(2 * seq - 1, shown.model_dump_json())], writer="g")
    log.append("outcomes", [(2 * seq, outcome.model_dump_json())], writer="g")


def seconds_to_open(root: str) -> float:
    """The median of five times."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        for table in FeedbackLog(root).tables.values():
            table.open()
        times.append(time.perf_counter() - began)
    return sorted(times)[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--commits", type=int, default=60, help="a day")
    parser.add_argument("--jobs", type=int, default=6, help="a day")
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        log, found = FeedbackLog(root), []
        for day in range(wish.days):
            for n in range(wish.commits):
                commit(log, day * wish.commits + n + 1)
                if (n + 1) % max(1, wish.commits // wish.jobs) == 0:
                    log.maintain()
            found.append((sum(path.is_file() for path in Path(root).rglob("*")), seconds_to_open(root)))
            print(f"day {day + 1}: {found[-1][0]} files, opened in {1e3 * found[-1][1]:.1f} ms", flush=True)
            for path in Path(root).rglob("*"):
                os.utime(path, (path.stat().st_mtime - DAY,) * 2)
        rows = {kind: log.read(kind).num_rows for kind in KINDS}
        (first, opened), (last, opened_last) = found[0], found[-1]
        print(f"files {first} -> {last}, opened in {1e3 * opened:.1f} -> {1e3 * opened_last:.1f} ms, rows {rows}")
        print(f"within twice the first day: files {last <= 2 * first}, time {opened_last <= 2 * opened}")


if __name__ == "__main__":
    main()

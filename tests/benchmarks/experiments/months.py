"""Months of simulated traffic, in which every experiment is judged after each request: how often wrongly, and how soon.

    python tests/benchmarks/experiments/months.py --runs 60

A run is 60 days of 10,000 requests by 100,000 users, who come back, and differ in how easily they are pleased. A tenth of the
requests is clicked. What 70% of the users did in 28 days before is known. The canary gets a share of the users, and loses or
gains a share of their clicks. It is promoted when it is better or no worse, and rolled back when it is worse. Prints a line for
each case: how many of the runs ended in which way, and the median of days, of the canary's users and of its requests until then.
"""
import argparse
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.experiments.streams import Stream, rows_of_each_request, stream
from tfrec.experiments.confidence_sequence import difference
from tfrec.experiments.user_moments import running_moments

DAYS, DAILY, USERS = 60, 10_000, 100_000
AT_ONCE = 50_000  # requests
LEVEL, EFFECT = 0.05, 0.05
CASES = ((0.5, -0.05), (0.1, -0.05), (0.5, 0.0), (0.1, 0.0), (0.1, -0.1), (0.5, 0.05))  # share of the canary, and its gain


def decided(one: Stream) -> tuple[str, int]:
    """How the run ends, and after how many requests."""
    before, after = rows_of_each_request(one)
    in_canary = (one.arm[one.user] == 1)[:, None]
    sums = [np.zeros((6, 6)), np.zeros((6, 6))]
    for start in range(0, len(before), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        arms = [running_moments(np.where(mine[part], before[part], 0), np.where(mine[part], after[part], 0)) + total
                for mine, total in ((~in_canary, sums[0]), (in_canary, sums[1]))]
        found = difference(*arms, level=LEVEL, effect=EFFECT)
        usual = arms[0][:, 0, 2] / np.maximum(arms[0][:, 0, 1], 1)
        worse, harmless = found.high < 0, found.low > -EFFECT * usual
        if (ends := worse | harmless).any():
            first = int(ends.argmax())
            return "rolled back" if worse[first] else "promoted", start + first + 1
        sums = [arm[-1] for arm in arms]
    return "open", len(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=60, help="of each case")
    parser.add_argument("--spread", type=float, default=0.0, help="of the logarithm of what a click is worth")
    options = parser.parse_args()
    for share, lift in CASES:
        began, ends = time.process_time(), []
        for seed in range(options.runs):
            one = stream(np.random.default_rng([seed, int(share * 100), int(1000 - 1000 * lift)]), requests=DAYS * DAILY,
                         users=USERS, share=share, lift=lift, value_spread=options.spread, past=28 / DAYS)
            word, requests = decided(one)
            mine = one.user[:requests][one.arm[one.user[:requests]] == 1]
            ends.append((word, requests / DAILY, len(np.unique(mine)), len(mine)))
        said = []
        for word in ("promoted", "rolled back", "open"):
            some = [end for end in ends if end[0] == word]
            if some:
                days, users, asked = (median(column) for column in list(zip(*some, strict=True))[1:])
                said.append(f"{word} {len(some)} of {options.runs} (day {days:.1f}, {users:,.0f} users, {asked:,.0f} requests)")
        print(f"share {share:g}, {lift:+.0%}: {'; '.join(said)}; {time.process_time() - began:.0f} s of processor", flush=True)


if __name__ == "__main__":
    main()

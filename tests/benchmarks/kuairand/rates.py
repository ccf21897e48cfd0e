"""Baselines on KuaiRand that are no model: popularity, and smoothed rates of users and videos.

    python tests/benchmarks/kuairand/rates.py DIRECTORY

Prints the AUC of click and of long view, trained on 25 to 30 April 2022 and asked on 1 to 8 May, and recomputed each day.
"""
import argparse
from pathlib import Path

import numpy as np
from next_day import auc, logit, smoothed_rates
from video_log import VideoLog, read

PRIOR = 20.0  # impressions
SECOND_WEEK = 6  # days after 25 April: 1 May


def rates_before(log: VideoLog, action: str, asked: np.ndarray, known: np.ndarray) -> dict[str, np.ndarray]:
    """Log odds of the smoothed rates of the impressions `asked`, from those `known`: of the video, and of the user."""
    happened = log.outcomes[action].astype(float)
    return {name: logit(smoothed_rates(key[known], happened[known], n=int(key.max()) + 1, prior=PRIOR))[key[asked]]
            for name, key in (("video", log.item), ("user", log.user))}


def daily_rates(log: VideoLog, action: str) -> dict[str, np.ndarray]:
    """As `rates_before` for all impressions, each day by the days before it."""
    found = {name: np.zeros(len(log)) for name in ("video", "user")}
    for day in np.unique(log.day):
        asked = log.day == day
        for name, value in rates_before(log, action, asked, log.day < day).items():
            found[name][asked] = value
    return found


def popularity(log: VideoLog) -> np.ndarray:
    """`[n]`: positives of each video on the days before, those of before the log among them."""
    _, item, time = log.events
    found = np.zeros(len(log))
    for of_log in np.unique(log.day):
        asked = log.day == of_log
        until = log.time[asked].min()
        found[asked] = np.bincount(item[time < until], minlength=len(log.catalogue))[log.item[asked]]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    log = read(parser.parse_args().directory, length=1)
    asked = log.day >= SECOND_WEEK
    for action in ("click", "long_view"):
        happened = log.outcomes[action][asked]
        fixed = rates_before(log, action, asked, ~asked)
        daily = {name: value[asked] for name, value in daily_rates(log, action).items()}
        for name, found in (("fixed", fixed), ("daily", daily)):
            figures = found | {"sum": found["video"] + found["user"]}
            print(f"{action}, {name}:", ", ".join(f"{which} {auc(score, happened):.4f}" for which, score in figures.items()))
        print(f"{action}, popularity: {auc(popularity(log)[asked], happened):.4f}", flush=True)


if __name__ == "__main__":
    main()

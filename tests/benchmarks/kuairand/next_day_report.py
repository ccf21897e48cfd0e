"""The table of KuaiRand: every arm of `replay.py` beside the baselines, on the first week (by which one chooses) and the second.

    python tests/benchmarks/kuairand/next_day_report.py DIRECTORY WORK [--output docs/kuairand.json] [--redraws 200]

Every score is turned into a probability by the logistic regression of the day before, so all models are calibrated by the same
rule. *With the user's rate* the regression has a second column, the log odds of the user's smoothed rate on the days before,
which says how much a person clicks whatever is shown; no ranking depends on it.
"""
import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from next_day import Redraws, calibrated_by_day_before, calibration_error, interval
from rates import SECOND_WEEK, daily_rates, popularity
from video_log import VideoLog, read

ACTIONS = ("click", "long_view")
WEEKS = ("first", "second")


class Table:
    """Figures of scores on one week and one action, and their differences."""

    def __init__(self, log: VideoLog, action: str, week: str, *, until: int, redraws: int) -> None:
        self.rows = ((log.day >= SECOND_WEEK) == (week == "second")) & (log.day >= 0) & (log.day < until)
        self.day, self.happened = log.day, log.outcomes[action].astype(float)
        self._redraws = Redraws(log.user[self.rows], log.day[self.rows], redraws=redraws)
        self.user_rate = daily_rates(log, action)["user"]
        self._redrawn: dict[tuple[str, str], np.ndarray] = {}

    def figures(self, name: str, score: np.ndarray) -> dict[str, Any]:
        """AUC, per-user AUC and calibration error of a score `[n]` of all impressions."""
        rows, happened = self.rows, self.happened[self.rows]
        alone = calibrated_by_day_before(score[:, None], self.happened, self.day)[rows]
        both = calibrated_by_day_before(np.column_stack([score, self.user_rate]), self.happened, self.day)[rows]
        found = {"auc": self._redraws.auc(alone, happened), "per user": self._redraws.per_user_auc(score[rows], happened),
                 "auc with the user's rate": self._redraws.auc(both, happened)}
        self._redrawn |= {(name, figure): values for figure, values in found.items()}
        calibration = {"calibration error": calibration_error(1 / (1 + np.exp(-alone)), happened)}
        return {figure: rounded(interval(values)) for figure, values in found.items()} | {
            figure: round(value, 4) for figure, value in calibration.items()}

    def difference(self, name: str, other: str) -> dict[str, Any]:
        """How far one is above another."""
        figures = [figure for who, figure in self._redrawn if who == name]
        return {figure: rounded(interval(self._redrawn[name, figure] - self._redrawn[other, figure])) for figure in figures}


def rounded(values: Any) -> list[float]:
    return [round(float(value), 4) for value in values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--arm", nargs="*", help="by default all")
    parser.add_argument("--week", nargs="*", default=WEEKS)
    parser.add_argument("--until", type=int, default=14, help="day")
    parser.add_argument("--redraws", type=int, default=200)
    parser.add_argument("--output", type=Path)
    wish = parser.parse_args()
    log = read(wish.directory, length=1)
    scores = {"popularity": np.log1p(popularity(log))}
    names = wish.arm or sorted(path.stem for path in (wish.work / "scores").glob("*.npz") if path.stem != "static")
    for name in ["static", *names]:
        with np.load(wish.work / "scores" / f"{name}.npz") as file:
            scores[name] = file["similarity"] + file["beta"] * file["log_p"]
    found: dict[str, Any] = {}
    for week in wish.week:
        for action in ACTIONS:
            table = Table(log, action, week, until=wish.until, redraws=wish.redraws)
            rates = daily_rates(log, action)
            found[f"{week} week, {action}"] = {
                name: table.figures(name, score) for name, score in
                ({"video's rate": rates["video"], "sum of rates": rates["video"] + rates["user"]} | scores).items()}
            part = found[f"{week} week, {action}"]
            for name in names:
                part[name]["above"] = {other: table.difference(name, other) for other in ("static", "softmax", "sum of rates")
                                       if other in part and other != name}
            print(f"\n{week} week, {action}")
            for name, figures in part.items():
                words = [f"{figure} {value[0]:.4f} [{value[1]:.4f}, {value[2]:.4f}]" if isinstance(value, list) else
                         f"{figure} {value:.4f}" for figure, value in figures.items() if figure != "above"]
                print(f"  {name:28}", "; ".join(words))
                for other, gaps in figures.get("above", {}).items():
                    words = [f"{figure} {value[0]:+.4f} [{value[1]:+.4f}, {value[2]:+.4f}]" for figure, value in gaps.items()]
                    print(f"  {'':14}above {other:14}", "; ".join(words), flush=True)
    if wish.output:
        wish.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

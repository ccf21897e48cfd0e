"""The closed loop of the demo over several seeds, with its control: what learning from its own slates is worth, with intervals.

    python tests/benchmarks/simulation/closed_loop.py WORK --seeds 5 [--first 0] [--controls] --output F.json
    python tests/benchmarks/simulation/closed_loop.py WORK --from F.json G.json --output H.json --picture H.svg

Each seed is a run of a process of its own: other people drift, to other tastes, and roll other dice. `--controls` plays the two
arms whose gateways are told of clicks at other positions, beside static. WORK keeps the vectors of the films' texts.
"""
import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tfrec import terminal
from tfrec.data.behaviour.movielens import load_movielens
from tfrec.demo.closed_loop.figures import ARMS, BESIDE, CONTROLS, STATIC, over_seeds
from tfrec.demo.closed_loop.loop import Plan, play
from tfrec.models.recommender import TEXT_VECTORS

LOOKS = {"best": ("black", ":"), "exploring": ("#0b6bcb", "-"), "greedy": ("#1a7f4b", "-"), "static": ("#7a7f87", "--")}


def one(work: Path, seed: int, *, controls: bool, settings: tuple[str, ...]) -> dict[str, Any]:
    """The figures of one seed."""
    run = work / f"seed-{seed}"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    if (work / TEXT_VECTORS).exists():
        shutil.copy(work / TEXT_VECTORS, run)
    played = play(run, *load_movielens(), seed=seed, plan=Plan(arms=(STATIC, *CONTROLS) if controls else ARMS, settings=settings))
    shutil.copy(run / TEXT_VECTORS, work)
    return played.figures() | {"seed": seed, "retrain_seconds": {
        arm: [round(sum(result.seconds.values()), 1) for result in results] for arm, results in played.retrains.items()}}


def show(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Print the figures of all seeds as one, and return them. Of one seed, intervals are over its people."""
    arms = runs[0]["reward"].keys()
    found = (over_seeds(runs) if len(runs) > 1 else runs[0]) | {"runs": runs}
    for arm in arms:
        print(f"{arm:>15}", "  ".join(f"{mean:.3f}" for mean, _, _ in found["reward"][arm]))
    for arm, (mean, low, high) in found["gain"].items():
        each = ", ".join(f"{run['gain'][arm][0]:.3f}" for run in runs)
        print(f"{arm}: {mean:.3f} [{low:.3f}, {high:.3f}] of (best - {BESIDE[arm]}) after the drift; seeds {each}; "
              f"{sum(run['promoted'][arm] for run in runs)} of {sum(run['retrains'][arm] for run in runs)} retrains went live")
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    """Clicks per request by round, with a band of 95%."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "tfrec", "font.size": 10}):
        chart = Figure(figsize=(8, 4), layout="constrained")
        axes = chart.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        for arm, (colour, line) in LOOKS.items():
            mean, low, high = zip(*found["reward"][arm], strict=True)
            at = range(1, len(mean) + 1)
            axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(at, mean, color=colour, linestyle=line, linewidth=2)
            axes.annotate({"best": "best slates"}.get(arm, arm), (at[-1], mean[-1]), (6, 0), textcoords="offset points",
                          va="center", color=colour, fontweight="bold", annotation_clip=False)
        axes.axvline(found["drift"] + 0.5, color="#666b73", linewidth=1, linestyle=":")
        axes.annotate("tastes drift", (found["drift"] + 0.5, 1), (5, -4), xycoords=("data", "axes fraction"), va="top",
                      textcoords="offset points", color="#666b73")
        axes.set(xlabel="round", ylabel="expected clicks per request", xticks=list(at), ylim=(0, None))
        chart.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--controls", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--from", dest="files", type=Path, nargs="+", default=[])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--picture", type=Path)
    wish = parser.parse_args()
    wish.work.mkdir(parents=True, exist_ok=True)
    runs = [run for file in wish.files for run in json.loads(file.read_text())["runs"]]
    if not runs and wish.seeds == 1:
        runs = [one(wish.work, wish.first, controls=wish.controls, settings=tuple(wish.set))]
    for seed in range(wish.first, wish.first + wish.seeds) if not runs else ():
        out = wish.work / f"seed-{seed}.json"
        more = [*(["--controls"] if wish.controls else []), *(word for pair in wish.set for word in ("--set", pair))]
        subprocess.run([sys.executable, __file__, str(wish.work), "--first", str(seed), "--output", str(out), *more], check=True)
        runs += json.loads(out.read_text())["runs"]
    found = show(runs)
    if wish.output:
        wish.output.write_text(terminal.to_json(found, indent=None) + "\n")
    if wish.picture:
        draw(found, wish.picture)


if __name__ == "__main__":
    main()

"""The closed loop of the demo over several seeds, with its control: what learning from its own slates is worth, with intervals.

    python tests/benchmarks/simulation/closed_loop.py WORK --seeds 5 [--first 0] [--controls] --output F.json
    python tests/benchmarks/simulation/closed_loop.py WORK --from F.json G.json --output H.json --picture H.svg

Each seed is a run of a process of its own: other people drift, to other tastes, and roll other dice. `--controls` plays the two
arms whose gateways are told of clicks at other positions, beside static. WORK keeps the vectors of the films' texts.
"""
import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tfrec import terminal
from tfrec.data.behaviour.movielens import load_movielens
from tfrec.demo.closed_loop.figures import ARMS, BESIDE, CONTROLS, STATIC, over_seeds
from tfrec.demo.closed_loop.loop import Plan, play
from tfrec.demo.report import charts
from tfrec.models.recommender import TEXT_VECTORS


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
    """The picture of the demo's page as a file of its own, in the page's colours."""
    page = Path(charts.__file__).with_name("page.html").read_text()
    colours = re.search(r":root {.*?}", page, re.DOTALL)
    style = f"<style>{colours[0] if colours else ''} svg {{ font-family: sans-serif; }}</style>"
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    path.write_text(re.sub(r"<svg ([^>]*)>", rf"<svg {names} \1>{style}", charts.reward_chart(found), count=1))


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

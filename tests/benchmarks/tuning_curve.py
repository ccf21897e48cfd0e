"""Cost, quality and forgetting of each way of tuning BERT, on MSRD and MovieTweetings; what docs/tuning.md shows.

    PYTHONPATH=. python tests/benchmarks/tuning_curve.py --msrd DIR --movietweetings DIR --into docs/tuning_curve.json
    PYTHONPATH=. python tests/benchmarks/tuning_curve.py --into docs/tuning_curve.json --plot docs/tuning_curve.svg

Each line of `runs` is one training of all-MiniLM-L6-v2 (6 layers, width 384) on texts cut to 32 word pieces. Lines that the file
has already are not measured again, so it can be stopped and started. Step times are taken in pairs with full tuning's in one
process, turn by turn; the ratio is that of medians.
"""
import argparse
import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tuning_data import Ranking, documentation, movietweetings, msrd

from tfrec.config import Config, load_config
from tfrec.data.examples.pairs import Pairs
from tfrec.data.items.catalogue import Catalogue
from tfrec.models.text_encoder import TextEncoder
from tfrec.training.encoder import tuning_loop
from tfrec.training.encoder.new_encoder import peft_config_of
from tfrec.training.encoder.pretrain import pretrain
from tfrec.training.encoder.tune import PairModel, pair_batches, tune

import tensorflow as tf  # isort: skip  after tfrec, which chooses Keras 2

REPLAY = "tuning.replay=3"
METHODS = {
    "frozen": [],
    "prefix": ["text.tuning=prefix"],
    "adapters": ["text.tuning=adapters"],
    "lora": ["text.tuning=lora"],
    "lora, top third": ["text.tuning=lora", "tuning.layers=2"],
    "adapters, top third": ["text.tuning=adapters", "tuning.layers=2"],
    "top-2": ["text.tuning=top", "tuning.layers=2"],
    "full": ["text.tuning=full"],
}
RUNS = {name: words for name, words in METHODS.items() if name != "adapters, top third"}
RUNS |= {f"{name} + replay": [*words, REPLAY] for name, words in RUNS.items() if words and "third" not in name}
PRETRAINED = ("pretrained", "pretrained, then full")


def settings(words: list[str], *, seed: int, run: str = "runs/curve") -> Config:
    return load_config(None, [f"run={run}", "text.max_tokens=32", f"training.seed={seed}", *words])


class Curve:
    """The figures so far, in a file."""

    def __init__(self, path: Path, rankings: dict[str, Ranking]) -> None:
        self._path, self._rankings = path, rankings
        self.kept: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"runs": {}, "steps": {}}

    def measure(self, name: str, encoder: str, cost: dict[str, Any]) -> None:
        made = TextEncoder(encoder, max_tokens=32)
        found = {task: ranking.ndcg(made) for task, ranking in self._rankings.items()}
        figures = {task: round(float(v.mean()), 4) for task, v in found.items()}
        errors = {f"{task}_se": round(float(v.std() / len(v) ** 0.5), 4) for task, v in found.items()}
        self.keep("runs", name, figures | errors | cost)

    def keep(self, part: str, name: str, figures: dict[str, Any]) -> None:
        self.kept[part][name] = figures
        self._path.write_text(json.dumps(self.kept, indent=1) + "\n")
        print(part, name, figures, flush=True)


def step_times(catalogue: Catalogue, pairs: Pairs, *, rounds: int) -> dict[str, dict[str, float]]:
    """The median seconds of a step of each way, by the clock and of the processor, and their ratios to full tuning's beside it.

    Those of the processor do not count what else the machine does.
    """
    models = {}
    for name in ["full", *(n for n in METHODS if n not in ("frozen", "full"))]:
        config = settings(METHODS[name], seed=0)
        encoder = TextEncoder(config.text.encoder, max_tokens=32)
        model = PairModel(encoder, peft_config_of(config, encoder), settings=config.tuning, seed=0)
        optimizer = tuning_loop.tuning_optimiser(config, steps=1000)
        optimizer.build(model.trained)
        model.compile(optimizer=optimizer)
        batch = next(iter(pair_batches(encoder, pairs, catalogue.texts, config=config).epoch(0)))
        step = tf.function(model.train_step, autograph=False)
        step(batch)
        models[name] = (step, batch)
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    beside: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for _ in range(rounds):
        for name in models:  # full and this one, turn by turn
            for which, into in ((name, took), ("full", beside)):
                step, batch = models[which]
                began, worked = time.perf_counter(), time.process_time()
                step(batch)["loss"].numpy()
                into[name].append((time.perf_counter() - began, time.process_time() - worked))
    found = {}
    for name in models:
        own, full = np.median(took[name], axis=0), np.median(beside[name], axis=0)
        found[name] = {"seconds": round(float(own[0]), 4), "of_full": round(float(own[0] / full[0]), 3),
                       "processor_seconds": round(float(own[1]), 4), "processor_of_full": round(float(own[1] / full[1]), 3)}
    return found


def quality(wish: argparse.Namespace, curve: Curve, catalogue: Catalogue, pairs: Pairs, old: list[str]) -> None:
    names = [name for name in wish.only or RUNS if name in RUNS and name not in curve.kept["runs"]]
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            config, cost = settings([*RUNS[name], *wish.set], seed=wish.seed), {}
            encoder = config.text.encoder
            if name != "frozen":
                made = tune(config, catalogue, pairs, Path(scratch) / "encoder", replay=old)
                encoder, cost = str(made.encoder), of(made)
            curve.measure(name, encoder, cost)


def pretrained(wish: argparse.Namespace, curve: Curve, catalogue: Catalogue, pairs: Pairs) -> None:
    if all(name in curve.kept["runs"] for name in PRETRAINED) or (wish.only and not set(wish.only) & set(PRETRAINED)):
        return
    with tempfile.TemporaryDirectory() as scratch:
        config = settings(["text.tuning=full", "tuning.replay=1", "tuning.epochs=1"], seed=wish.seed)  # minutes
        parent = pretrain(config, catalogue.texts[::2], Path(scratch) / "pretrained")
        curve.measure("pretrained", str(parent.encoder), of(parent))
        words = ["text.tuning=full", f"text.encoder={parent.encoder}", *wish.set]
        made = tune(settings(words, seed=wish.seed), catalogue, pairs, Path(scratch) / "full")
        curve.measure("pretrained, then full", str(made.encoder), of(made))


def of(made: Any) -> dict[str, Any]:
    return {"trained": made.trained_parameters, "share": round(made.trained_share, 4), "epochs": made.epochs,
            "steps": made.steps, "loss_before": round(made.held_out_loss_before, 4), "loss": round(made.held_out_loss, 4),
            "seconds": round(made.seconds, 1)}


def table(kept: dict[str, Any]) -> str:
    """The figures as the table of docs/tuning.md."""
    runs, steps = kept["runs"], kept["steps"]
    untuned, full = runs["frozen"]["search"], runs["full"]["search"]
    lines = ["| tuning | parameters trained | step | search | of full's gain | next film | documentation |", "|" + " --- |" * 7]
    for name in dict.fromkeys([*METHODS, *RUNS, *PRETRAINED]):
        run, step = runs.get(name), steps.get(name, {}).get("processor_of_full")
        shown = [name, "", "" if step is None else f"{step:.2f}", *[""] * 4]
        if run is not None:
            shown[1] = f"{run['trained']:,} ({run['share']:.2%})" if "trained" in run else "0"
            gain = (run["search"] - untuned) / (full - untuned)
            shown[3:] = [f"{run['search']:.3f}", f"{gain:.0%}", f"{run['next_film']:.4f}", f"{run['docs']:.3f}"]
        if run is not None or step is not None:
            lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def plot(kept: dict[str, Any], path: Path) -> None:
    """Search over the time of a step, and over what is left of the likeness of films."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "tfrec"
    import matplotlib.pyplot as plt

    runs, steps = kept["runs"], kept["steps"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for number, name in enumerate(METHODS):
        if name in runs and (name == "frozen" or name in steps):
            x, y = 0 if name == "frozen" else steps[name]["processor_of_full"], runs[name]["search"]
            left.plot(x, y, "o", color="tab:blue")
            left.annotate(name, (x, y), textcoords="offset points", xytext=(4, (5, -11)[number % 2]), fontsize=8)
    left.set(xlabel="time of a step, full tuning's = 1", ylabel="search on MSRD, NDCG@10", title="Cost")
    for ending, mark, label in (("", "o", "without replay"), (" + replay", "s", "with replay")):
        shown = [(n, runs[n + ending]) for n in METHODS if n + ending in runs]
        if not shown:
            continue
        right.plot([r["next_film"] for _, r in shown], [r["search"] for _, r in shown], mark, label=label)
        for number, (name, r) in enumerate(shown):
            at = (4, (5, -11)[number % 2])
            right.annotate(name, (r["next_film"], r["search"]), textcoords="offset points", xytext=at, fontsize=8)
    right.set(xlabel="next film on MovieTweetings (not tuned on), NDCG@10", title="Forgetting: further left is more")
    right.legend()
    for axes in (left, right):
        axes.margins(0.15)
        axes.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--msrd", type=Path)
    parser.add_argument("--movietweetings", type=Path)
    parser.add_argument("--into", type=Path, required=True, help="JSON of the figures")
    parser.add_argument("--plot", type=Path, help="draw what is there and print it as a table, and measure nothing")
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=11, help="of step times; 0: none")
    parser.add_argument("--only", nargs="*", help=f"lines, of {', '.join([*RUNS, *PRETRAINED])}")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings over those of each line")
    wish = parser.parse_args()
    if wish.plot:
        plot(json.loads(wish.into.read_text()), wish.plot)
        print(table(json.loads(wish.into.read_text())))
        return
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("tfrec").setLevel(logging.INFO)
    catalogue, pairs, search = msrd(wish.msrd, train=wish.pairs, test=2000)
    old, following = movietweetings(wish.movietweetings, test=4000)
    curve = Curve(wish.into, {"search": search, "next_film": following, "docs": documentation()})
    if wish.rounds:
        for name, figures in step_times(catalogue, pairs, rounds=wish.rounds).items():
            curve.keep("steps", name, figures)
    quality(wish, curve, catalogue, pairs, old)
    pretrained(wish, curve, catalogue, pairs)


if __name__ == "__main__":
    main()

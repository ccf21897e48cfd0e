"""Learning from each window against learning everything again, over the second half of a stream of behaviour.

    python tests/benchmarks/incremental.py ratings.dat movies.dat [--windows 10] [--work DIR] [--set retrain.epochs=2 ...]

The files are MovieTweetings': `user::item::rating::seconds` and `item::title (year)::genres`. A model is trained on the first
half; then, window by window, its events are asked (protocol "prequential next item", popularity rolls for all) of

    full         a model trained anew on everything before the window, for the number of epochs that suited the first half
    incremental  the model of the window before, which has learnt that window with replay, as `tfrec retrain` does
    static       the model of the first half
    7-day        popularity

Unlike the job, nothing is held back for a gate: all of a window is learnt. Cost is the processor's time for training, the
tracing of its graphs included. What `full` found is kept in DIR, and taken up. Prints the figures and writes them to
docs/incremental.json, and the picture to docs/incremental.svg.
"""
import argparse
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfrec.config import Config, load_config
from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.evaluation.baselines import WEEK, popularity_scorer
from tfrec.evaluation.intervals import UserBootstrap
from tfrec.evaluation.metrics import hits, ndcg
from tfrec.evaluation.protocol import hash_sample, rank_events, with_history
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.prior_weights import fit_weights
from tfrec.models.recommender import Recommender, encode_catalogue
from tfrec.models.scorer import Scorer
from tfrec.training import checkpoint
from tfrec.training.loop import Trainer, optimiser
from tfrec.training.replay import with_replay
from tfrec.training.train import PRIOR_SHARE, train

HALF = 0.5  # of the events, by time
FULL, INCREMENTAL, STATIC, WEEKLY = "full", "incremental", "static", "7-day popularity"
DOCS = Path(__file__).parents[2] / "docs"


def read(ratings: Path, movies: Path) -> tuple[Catalogue, Interactions]:
    """Films that were rated, with title, genres and year; who rated what when."""
    rows = [line.split("::") for line in ratings.read_text(encoding="utf-8").splitlines()]
    users, items, times = [row[0] for row in rows], [row[1] for row in rows], [int(row[3]) for row in rows]
    films = dict(line.split("::", 1) for line in movies.read_text(encoding="utf-8").splitlines())
    rated = []
    for name in dict.fromkeys(items):
        title, _, genres = films.get(name, "").partition("::")
        year = re.search(r"\((\d{4})\)\s*$", title)
        rated.append(Item(id=name, text={"title": title, "genres": genres.replace("|", ", ")},
                          numeric={} if year is None else {"year": float(year[1])}))
    catalogue = Catalogue(rated)
    return catalogue, Interactions.from_columns(users, items, times, items=catalogue.ids.tolist())


class Judge:
    """Ranks of the events that are asked of each window."""

    def __init__(self, inter: Interactions, edges: Sequence[int], *, limit: int) -> None:
        self.inter, self.edges, self.histories = inter, edges, Histories(inter)
        spans = zip(edges[:-1], edges[1:], strict=True)
        asked = [with_history(inter, np.arange(start, end), histories=self.histories) for start, end in spans]
        self.asked = [hash_sample(inter, events, limit=limit) for events in asked]

    def rank(self, window: int, scorer: Any) -> np.ndarray:
        return rank_events(self.inter, self.asked[window], scorer, histories=self.histories).rank

    def scorer(self, made: Recommender, window: int) -> Scorer:
        start = self.edges[window]
        prior = PopularityPrior.counted(self.inter, start, weights=made.prior.weights)
        return Scorer(made, self.inter, counted=start, histories=self.histories, prior=prior)


def anew(config: Config, catalogue: Catalogue, inter: Interactions, *, epochs: int,
         beta: float) -> tuple[Recommender, float, int]:
    """A model trained on all of `inter`, the processor seconds and the optimiser steps that took."""
    weights = fit_weights(inter, start=int((1 - PRIOR_SHARE) * len(inter)), stop=len(inter))
    made = Recommender.build(config, catalogue, encode_catalogue(config, catalogue.texts), actions=inter.actions)
    began = time.process_time()
    course = Trainer(made, inter, np.ones(len(inter), bool), prior_weights=weights)
    course.run(optimiser(config, learning_rate=config.training.learning_rate), epochs=range(epochs))
    made.model.average.swap()
    seconds = time.process_time() - began
    made.model.beta.assign(beta)
    made.prior = PopularityPrior.counted(inter, weights=weights)
    return made, seconds, course.steps * epochs


def learn(config: Config, made: Recommender, optimizer: Any, inter: Interactions, *, start: int, seed: int) -> tuple[float, int]:
    """Go on with the events of `inter` from `start` on, as the retrain job does; processor seconds and optimiser steps."""
    wish = config.retrain
    began = time.process_time()
    optimizer.learning_rate = wish.learning_rate
    targets = with_replay(inter, np.arange(len(inter)) >= start, ratio=wish.replay, length=config.model.history, seed=seed,
                          evenness=wish.evenness)
    made.model.average.restart()
    course = Trainer(made, inter, targets, prior_weights=made.prior.weights)
    made.model.anchor.hold(wish.l2_sp)
    course.run(optimizer, epochs=range(seed, seed + wish.epochs))
    made.model.average.swap()
    made.model.anchor.hold(0.0)
    return time.process_time() - began, course.steps * wish.epochs


def compare(config: Config, catalogue: Catalogue, inter: Interactions, *, windows: int, limit: int, work: Path) -> dict[str, Any]:
    """All figures, ready for JSON."""
    edges = [int(e) for e in np.linspace(int(HALF * len(inter)), len(inter), windows + 1)]
    judge = Judge(inter, edges, limit=limit)
    half, directory = inter.slice(0, edges[0]), work / "half"
    if not (directory / "checkpoint.json").is_file():
        trained = train(config, catalogue, half)
        checkpoint.save(directory, trained.recommender, optimizer=trained.optimizer, meta={"epochs": trained.epochs})
    static, meta = checkpoint.load(directory, config)
    optimizer = optimiser(config, learning_rate=config.retrain.learning_rate)
    growing, _ = checkpoint.load(directory, config, optimizer=optimizer)
    epochs, beta = int(meta["epochs"]), float(static.model.beta.numpy())
    found: dict[str, list[np.ndarray]] = {name: [] for name in (FULL, INCREMENTAL, STATIC, WEEKLY)}
    cost: dict[str, list[tuple[float, int]]] = {FULL: [], INCREMENTAL: []}
    week = popularity_scorer(inter, window=WEEK)
    for window in range(windows):
        before, kept = inter.slice(0, edges[window]), work / f"full-{window}.npz"
        if not kept.is_file():
            made, seconds, steps = anew(config, catalogue, before, epochs=epochs, beta=beta)
            np.savez(kept, rank=judge.rank(window, judge.scorer(made, window)), seconds=seconds, steps=steps)
        with np.load(kept) as full:
            found[FULL].append(full["rank"])
            cost[FULL].append((float(full["seconds"]), int(full["steps"])))
        if window:
            cost[INCREMENTAL].append(learn(config, growing, optimizer, before, start=edges[window - 1], seed=window))
        found[INCREMENTAL].append(judge.rank(window, judge.scorer(growing, window)))
        found[STATIC].append(judge.rank(window, judge.scorer(static, window)))
        found[WEEKLY].append(judge.rank(window, week))
        rates = {name: round(float(hits(ranks[-1], k=10).mean()), 4) for name, ranks in found.items()}
        print(window, rates, {name: rows[-1:] for name, rows in cost.items()}, flush=True)
    return figures(judge, found, cost, epochs=epochs) | {"settings": config.retrain.model_dump(mode="json")}


def figures(judge: Judge, found: dict[str, list[np.ndarray]], cost: dict[str, list[tuple[float, int]]], *,
            epochs: int) -> dict[str, Any]:
    """Of the windows that come after something was learnt: the first is asked of one and the same model, and only shown."""
    events = np.concatenate(judge.asked[1:])
    hit = {name: hits(np.concatenate(ranks[1:]), k=10) for name, ranks in found.items()}
    bootstrap = UserBootstrap(judge.inter.user[events])
    spent = {name: np.sum(rows if name == INCREMENTAL else rows[1:], axis=0) for name, rows in cost.items()}
    return {
        "events": len(events),
        "users": len(np.unique(judge.inter.user[events])),
        "epochs of full": epochs,
        "hr@10": {name: float(own.mean()) for name, own in hit.items()},
        "ndcg@10": {name: float(ndcg(np.concatenate(ranks[1:]), k=10).mean()) for name, ranks in found.items()},
        "incremental minus": {name: (bootstrap.difference(hit[INCREMENTAL], own) or hit[INCREMENTAL])._asdict()
                              for name, own in hit.items() if name != INCREMENTAL},
        "share of full's hr@10": float(hit[INCREMENTAL].mean() / hit[FULL].mean()),
        "seconds": {name: float(total[0]) for name, total in spent.items()},
        "steps": {name: int(total[1]) for name, total in spent.items()},
        "share of full's seconds": float(spent[INCREMENTAL][0] / spent[FULL][0]),
        "share of full's steps": float(spent[INCREMENTAL][1] / spent[FULL][1]),
        "by window": {name: [float(hits(rank, k=10).mean()) for rank in ranks] for name, ranks in found.items()},
        "from": [int(judge.inter.time[edge]) for edge in judge.edges[:-1]],
        "asked": [len(asked) for asked in judge.asked],
    }


def picture(found: dict[str, Any], path: Path) -> None:
    """HR@10 by window, a line a model."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "incremental"  # the same figures, the same file
    import matplotlib.pyplot as plt

    styles = {FULL: ("#1b6ca8", "-"), INCREMENTAL: ("#d1495b", "-"), STATIC: ("#777777", "--"), WEEKLY: ("#edae49", "--")}
    figure, axes = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
    for name, values in found["by window"].items():
        colour, line = styles[name]
        axes.plot(range(1, len(values) + 1), values, line, color=colour, marker="o", markersize=4,
                  label=f"{name} ({found['hr@10'][name]:.3f})")
    days = [time.strftime("%d %b %Y", time.gmtime(second)) for second in found["from"]]
    axes.set_xticks(range(1, len(days) + 1), days, rotation=30, ha="right", fontsize=8)
    axes.set_ylabel("HR@10")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("window, by its first event")
    quality, price = found["share of full's hr@10"], found["share of full's seconds"]
    axes.set_title(f"Incremental: {quality:.1%} of full retraining at {price:.1%} of its training time", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings", type=Path)
    parser.add_argument("movies", type=Path)
    parser.add_argument("--windows", type=int, default=10)
    parser.add_argument("--limit", type=int, default=2000, help="events asked of a window, at most")
    parser.add_argument("--work", type=Path, default=Path("runs/incremental"))
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--only-print", action="store_true", help="leave docs/ as it is")
    wish = parser.parse_args()
    config = load_config(None, [f"run={wish.work}", *wish.set])
    catalogue, inter = read(wish.ratings, wish.movies)
    found = compare(config, catalogue, inter, windows=wish.windows, limit=wish.limit, work=wish.work)
    print(json.dumps(found, indent=1))
    if not wish.only_print:
        DOCS.mkdir(exist_ok=True)
        (DOCS / "incremental.json").write_text(json.dumps(found, indent=1) + "\n")
        picture(found, DOCS / "incremental.svg")


if __name__ == "__main__":
    main()

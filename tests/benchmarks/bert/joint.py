"""The text encoder frozen, tuned on behaviour before, and trained together with the towers; what docs/tune.md shows.

    PYTHONPATH=.:tests/benchmarks python tests/benchmarks/bert/joint.py --data DIR [--events N] [--texts N] [--step] [--set ...]

DIR holds `movietweetings`, `msrd` and `movietweetings_to_msrd.csv`, which pairs the films that both have. The catalogue is these
films, with title, genres, actors and overview from MSRD. Of their newest N ratings in MovieTweetings the first 80% train, and the
rest is evaluated as by `tfrec evaluate`. Each way has a line of the table: HR@10 and NDCG@10 of all events, HR@10 of items that
were untouched by then, nDCG@10 of MSRD's own queries by meaning alone, and processor seconds of the whole training.

`--step` measures a step of `--batch` windows of each kind instead: its processor seconds, and the peak memory of the process.
"""
import argparse
import csv
import gzip
import json
import resource
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from tuning_data import msrd

from tfrec.config import Config, load_config
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.pairs import pairs_of_behaviour
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.evaluation.metrics import hits, ndcg
from tfrec.evaluation.protocol import evaluated_events, rank_events
from tfrec.models.recommender import Recommender
from tfrec.models.scorer import Scorer
from tfrec.models.text_encoder import load_encoder
from tfrec.training.encoder.tune import tune
from tfrec.training.profile import Profile
from tfrec.training.train import TrainingInputs, train

import tensorflow as tf  # isort: skip  after tfrec, which chooses Keras 2

WARM = 4  # steps that are not measured: they trace


def films(data: Path, *, events: int) -> tuple[Catalogue, Interactions]:
    """The films that both have, and their newest ratings."""
    with (data / "movietweetings_to_msrd.csv").open() as lines:
        of_imdb = dict(list(csv.reader(lines))[1:])
    catalogue = msrd(data / "msrd", train=1, test=1)[0]
    joined = Catalogue([catalogue.items[catalogue.index[name]] for name in dict.fromkeys(of_imdb.values()) if name in catalogue.index])
    with (data / "movietweetings" / "ratings.dat").open() as lines:
        rows = [line.rstrip("\n").split("::") for line in lines]
    rows = [(user, of_imdb[film], int(when)) for user, film, _, when in rows if film in of_imdb]
    rows = sorted(rows, key=lambda row: row[2])[-events:]
    user, item, when = zip(*rows, strict=True)
    return joined, Interactions.from_columns(user, item, when, items=joined.ids.tolist())


class Clock(tf.keras.callbacks.Callback):
    """Processor seconds at the end of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.ticks: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.ticks.append(time.process_time())

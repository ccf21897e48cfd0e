"""Amazon Beauty by the protocol of published tables: the last item of each user, among the whole catalogue, by ids alone.

    python tests/benchmarks/sequence/beauty.py Beauty.txt [--work DIR] [--set section.key=value ...]

The file has a user a line: a name, then items in the order of time, without times. One user's events are taken to be a second
apart, and one user to begin after another, so that popularity counts users and not places in a sequence. Prints HR@10 and NDCG@10
on the last items, of the model and of the baselines. `SETTINGS` suit such a catalogue, of which nothing but ids is known.
"""
import argparse
import json
from pathlib import Path

import numpy as np

from tfrec.config import load_config
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.evaluation.leave_one_out import leave_one_out

SETTINGS = ("model.dropout=0.5", "model.history=50", "training.learning_rate=0.002")
APART = 50  # seconds from the start of one user to that of the next


def read(path: Path, *, seed: int = 0) -> tuple[Catalogue, Interactions]:
    """Items without a text, and who bought them in which order."""
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    catalogue = Catalogue(Item(id=name) for name in sorted({name for row in rows for name in row[1:]}, key=int))
    events = [(rows[row][0], name, 1 + APART * start + second)
              for start, row in enumerate(np.random.default_rng(seed).permutation(len(rows)))
              for second, name in enumerate(rows[row][1:])]
    users, items, times = zip(*events, strict=True)
    return catalogue, Interactions.from_columns(users, items, times, items=catalogue.ids.tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/beauty"))
    parser.add_argument("--set", action="append", default=[], dest="words", metavar="section.key=value")
    wish = parser.parse_args()
    catalogue, inter = read(wish.sequences)
    found = leave_one_out(load_config(None, [f"run={wish.work}", *SETTINGS, *wish.words]), catalogue, inter).to_dict()
    rows = {"model": found["model"], **found["baselines"]}
    print(json.dumps({name: {"hr@10": row["hr@10"], "ndcg@10": row["ndcg@10"], "intervals": row.get("intervals", {})}
                      for name, row in rows.items()} | {"epochs": found["epochs"], "seconds": found["train_seconds"]}, indent=1))


if __name__ == "__main__":
    main()

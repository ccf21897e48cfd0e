"""The best films for each evaluated event of MovieTweetings, by a model that was trained on the first 80% of the log.

The protocol is that of `tfrec evaluate` (row *static*): weights of the split, popularity rolls, candidates are the films that the
user has not rated before. What is kept of an event are the `N` best candidates and their scores; slates are made of these.
"""
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfrec.config import Config
from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.evaluation.protocol import evaluated_events
from tfrec.models.recommender import Recommender
from tfrec.models.scorer import Scorer
from tfrec.training import checkpoint
from tfrec.training.train import train

N = 200  # as many as the served graph reranks
_AT_ONCE = 256
_KEPT = "shortlists.npz"


@dataclass(frozen=True)
class Shortlists:
    """The evaluated events, `n` of them, and what slates are made of."""

    user: npt.NDArray[np.int32]  # [n]
    target: npt.NDArray[np.int64]  # [n] the film that was rated
    items: npt.NDArray[np.int64]  # [n, N] catalogue positions, best first
    scores: npt.NDArray[np.float32]  # [n, N]
    history_mix: npt.NDArray[np.float32]  # [n, n_tags] share of each tag in the history
    vectors: npt.NDArray[np.float32]  # [n_items, dim] of the item tower
    text: npt.NDArray[np.float32]  # [n_items, width] of the text encoder
    tagged: npt.NDArray[np.bool_]  # [n_items, n_tags]


def read(ratings: Path, movies: Path) -> tuple[Catalogue, Interactions]:
    """Films that were rated, with title, year and genres (as text and as tags); who rated what when."""
    rows = [line.split("::") for line in ratings.read_text(encoding="utf-8").splitlines()]
    users, items, times = [row[0] for row in rows], [row[1] for row in rows], [int(row[3]) for row in rows]
    films = dict(line.split("::", 1) for line in movies.read_text(encoding="utf-8").splitlines())
    rated = []
    for name in dict.fromkeys(items):
        title, _, genres = films.get(name, "").partition("::")
        year = re.search(r"\((\d{4})\)\s*$", title)
        rated.append(Item(id=name, text={"title": title, "genres": genres.replace("|", ", ")},
                          tags=tuple(tag for tag in genres.split("|") if tag),
                          numeric={} if year is None else {"year": float(year[1])}))
    catalogue = Catalogue(rated)
    return catalogue, Interactions.from_columns(users, items, times, items=catalogue.ids.tolist())


def shortlists(config: Config, catalogue: Catalogue, inter: Interactions, *, work: Path) -> Shortlists:
    """Train and ask, or take up what a run before has left in `work`."""
    if (work / _KEPT).is_file():
        with np.load(work / _KEPT) as kept:
            return Shortlists(**{name: kept[name] for name in kept.files})
    evaluated = evaluated_events(inter)
    if (work / "checkpoint").is_dir():
        made, _ = checkpoint.load(work / "checkpoint", config)
    else:
        made = train(config, catalogue, inter.slice(0, evaluated.train_end)).recommender
        checkpoint.save(work / "checkpoint", made)
    found = _asked(made, inter, evaluated.events, train_end=evaluated.train_end)
    np.savez(work / _KEPT, **vars(found))
    return found


def _asked(made: Recommender, inter: Interactions, events: npt.NDArray[np.int64], *, train_end: int) -> Shortlists:
    histories = Histories(inter)
    scorer = Scorer(made, inter, counted=train_end, histories=histories)
    tags = sorted({tag for item in made.catalogue.items for tag in item.tags})
    tagged = np.array([[tag in item.tags for tag in tags] for item in made.catalogue.items])
    items, best, mix = [], [], []
    for start in range(0, len(events), _AT_ONCE):
        some = events[start : start + _AT_ONCE]
        scores = scorer(some)
        row, seen = histories.flat(some)
        scores[row, inter.item[seen]] = -np.inf
        top = np.argsort(-scores, axis=1, kind="stable")[:, :N]
        items.append(top)
        best.append(np.take_along_axis(scores, top, axis=1))
        mix.append(_mix(row, tagged[inter.item[seen]], len(some)))
    return Shortlists(inter.user[events], inter.item[events].astype(np.int64), np.concatenate(items), np.concatenate(best),
                      np.concatenate(mix), made.item_vectors(), made.text, tagged)


def _mix(row: npt.NDArray[np.int64], tagged: npt.NDArray[np.bool_], n: int) -> npt.NDArray[np.float32]:
    """The mean over each history of its films' tags, each film weighing 1 (Steck 2018)."""
    weight = tagged / np.maximum(tagged.sum(1, keepdims=True), 1)
    summed = np.zeros((n, tagged.shape[1]), np.float32)
    np.add.at(summed, row, weight)
    return summed / np.maximum(summed.sum(1, keepdims=True), 1e-9)

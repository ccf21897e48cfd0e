"""How far an attack on the log moves what others see after one retrain, with and without damping.

    python tests/benchmarks/poisoning_retrain.py ratings.dat movies.dat [--base 20000] [--window 500] [--fakes 300]

The files are MovieTweetings' (see incremental.py). A model learns the first `base` ratings and is published; the next `window`
come through the log, each attack beside them; then `tfrec.retrain.retrain` runs once, its last check by a server left out.
Printed for each attack, with damping in nothing, in popularity, and in popularity and training: how the run ended, and in how
many of 100 top tens of people with a history the pushed film is and at which rank, before, and as the challenger would answer
whether it is promoted or not.

    nothing     the window alone
    crowd       fake users, each three well-known films and then the pushed one, in one hour
    one user    one user and 2,000 films, ten times each
    flipped     60% of the window's films are replaced by any others
"""
import argparse
import csv
import runpy
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import tfrec.retrain.job
from tfrec.config import Config, load_config
from tfrec.data.behaviour.damping import Damping
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.people.pseudonym import load_pseudonyms
from tfrec.data.records import Outcome
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.recommender import Recommender
from tfrec.models.scorer import Scorer
from tfrec.release.export import export
from tfrec.release.publish import publish
from tfrec.training.train import train

BENCHMARKS = Path(__file__).parent
write_bert = runpy.run_path(str(BENCHMARKS.parent / "models/bert/tiny.py"))["write_bert"]  # `tests` is no package
read = runpy.run_path(str(BENCHMARKS / "incremental.py"))["read"]
Row = tuple[str, str, int]
NOTHING, POPULARITY, BOTH = "nothing", "popularity", "popularity and training"
ATTACKS = ("nothing", "crowd", "one user", "flipped")


def attacked(kind: str, window: list[Row], *, known: list[str], pushed: str, fakes: int, films: list[str]) -> list[Row]:
    """The window with the attack."""
    rng, end = np.random.default_rng(0), window[-1][2]
    if kind == "crowd":
        def of(fake: int) -> Iterator[Row]:
            at = end - 3600 + 10 * fake
            for k, film in enumerate(rng.choice(known, 3, replace=False)):
                yield f"fake {fake}", str(film), at + k
            yield f"fake {fake}", pushed, at + 5
        return window + [row for fake in range(fakes) for row in of(fake)]
    if kind == "one user":
        some = [pushed, *rng.choice(films, 2000, replace=False)]
        return window + [("busy", str(film), end - 20_000 + 10 * n + m) for n, film in enumerate(some) for m in range(10)]
    if kind == "flipped":
        return [(user, str(rng.choice(films)) if rng.random() < 0.6 else film, at) for user, film, at in window]
    return window


def places(made: Recommender, inter: Interactions, asked: np.ndarray, film: int, prior: PopularityPrior) -> tuple[int, float]:
    """In how many top tens the film is, and its median rank; what a user has chosen is left out."""
    scores = Scorer(made, inter, counted=len(inter), rolls=False, prior=prior)(asked)
    for row, event in zip(scores, asked, strict=True):
        row[inter.item[(inter.user == inter.user[event]) & (inter.item != film)]] = -np.inf
    rank = (scores > scores[:, [film]]).sum(1) + 1
    return int((rank <= 10).sum()), float(np.median(rank))


def attempt(config: Config, rows: list[Row], *, film: str, asked_users: set[str], now: int, damped: str) -> tuple[Any, str]:
    """One retrain of a copy of the run: its result, and the film's places before and after, in words."""
    found: list[tuple[int, float]] = []
    learn = tfrec.retrain.job.learn

    def watched(config: Config, challenger: Recommender, optimizer: Any, inter: Interactions, *more: Any, **options: Any) -> None:
        last = {int(user): event for event, user in enumerate(inter.user)}
        asked = np.array([event for user, event in last.items() if inter.users[user] in asked_users])
        at = inter.items.index(film)
        found.append(places(challenger, inter, asked, at, challenger.prior))
        learn(config, challenger, optimizer, inter, *more, **options)
        found.append(places(challenger, inter, asked, at, PopularityPrior.counted(inter, weights=challenger.prior.weights)))

    pseudonyms = load_pseudonyms(config.run)
    with LogWriter(FeedbackLog(config.log_dir), WriteAheadFile(config.run / "wal", "attacked")) as log:
        log.outcome(*[Outcome(event_id=f"e{n}", user=pseudonyms.of(user), item=item, action="rating", time=at)
                      for n, (user, item, at) in enumerate(rows)])
    with ExitStack() as patches:
        patches.enter_context(mock.patch("tfrec.retrain.session.Verifier"))
        patches.enter_context(mock.patch("tfrec.retrain.job.learn", watched))
        if damped == NOTHING:
            patches.enter_context(mock.patch("tfrec.models.popularity_prior.agreed", lambda _, newcomers, **__: newcomers))
        if damped != BOTH:
            patches.enter_context(mock.patch("tfrec.retrain.split.damping", lambda inter, *_, **__: Damping(np.ones(len(inter)))))
        result = tfrec.retrain.job.retrain(config, now=now)
    return result, " -> ".join(f"{tens} top tens, median rank {median:.0f}" for tens, median in found)


def published(run: Path, catalogue: Catalogue, inter: Interactions, base: int, settings: list[str]) -> Config:
    """A run with a version that has learnt the base, whose events are in a file."""
    interactions = run / "base.csv"
    run.mkdir(parents=True)
    with interactions.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "time", "action"])
        for n in range(base):
            writer.writerow([inter.users[inter.user[n]], inter.items[inter.item[n]], int(inter.time[n]), "rating"])
    config = load_config(None, [f"run={run}", f"data.interactions={interactions}", f"text.encoder={write_bert(run / 'bert')}",
                                "training.epochs=3", *settings])
    trained = train(config, catalogue, inter.slice(0, base))
    directory = export(trained.recommender, run / "export", created_at=int(inter.time[base - 1]), optimizer=trained.optimizer)
    with mock.patch("tfrec.release.publish.verify"):
        publish(directory, config.models_dir)
    return config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings", type=Path)
    parser.add_argument("movies", type=Path)
    parser.add_argument("--base", type=int, default=20_000)
    parser.add_argument("--window", type=int, default=500)
    parser.add_argument("--fakes", type=int, default=300)
    parser.add_argument("--attack", choices=ATTACKS, action="append")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    wish = parser.parse_args()
    catalogue, inter = read(wish.ratings, wish.movies)
    names = [(inter.users[u], inter.items[i], int(t)) for u, i, t in zip(inter.user, inter.item, inter.time, strict=True)]
    window = names[wish.base : wish.base + wish.window]
    count = np.bincount(inter.item[: wish.base], minlength=len(catalogue))
    known = [inter.items[n] for n in np.argsort(-count)[:50]]
    film = inter.items[int(np.flatnonzero(count == 3)[0])]  # that three people chose
    acted = np.bincount(inter.user[: wish.base])
    with tempfile.TemporaryDirectory() as directory:
        config = published(Path(directory) / "run", catalogue, inter, wish.base, wish.set)
        pseudonyms = load_pseudonyms(config.run)
        asked = {pseudonyms.of(inter.users[user]) for user in np.flatnonzero(acted >= 5)[:100]}
        print(f"{len(window)} events of the window, {wish.fakes} fake users, {len(asked)} people asked, film {film}", flush=True)
        for kind in wish.attack or ATTACKS:
            rows = attacked(kind, window, known=known, pushed=film, fakes=wish.fakes, films=list(inter.items))
            for damped in (NOTHING, POPULARITY, BOTH):
                copy = config.model_copy(update={"run": Path(directory) / "copy"})
                shutil.copytree(config.run, copy.run)
                now = window[-1][2] + 86_400
                result, places_of_film = attempt(copy, rows, film=film, asked_users=asked, now=now, damped=damped)
                print(f"{kind}, damping in {damped}: {places_of_film}; "
                      f"{result.outcome}: {result.reason[:160]} {result.figures.get('damped', '')}", flush=True)
                shutil.rmtree(copy.run)


if __name__ == "__main__":
    main()

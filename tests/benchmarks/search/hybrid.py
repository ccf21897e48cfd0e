"""What the served search finds on MSRD, by meaning, by words and by both; what docs/train.md shows.

    PYTHONPATH=.:tests/benchmarks python tests/benchmarks/search/hybrid.py --msrd DIR [--encoder DIR] [--set section.key=value]

A model that nobody has trained is built of the catalogue, as before the first click, and its served graph is asked. Each film
that the crowd found relevant is right. The queries are those that `tuning_data.py` holds out. Typos: titles that one film alone
has, with one letter left out, doubled, replaced, or changed with the next; found means among the first 3 answers.
"""
import argparse
import tempfile
from pathlib import Path

import numpy as np
from tuning_data import Ranking, msrd

from tfrec.client.inputs import recommend_inputs
from tfrec.config import Config, load_config
from tfrec.data.items.catalogue import Catalogue
from tfrec.graph.signatures import Graph
from tfrec.models.recommender import Recommender, encode_catalogue
from tfrec.models.text_encoder import load_encoder

import tensorflow as tf  # isort: skip  after tfrec, which chooses Keras 2

DEEP, ROWS = 50, 50
FUSED = 60  # the constant of reciprocal rank fusion


def answers(graph: Graph, queries: list[str]) -> list[list[str]]:
    """The best `DEEP` items of each query."""
    found = []
    for start in range(0, len(queries), ROWS):
        some = queries[start : start + ROWS]
        inputs = recommend_inputs(history=[[]] * len(some), query=some, k=DEEP)
        answer = graph.functions["recommend"]({name: tf.constant(value) for name, value in inputs.items()})
        found += [[name.decode() for name in row] for row in answer["items"].numpy()]
    return found


def figures(found: list[list[str]], asked: Ranking, catalogue: Catalogue) -> tuple[float, float]:
    """nDCG@10 and recall@50."""
    discount = 1 / np.log2(np.arange(10) + 2)
    ndcg, recall = [], []
    for row, right in zip(found, asked.right, strict=True):
        hits = np.array([name in catalogue.index and catalogue.index[name] in right for name in row])
        ndcg.append(discount[hits[:10]].sum() / discount[: len(right)].sum())
        recall.append(hits.sum() / len(right))
    return float(np.mean(ndcg)), float(np.mean(recall))


def fused(one: list[list[str]], other: list[list[str]]) -> list[list[str]]:
    """Reciprocal rank fusion (Cormack et al. 2009) of two rankings."""
    rows = []
    for pair in zip(one, other, strict=True):
        score: dict[str, float] = {}
        for row in pair:
            for rank, name in enumerate(row, 1):
                score[name] = score.get(name, 0.0) + 1 / (FUSED + rank)
        rows.append(sorted(score, key=lambda name: -score[name])[:DEEP])
    return rows


def typos(catalogue: Catalogue, *, n: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Titles with one typo, and the films that they are of."""
    rng = np.random.default_rng(seed)
    titles = [item.text["title"].lower() if isinstance(item.text, dict) else "" for item in catalogue.items]
    once = [at for at, title in enumerate(titles) if titles.count(title) == 1 and sum(map(str.isalpha, title)) >= 5]
    written, films = [], []
    for at in rng.choice(once, n, replace=False):
        title = titles[at]
        place = int(rng.choice([k for k in range(len(title) - 1) if title[k].isalpha() and title[k + 1].isalpha()] or [0]))
        a, b = title[place], title[place + 1 : place + 2]
        other = "abcdefghijklmnopqrstuvwxyz"[int(rng.integers(26))]
        wrong = [b, a + a + b, other + b, b + a][int(rng.integers(4))]
        written.append(title[:place] + wrong + title[place + 2 :])
        films.append(str(catalogue.ids[at]))
    return written, films


def graph_of(config: Config, catalogue: Catalogue) -> Graph:
    """The served graph of an untrained model."""
    made = Recommender.build(config, catalogue, encode_catalogue(config, catalogue.texts), actions=("click",))
    return Graph(made, load_encoder(config.text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--msrd", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="a directory that keeps the text vectors")
    parser.add_argument("--queries", type=int, default=1500)
    parser.add_argument("--set", action="append", default=[], dest="words", metavar="section.key=value")
    options = parser.parse_args()
    catalogue, _, asked = msrd(options.msrd, train=1, test=options.queries)
    written, films = typos(catalogue, n=1000)
    with tempfile.TemporaryDirectory() as scratch:
        run = options.run or Path(scratch)
        found = {}
        cases = {"meaning": ["search.lexical=0"], "words": ["search.lexical=1000"], "both": []}
        for name, words in cases.items():
            graph = graph_of(load_config(None, [f"run={run}", "serving.max_k=50", *words, *options.words]), catalogue)
            found[name] = answers(graph, asked.queries)
            first = [film in row[:3] for film, row in zip(films, answers(graph, written), strict=True)]
            ndcg, recall = figures(found[name], asked, catalogue)
            print(f"{name:28} nDCG@10 {ndcg:.4f}  recall@50 {recall:.4f}  typos {np.mean(first):.3f}", flush=True)
        ndcg, recall = figures(fused(found["meaning"], found["words"]), asked, catalogue)
        print(f"{'reciprocal rank fusion':28} nDCG@10 {ndcg:.4f}  recall@50 {recall:.4f}")


if __name__ == "__main__":
    main()

"""The index on 500,000 clustered vectors: recall, and times beside the exact product and, where installed, faiss.

    python tests/benchmarks/index_speed.py [--items 500000] [--dim 64] [--storage float32] [--rounds 20]

faiss (`pip install faiss-cpu`, no dependency of tfrec) has as many lists as its guidelines ask for and as many probes as give it
the same recall. Everything is asked in turns, so that whatever else the machine does falls on all alike: compare ratios. A turn
is ten calls in a row, as a server runs one index and not five: a product of all vectors between two queries empties the caches.
With `--crossing` it says instead from which catalogue size lists answer sooner than the exact product, for `INVERTED_FROM`.
"""
import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else the threads of faiss keep the cores from everybody while they wait

import numpy as np
import tensorflow as tf

from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.graph.clustering import centroids
from tfrec.graph.exact_index import ExactIndex
from tfrec.graph.inverted_index import InvertedIndex, ProbeLimits
from tfrec.graph.probe_limits import least_probe_limits
from tfrec.graph.quantization import Vectors
from tfrec.graph.recall import ExactBest, Queries

K = 100
TARGET = 0.99
BATCH = 32
SERIES = 10
NOISE = 0.5  # length of what is added to a centre of length 1
NONE = ProbeLimits(1, 0.0)
BETA = (0.8, 0.3, 0.0)  # as behaviour weighs popularity, as a search does, and without: that is timed, as faiss has none
SCALE = 10.0  # of queries, 1/T


def clustered(items: int, dim: int, *, queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around 2,000 centres of very unequal size, and queries that are drawn alike."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(2000, dim)).astype(np.float32)
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    size = rng.pareto(1.5, len(middle)) + 0.2
    group = rng.choice(len(middle), items + queries, p=size / size.sum())
    vectors = middle[group] + NOISE / dim**0.5 * rng.normal(size=(items + queries, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[:items].astype(np.float32), vectors[items:].astype(np.float32)


class World:
    """Vectors, a popularity of a power law, a tag that one item in a hundred has, and queries."""

    def __init__(self, items: int, dim: int) -> None:
        self.vectors, u = clustered(items, dim, queries=1536)
        self.u = SCALE * u
        self.log_p = np.log(np.random.default_rng(1).pareto(1.1, items) + 0.01).astype(np.float32)
        self.log_p -= np.logaddexp.reduce(self.log_p)
        self.catalogue = Catalogue([Item.model_construct(id=str(n), tags=("rare",) * (n % 100 == 0), available=True)
                                    for n in range(items)])
        self.truth = ExactBest(self.catalogue, self.vectors, self.log_p, k=K)

    def queries(self, beta: float, part: slice) -> Queries:
        u = self.u[part]
        return Queries(u, np.full(len(u), beta, np.float32))


def traced(index: ExactIndex, best: Callable[..., Any], dim: int) -> Callable[[tf.Tensor], Any]:
    """Ids of the best, with popularity left out as faiss has none."""

    def ask(u: tf.Tensor) -> tf.Tensor:
        scores, places = best(index, u, tf.constant(K), beta=tf.zeros([tf.shape(u)[0]]))
        return index.names(places, scores > -np.inf)

    return tf.function(ask, input_signature=[tf.TensorSpec([None, dim])], autograph=False)


def medians(calls: dict[str, Callable[[int], Any]], rounds: int) -> dict[str, float]:
    """Milliseconds of each call, asked in turns of `SERIES` calls; the first call of each turn is left out."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name, call in calls.items():
            for number in range(SERIES + 1):
                start = time.perf_counter()
                call(turn * SERIES + number)
                if number:
                    times[name].append(1e3 * (time.perf_counter() - start))
    return {name: round(float(np.median(found)), 4) for name, found in times.items()}


def asked(world: World, ask: Callable[[Any], Any], rows: int, *, tensor: bool) -> Callable[[int], Any]:
    parts = [np.ascontiguousarray(world.u[at : at + rows]) for at in range(0, len(world.u) - rows, rows)]
    given = [tf.constant(part) for part in parts] if tensor else parts
    return lambda turn: ask(given[turn % len(given)])


def measured(items: int, dim: int, storage: str, rounds: int) -> dict[str, Any]:
    world = World(items, dim)
    start = time.perf_counter()
    made = centroids(world.vectors, seed=0)
    seconds = time.perf_counter() - start
    index = InvertedIndex(world.catalogue, world.vectors, world.log_p, max_k=200, centroids=made, shallow=NONE, deep=NONE,
                          storage=storage)
    found: dict[str, Any] = {"items": items, "dim": dim, "storage": storage, "lists": len(made),
                             "seconds of k-means": round(seconds, 1)}
    for beta in BETA:
        index.limit(*least_probe_limits(world.truth, made, world.queries(beta, slice(1024)), target=TARGET))
        found[f"beta {beta:.1f}"] = {"near": index.shallow, "far": index.deep,
                                     **world.truth.recall(index, world.queries(beta, slice(1024, 1536)))}
    plain = Vectors(world.vectors, storage, keep=lambda name, value: tf.Variable(value, name=name, trainable=False))
    lists, exact = (traced(index, kind.best, dim) for kind in (InvertedIndex, ExactIndex))
    calls = {"one": asked(world, lists, 1, tensor=True), "one, exact": asked(world, exact, 1, tensor=True),
             "batch": asked(world, lists, BATCH, tensor=True), "one, product alone": asked(
                 world, tf.function(plain.products, autograph=False), 1, tensor=True)}
    try:
        import faiss
    except ImportError:
        print("faiss is not installed: without the comparison")
    else:
        its, its_recall, probes = faiss_index(faiss, world)
        found |= {"faiss": {"probes": probes, "recall": its_recall}}
        calls |= {"one, faiss": asked(world, its, 1, tensor=False), "batch, faiss": asked(world, its, BATCH, tensor=False)}
    found["ms"] = times = medians(calls, rounds)
    found["exact / one"] = round(times["one, exact"] / times["one"], 2)
    if "batch, faiss" in times:
        found["batch / faiss"] = round(times["batch"] / times["batch, faiss"], 2)
    return found


def faiss_index(faiss: Any, world: World) -> tuple[Callable[[np.ndarray], Any], float, int]:
    """An IVF of faiss on the same vectors, with the fewest probes that reach the target without popularity."""
    lists = 4 * round(len(world.vectors) ** 0.5) // 1024 * 1024 or 64
    its = faiss.IndexIVFFlat(faiss.IndexFlatIP(world.u.shape[1]), world.u.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    its.train(world.vectors[: 64 * lists])
    its.add(world.vectors)
    best = np.concatenate([part for _, _, part in world.truth.best(world.queries(0.0, slice(1024, 1536)))])
    for probes in (*range(4, 64, 2), *range(64, 512, 8)):
        its.nprobe = probes
        answers = its.search(world.u[1024:1536], K)[1]
        recall = float(np.mean([len({*a} & {*b}) / K for a, b in zip(answers.tolist(), best.tolist(), strict=True)]))
        if recall >= TARGET:
            break
    return lambda u: its.search(u, K), recall, probes


def crossing(dim: int, rounds: int) -> list[dict[str, Any]]:
    return [{name: measured(items, dim, "float32", rounds)[name] for name in ("items", "beta 0.0", "ms", "exact / one")}
            for items in (12_500, 25_000, 50_000, 100_000, 200_000)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=500_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--storage", choices=["float32", "bfloat16", "int8"], default="float32")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--crossing", action="store_true")
    given = parser.parse_args()
    if given.crossing:
        print(json.dumps(crossing(given.dim, given.rounds), indent=1))
    else:
        print(json.dumps(measured(given.items, given.dim, given.storage, given.rounds), indent=1))

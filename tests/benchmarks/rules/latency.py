"""What rules add to a request: in the gateway, and in the search of the served graph.

    python tests/benchmarks/rules/latency.py [--items 10000] [--lists] [--rounds 60]

The catalogue is made up: vectors of 64 numbers, a tag that one item in 100 has, and one that half of them have.
The ways of asking take turns, so that whatever else the machine does falls on all of them alike. Milliseconds are of this process
(user and system), the median of the rounds; the graph answers one row and 10 items.
"""
import argparse
import time
from collections.abc import Callable

import numpy as np

from tfrec.client.slate_options import boost_inputs
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Boost, Item
from tfrec.gateway.routing.slate_request import SlateRequest
from tfrec.gateway.rules.applying import apply_rules
from tfrec.gateway.rules.known_items import KnownItems, PinnedItem
from tfrec.gateway.rules.rule import BusinessRule, RuleBook
from tfrec.graph.boosts import Boosts
from tfrec.graph.clustering import centroids
from tfrec.graph.exact_index import ExactIndex, Filters
from tfrec.graph.inverted_index import InvertedIndex, ProbeLimits

import tensorflow as tf  # isort: skip  after tfrec, which chooses Keras 2

DIM = 64
BOOSTS: dict[str, tuple[Boost, ...]] = {
    "no boost": (),
    "10 items": tuple(("item", f"i{n * 7}", 0.7, None, None) for n in range(10)),
    "tag of 1%": (("tag", "few", 0.7, None, None),),
    "tag of 50%": (("tag", "half", 0.7, None, None),),
}


def in_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median milliseconds of the processor that each way takes."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 3):
        for name, way in ways.items():
            began = time.process_time()
            way()
            if number >= 3:
                took[name].append(1000 * (time.process_time() - began))
    return {name: float(np.median(own)) for name, own in took.items()}


def in_gateway(rounds: int) -> dict[str, float]:
    """Of 20 requests each, with books of rules of which half hold."""
    request = SlateRequest(user="u", time=1, query="winter boots", k=10, history=(), exclude=(), allow_tags=(), deny_tags=(),
                           label="", explore=False, seed=0)

    def book(n: int) -> RuleBook:
        kinds = ({"do": "exclude", "tags": ["t"]}, {"do": "boost", "factor": 2, "tags": ["u"]}, {"do": "exclude", "items": ["x"]},
                 {"do": "boost", "factor": 2, "items": ["y"]})
        pin = {"name": "pin", "do": "pin", "items": ["p"], "position": 0}
        rules = [{"name": f"r{number}", "when": {"device": "tv" if number % 2 else "phone"}} | kinds[number % 4]
                 for number in range(n)]
        return RuleBook(tuple(BusinessRule.model_validate(rule) for rule in ([pin, *rules] if n else [])))

    known = KnownItems({"p": PinnedItem(frozenset(), {}, True)})
    def asked(own: RuleBook) -> Callable[[], object]:
        return lambda: [apply_rules(own, known, request, context={"device": "tv"}, now=1e9) for _ in range(20)]

    ways = {f"{n} rules": asked(book(n)) for n in (0, 10, 50, 499)}
    return {name: took / 20 for name, took in in_turns(ways, rounds).items()}


def in_graph(n: int, rounds: int, *, lists: bool) -> dict[str, float]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = Catalogue([Item(id=f"i{i}", tags=("half",) if i % 2 else ("few",) if i % 100 == 0 else ()) for i in range(n)])
    log_p = rng.normal(size=n).astype(np.float32)
    limits = ProbeLimits(max(8, n // 2_000), 2.0)
    index = (InvertedIndex(items, vectors, log_p, max_k=100, centroids=centroids(vectors, seed=0), shallow=limits, deep=limits)
             if lists else ExactIndex(items, vectors, log_p, max_k=100))

    @tf.function(autograph=False)
    def search(u: tf.Tensor, boosts: Boosts) -> dict[str, tf.Tensor]:
        return index.search(u, tf.fill([1], 10), beta=tf.fill([1], 0.5), filters=Filters.of(1, boosts=index.boosts(boosts)))

    def way(row: tuple[Boost, ...]) -> Callable[[], object]:
        sent = boost_inputs([row], 1)
        boosts = Boosts(*(tf.constant(sent[f"boost_{name}"]) for name in Boosts._fields))
        return lambda: search(tf.constant(rng.normal(size=(1, DIM)).astype(np.float32)), boosts)

    return in_turns({name: way(row) for name, row in BOOSTS.items()}, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--lists", action="store_true", help="with the index of inverted lists")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    in_index = in_graph(options.items, options.rounds, lists=options.lists)
    for title, found in (("gateway, ms a request", in_gateway(options.rounds)),
                         (f"graph, {options.items:,} items, ms a call", in_index)):
        print(title, "  ".join(f"{name} {took:.3f}" for name, took in found.items()), sep="\n  ", flush=True)


if __name__ == "__main__":
    main()

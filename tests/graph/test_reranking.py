"""Slates that are more than a list: worked by hand, and the laws of caps, diversity and mixed batches."""
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tfrec.client.contract import RERANKING
from tfrec.client.inputs import recommend_inputs
from tfrec.client.slate_options import Caps
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.graph.clustering import centroids
from tfrec.graph.exact_index import KINDS, ExactIndex, Filters
from tfrec.graph.inverted_index import InvertedIndex, ProbeLimits
from tfrec.graph.reranking import Reranking, search_reranked


@cache
def traced(index: ExactIndex, shortlist: int) -> Any:
    """A search as a graph, traced once for all shapes, as it is served."""
    def specs(kinds: Any) -> dict[str, tf.TensorSpec]:
        return {name: tf.TensorSpec([None] * kind.rank, kind.dtype) for name, kind in kinds.items()}

    dim = index.state["vectors"].shape[1]
    vectors, one = tf.TensorSpec([None, dim]), tf.TensorSpec([None], tf.int32)

    @tf.function(input_signature=[vectors, one, Filters(**specs(KINDS)), Reranking(**specs(RERANKING))], autograph=False)
    def search(u: tf.Tensor, k: tf.Tensor, filters: Filters, asked: Reranking) -> dict[str, tf.Tensor]:
        def plain(u: tf.Tensor, k: tf.Tensor, beta: tf.Tensor, filters: Filters) -> dict[str, tf.Tensor]:
            return index.search(u, k, beta=beta, filters=filters)

        return search_reranked(index, u, k, beta=tf.ones_like(u[:, 0]), filters=filters, asked=asked, shortlist=shortlist,
                               plain=plain)

    return search


def slates(index: ExactIndex, u: Any, k: list[int], *, shortlist: int = 50, **asked: Any) -> tuple[list[list[str]], np.ndarray]:
    sent = recommend_inputs(history=[[]] * len(k), k=[max(1, n) for n in k], **asked)
    filters = Filters.of(tf.constant(len(k)), **{name: tf.constant(sent[name]) for name in KINDS if name in sent})
    asked_of = Reranking(**{name: tf.constant(sent[name]) for name in Reranking._fields})
    found = traced(index, shortlist)(tf.constant(u, tf.float32), tf.constant(k), filters, asked_of)
    return [[name.decode() for name in row if name] for row in found["items"].numpy().tolist()], found["scores"].numpy()


# -- by hand

HAND = Catalogue([Item(id="a", tags=("by:x", "new")), Item(id="a2", tags=("by:x",)), Item(id="b", tags=("by:y", "by:x")),
                  Item(id="c", tags=("new",)), Item(id="d", tags=("by:y", "by:y"))])
# a2 points where a does, b is at 60 degrees from both, c and d at right angles to them
DIRECTIONS = np.array([[1, 0, 0], [1, 0, 0], [0.5, np.sqrt(0.75), 0], [0, 0, 1], [0, 0, -1]], np.float32)
BY_HAND = ExactIndex(HAND, DIRECTIONS, np.array([10, 9, 8, 6, 5], np.float32), max_k=6)  # scores are the log p: u is zero
NOBODY = [[0.0, 0.0, 0.0]]


def test_diversity_by_hand() -> None:
    # relevance 1, .8, .6, .2, 0; what a spans leaves a2 nothing, b .75 and c and d all
    # at .2: b .8 * .6 + .2 ln .75 = .42, c .16, d 0, a2 .64 + .2 ln .001 = -.74; b leaves c and d as they were; then d, as c
    # spans its other direction: .2 ln .001 = -1.38, while a2 is still at -.74
    assert slates(BY_HAND, NOBODY, [5], diversity=0.2)[0] == [["a", "b", "c", "a2", "d"]]
    # at .9: c .02, d 0, b .06 - .26 = -.2
    assert slates(BY_HAND, NOBODY, [3], diversity=0.9)[0] == [["a", "c", "b"]]
    items, scores = slates(BY_HAND, NOBODY, [3], diversity=0.2)
    assert items == [["a", "b", "c"]]
    assert_allclose(scores, [[10, 8, 6]])  # the scores are the model's


def test_caps_by_hand() -> None:
    def capped(k: int = 5, **caps: int) -> list[str]:
        return slates(BY_HAND, NOBODY, [k], caps=[{name.replace("_", ":"): most for name, most in caps.items()}])[0][0]

    assert capped(by_=1) == ["a", "c", "d"]  # b has both of them
    assert capped(by_=2) == ["a", "a2", "c", "d"]
    assert capped(by_x=1) == ["a", "c", "d"]
    assert capped(by_y=1) == ["a", "a2", "b", "c"]
    assert capped(new=1) == ["a", "a2", "b", "d"]
    assert capped(by_=1, new=1) == ["a", "d"]
    assert capped(by_=2, by_x=1) == ["a", "c", "d"]  # the lower of two that hold
    assert capped(nothing=1) == capped() == ["a", "a2", "b", "c", "d"]
    assert slates(BY_HAND, NOBODY, [5], caps=[{"": 1}])[0] == [["a", "d"]]  # every tag begins with nothing


# -- laws

TAGS = [f"brand:{n}" for n in range(4)] + [f"author:{n}" for n in range(3)] + ["brand", "sale", "ünïcode:ä"]
items_ = st.lists(st.lists(st.sampled_from(TAGS), max_size=4), min_size=1, max_size=30)
caps_ = st.dictionaries(st.sampled_from(["brand:", "author:", "brand:1", "", "ünïcode:", "none:"]), st.integers(1, 4), max_size=3)


def index_of(tags: list[list[str]], *, dim: int = 3) -> tuple[Catalogue, ExactIndex]:
    rng = np.random.default_rng(len(tags))
    made = Catalogue([Item(id=f"i{n}", tags=tuple(own), available=n % 9 != 8) for n, own in enumerate(tags)])
    return made, ExactIndex(made, rng.normal(size=(len(tags), dim)).astype(np.float32), np.zeros(len(tags), np.float32), max_k=25)


ANY = index_of([["brand:1"]])[1]


def as_any(index: ExactIndex) -> ExactIndex:
    """The graph of `ANY` with the variables of another index, as a server loads a delta: nothing is traced."""
    for name, variable in ANY.state.items():
        variable.assign(index.state[name])
    return ANY


def within(caps: Caps, slate: list[str], catalogue: Catalogue) -> bool:
    counts = Counter(tag for name in slate for tag in set(catalogue.items[catalogue.index[name]].tags))
    return all(count <= most for prefix, most in caps.items() for tag, count in counts.items() if tag.startswith(prefix))


@settings(deadline=None, max_examples=25)
@given(items_, st.lists(st.tuples(caps_, st.sampled_from([0.0, 0.3, 1.0]), st.integers(1, 30)), min_size=1, max_size=4))
def test_caps_hold_and_a_slate_ends_where_nothing_is_left(tags: list[list[str]], rows: list[tuple[Caps, float, int]]) -> None:
    catalogue, index = index_of(tags)
    u = np.random.default_rng(7).normal(size=(len(rows), 3)).astype(np.float32)
    caps, diversity, k = (list(part) for part in zip(*rows, strict=True))
    found, _ = slates(as_any(index), u, k, caps=caps, diversity=diversity)
    eligible = [item.id for item in catalogue.items if item.available]
    vectors = index.vectors(tf.range(len(tags))).numpy()
    for row, (slate, asked, wanted) in enumerate(zip(found, caps, k, strict=True)):
        assert len(set(slate)) == len(slate) <= wanted
        assert set(slate) <= set(eligible)
        assert within(asked, slate, catalogue)
        if len(slate) < min(wanted, 25):  # no item could be added
            assert not any(within(asked, [*slate, name], catalogue) for name in eligible if name not in slate)
        if not diversity[row]:  # the best that the caps let pass, one after the other
            kept: list[str] = []
            for item in np.argsort(-(vectors @ u[row]), kind="stable").tolist():
                if f"i{item}" in eligible and len(kept) < wanted and within(asked, [*kept, f"i{item}"], catalogue):
                    kept.append(f"i{item}")
            assert slate == kept[:25]


N = 400
RNG = np.random.default_rng(3)
MANY = Catalogue([Item(id=f"i{n}", tags=(f"brand:{n % 7}",), numeric={"price": float(n)}) for n in range(N)])
VECTORS = RNG.normal(size=(N, 6)).astype(np.float32)
LOG_P = RNG.normal(size=N).astype(np.float32)
EXACT = ExactIndex(MANY, VECTORS, LOG_P, max_k=20)
INVERTED = InvertedIndex(MANY, VECTORS, LOG_P, max_k=20, centroids=centroids(VECTORS, seed=1), shallow=ProbeLimits(3, 9.0),
                         deep=ProbeLimits(6, 9.0))


@pytest.mark.parametrize("index", [EXACT, INVERTED])
def test_off_is_what_it_was_and_each_row_is_as_it_would_be_alone(index: ExactIndex) -> None:
    u, k = RNG.normal(size=(6, 6)), [5, 0, 20, 7, 3, 1]
    asked: dict[str, list[Any]] = {
        "diversity": [0.0, 0.5, 0.3, 0.0, 0.0, 1.0], "caps": [{}, {}, {"brand:": 2}, {"brand:": 1}, {}, {}],
        "exclude": [["i1"], [], [], ["i3"], [], []], "bounds": [{}, {}, {"price": (None, 200.0)}, {}, {"price": (9.0, None)}, {}],
    }
    both, scores = slates(index, u, k, **asked)
    assert [len(row) for row in both] == [5, 0, 14, 7, 3, 1]
    assert scores.shape == (6, 20)
    for row in range(6):
        one, own = slates(index, u[row : row + 1], k[row : row + 1], **{name: [part[row]] for name, part in asked.items()})
        assert one == both[row : row + 1]
        assert_allclose(own[0], scores[row, : own.shape[1]], rtol=1e-6)
    plain = index.search(tf.constant(u, tf.float32), tf.constant(k), beta=tf.ones([6]), filters=Filters.of(6))
    items, scores = slates(index, u, k)
    assert items == [[name.decode() for name in row if name] for row in plain["items"].numpy().tolist()]
    assert scores.tobytes() == plain["scores"].numpy().tobytes()  # to the bit


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999), st.floats(0.02, 1.0), st.integers(1, 20))
def test_a_diverse_slate_is_the_greedy_maximum_of_its_determinants(seed: int, diversity: float, k: int) -> None:
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(1, 6)).astype(np.float32)
    (slate,), _ = slates(EXACT, u, [k], diversity=diversity)
    scores = (u @ VECTORS.T)[0] + LOG_P
    listed = np.argsort(-scores, kind="stable")[:50]
    relevance = (scores[listed] - scores[listed[-1]]) / (scores[listed[0]] - scores[listed[-1]])
    unit = (VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)).astype(np.float64)
    assert slate[0] == f"i{listed[0]}"
    above: list[int] = []
    for name in slate:
        kernel = unit[above] @ unit[above].T * 0.999 + 0.001 * np.eye(len(above))
        value = []
        for item, own in zip(listed, relevance, strict=True):
            across = 0.999 * unit[above] @ unit[item]
            left = 1 - (across @ np.linalg.solve(kernel, across) if above else 0.0)
            value.append(-np.inf if item in above else (1 - diversity) * own + diversity * np.log(max(left, 1e-3)))
        at = listed.tolist().index(int(name[1:]))
        assert value[at] >= max(value) - 2e-3 * (1 + len(above))  # float32
        above.append(int(name[1:]))


def test_more_diversity_is_less_alike() -> None:
    u = RNG.normal(size=(64, 6))

    def alike(diversity: float) -> float:
        found, _ = slates(EXACT, u, [10] * 64, diversity=diversity)
        unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
        own = unit[[[int(name[1:]) for name in row] for row in found]]
        return float(np.einsum("nid,njd->nij", own, own).mean())

    assert alike(0.0) > alike(0.2) > alike(0.6) > alike(1.0)


def test_one_item_and_more_items_than_dimensions() -> None:
    catalogue, index = index_of([["brand:1"]])
    assert slates(index, [[1.0, 0.0, 0.0]], [5], diversity=0.5, caps=[{"brand:": 1}])[0] == [["i0"]]
    catalogue, index = index_of([[]] * 40, dim=2)
    (found,), scores = slates(index, [[1.0, 0.5]], [25], diversity=0.5)
    assert len(set(found)) == len(found) == 25
    assert np.isfinite(scores).all()

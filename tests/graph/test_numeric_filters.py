"""Bounds of numbers: a filter never lets through what it forbids, in any index, and in what is drawn at random."""
from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.client.inputs import recommend_inputs
from tfrec.client.slate_options import Bounds
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.items.numeric_columns import numeric_columns, within
from tfrec.data.records import Item
from tfrec.graph.clustering import centroids
from tfrec.graph.exact_index import KINDS, ExactIndex, Filters
from tfrec.graph.explore import Policy, explore, log_propensities
from tfrec.graph.inverted_index import InvertedIndex, ProbeLimits

N = 300
RNG = np.random.default_rng(0)
PRICES = RNG.integers(0, 100, N) / 4
CATALOGUE = Catalogue([
    Item(id=f"i{n}", tags=("even",) if n % 2 == 0 else (), available=n % 50 != 7,
         numeric=({"price": float(PRICES[n])} if n % 5 else {}) | ({"year": 1900.0 + n} if n % 3 else {}))
    for n in range(N)
])
VECTORS = RNG.normal(size=(N, 6)).astype(np.float32)
LOG_P = RNG.normal(size=N).astype(np.float32)
EXACT = ExactIndex(CATALOGUE, VECTORS, LOG_P, max_k=N)
LITTLE = InvertedIndex(CATALOGUE, VECTORS, LOG_P, max_k=N, centroids=centroids(VECTORS, seed=1), shallow=ProbeLimits(2, 9.0),
                       deep=ProbeLimits(3, 9.0))
WHOLE = InvertedIndex(CATALOGUE, VECTORS, LOG_P, max_k=N, centroids=centroids(VECTORS, seed=1), shallow=ProbeLimits(999, 1e9),
                      deep=ProbeLimits(999, 1e9))


def filters(bounds: list[Bounds], **more: Any) -> Filters:
    """As a client sends them."""
    sent = recommend_inputs(history=[[]] * len(bounds), bounds=bounds, **more)
    return Filters.of(tf.constant(len(bounds)), **{name: tf.constant(sent[name]) for name in KINDS if name in sent})


def passing(bounds: Bounds) -> set[str]:
    """The rule in plain words."""
    def passes(item: Item) -> bool:
        for column, (least, most) in bounds.items():
            value = item.numeric.get(column)
            if value is None or (least is not None and value < least) or (most is not None and value > most):
                return False
        return item.available
    return {item.id for item in CATALOGUE.items if passes(item)}


@cache
def traced(index: ExactIndex) -> Any:
    """A search as a graph: traced once for all shapes, as it is served, and then much faster than eagerly."""
    asked = Filters(**{name: tf.TensorSpec([None, None], kind.dtype) for name, kind in KINDS.items()})

    @tf.function(input_signature=[tf.TensorSpec([None, 6]), tf.TensorSpec([None], tf.int32), asked], autograph=False)
    def search(u: tf.Tensor, k: tf.Tensor, asked: Filters) -> tf.Tensor:
        return index.search(u, k, beta=tf.ones_like(u[:, 0]), filters=asked)["items"]

    return search


def answers(index: ExactIndex, bounds: list[Bounds], *, k: int = N, **more: Any) -> list[list[str]]:
    u = np.random.default_rng(1).normal(size=(len(bounds), 6)).astype(np.float32)
    found = traced(index)(tf.constant(u), tf.fill([len(bounds)], k), filters(bounds, **more))
    return [[name.decode() for name in row if name] for row in found.numpy().tolist()]


edges = st.none() | st.integers(0, 26).map(float) | st.sampled_from([0.25, 12.5, 24.75])
ranges = st.tuples(edges, edges).map(lambda pair: tuple(sorted(pair)) if None not in pair else pair)
years = st.tuples(st.none() | st.integers(1890, 2000).map(float), st.none() | st.integers(2001, 2300).map(float))
wishes = st.fixed_dictionaries({}, optional={"price": ranges, "year": years, "colour": ranges})


@settings(deadline=None, max_examples=40)
@given(st.lists(wishes, min_size=1, max_size=4))
def test_what_comes_is_what_passes_in_each_row_of_a_batch(rows: list[Bounds]) -> None:
    for index in (EXACT, WHOLE):
        assert [set(row) for row in answers(index, rows)] == [passing(row) for row in rows]
    for row, asked in zip(answers(LITTLE, rows, k=10), rows, strict=True):
        assert set(row) <= passing(asked)
        assert len(row) == min(10, len(passing(asked)))  # too few in the lists: all items are read


@pytest.mark.parametrize("index", [EXACT, WHOLE, LITTLE])
def test_bounds_tags_and_exclusions_hold_together(index: ExactIndex) -> None:
    asked: Bounds = {"price": (None, 10.0)}
    wanted = sorted(name for name in passing(asked) if int(name[1:]) % 2 == 0)
    (found,) = answers(index, [asked], k=20, allow_tags=[["even"]], exclude=[wanted[:3]])
    assert set(found) <= set(wanted[3:])
    assert len(found) == min(20, len(wanted) - 3)


def test_an_unknown_column_lets_nothing_pass_and_an_open_range_what_has_a_number() -> None:
    assert answers(EXACT, [{"colour": (None, None)}, {"colour": (None, 1.0), "price": (None, None)}]) == [[], []]
    assert set(answers(EXACT, [{"price": (None, None)}])[0]) == passing({"price": (None, None)})
    assert passing({"price": (None, None)}) < passing({})


def test_neither_cents_nor_seconds_are_rounded_away() -> None:
    items = Catalogue([Item(id="a", numeric={"at": 1_700_000_000.0}), Item(id="b", numeric={"at": 1_700_000_001.0}),
                       Item(id="c", numeric={"at": 123_456.78}), Item(id="d", numeric={"at": 0.1 + 0.2})])
    index = ExactIndex(items, np.ones([4, 2], np.float32), np.zeros(4, np.float32), max_k=4)

    def found(least: float | None, most: float | None) -> list[bytes]:
        answer = index.search(tf.ones([1, 2]), tf.constant([4]), beta=tf.zeros([1]), filters=filters([{"at": (least, most)}]))
        return sorted(name for name in answer["items"].numpy()[0].tolist() if name)

    assert found(1_700_000_001, None) == [b"b"]
    assert found(None, 123_456.77) == [b"d"]
    assert found(None, 0.3) == []
    assert found(123_456.78, 1_700_000_000) == [b"a", b"c"]


def test_a_catalogue_without_numbers() -> None:
    index = ExactIndex(Catalogue([Item(id="a")]), np.ones([1, 2], np.float32), np.zeros(1, np.float32), max_k=3)
    nothing: Bounds = {}
    for bounds, n in (({"price": (None, 1.0)}, 0), (nothing, 1)):
        answer = index.search(tf.ones([1, 2]), tf.constant([3]), beta=tf.zeros([1]), filters=filters([bounds]))
        assert int(np.count_nonzero(answer["items"].numpy() != b"")) == n


@settings(deadline=None, max_examples=15)
@given(wishes, st.integers(0, 99), st.sampled_from([0.0, 0.5, 1.0]))
def test_what_is_drawn_passes_and_propensities_know_that(bounds: Bounds, seed: int, epsilon: float) -> None:
    u, rows = tf.constant(np.random.default_rng(seed).normal(size=(2, 6)), tf.float32), [bounds, {}]
    policy = Policy(tf.ones([2]), tf.fill([2], epsilon))
    slate, log_pi = explore(EXACT, u, tf.constant([5, 5]), beta=tf.ones([2]), filters=filters(rows), policy=policy,
                            seed=tf.constant([seed, seed], tf.int64), shortlist=N)
    drawn = {f"i{position}" for position in slate.numpy()[0].tolist() if position >= 0}
    assert drawn <= passing(bounds)
    assert len(drawn) == min(5, len(passing(bounds)))
    judged = log_propensities(EXACT, u, slate, beta=tf.ones([2]), filters=filters(rows), policy=policy, shortlist=N)
    np.testing.assert_allclose(judged.numpy(), log_pi.numpy(), rtol=1e-5, atol=1e-5)
    unbounded = log_propensities(EXACT, u, slate, beta=tf.ones([2]), filters=filters([{}, {}]), policy=policy, shortlist=N)
    assert (unbounded.numpy() <= judged.numpy() + 1e-5).all()  # there is more to choose from
    barred = [f"i{n}" for n in range(N) if f"i{n}" not in passing(bounds)][:5]
    if barred:
        other = tf.constant([[int(name[1:]) for name in barred]] * 2)
        judged = log_propensities(EXACT, u, other, beta=tf.ones([2]), filters=filters(rows), policy=policy, shortlist=N)
        assert (judged.numpy()[0] == -np.inf).all()


@settings(deadline=None, max_examples=25)
@given(wishes)
def test_training_knows_what_could_come_by_the_same_rule(bounds: Bounds) -> None:
    may = within([(name, low, high) for name, (low, high) in bounds.items()], numeric_columns(CATALOGUE.items), N)
    assert {item.id for item, passes in zip(CATALOGUE.items, may, strict=True) if passes and item.available} == passing(bounds)

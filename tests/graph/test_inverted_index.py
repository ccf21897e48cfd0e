"""Inverted lists against the exact index on the same items: equal when all is read, and near to it when little is."""
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.graph.clustering import centroids, layout
from tfrec.graph.exact_index import KINDS, ExactIndex, Filters
from tfrec.graph.inverted_index import DEEP, SHALLOW, InvertedIndex, ProbeLimits
from tfrec.graph.quantization import Storage

N = 700
RNG = np.random.default_rng(5)
VECTORS = (RNG.normal(size=(8, 6))[RNG.integers(8, size=N)] + 0.3 * RNG.normal(size=(N, 6))).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
LOG_P = RNG.normal(-6, 1.5, N).astype(np.float32)
CATALOGUE = Catalogue(
    [
        Item(id=f"i{n}", tags=tuple(tag for tag, every in (("two", 2), ("three", 3), ("rare", 99)) if n % every == 0),
             available=n % 50 != 7)
        for n in range(N)
    ]
)
ALL = ProbeLimits(10_000, 1e9)
CENTROIDS = centroids(VECTORS, seed=1)
EXACT = ExactIndex(CATALOGUE, VECTORS, LOG_P, max_k=80)


def inverted(shallow: ProbeLimits, deep: ProbeLimits, *, max_k: int = 80, storage: Storage = "float32") -> InvertedIndex:
    return InvertedIndex(CATALOGUE, VECTORS, LOG_P, max_k=max_k, centroids=CENTROIDS, shallow=shallow, deep=deep, storage=storage)


WHOLE = inverted(ALL, ALL)
LITTLE = inverted(ProbeLimits(12, 9.0), ALL)


def filters(rows: int, **some: list[list[str]] | list[list[float]]) -> Filters:
    values = {name: some.get(name, [[]] * rows) for name in Filters._fields}
    return Filters(**{name: tf.constant(value, KINDS[name].dtype, [rows, len(value[0])]) for name, value in values.items()})


Answer = tuple[list[list[bytes]], np.ndarray]


def search(index: ExactIndex, u: np.ndarray, k: list[int], *, beta: float, asked: Filters | None = None) -> Answer:
    found = index.search(tf.constant(u), tf.constant(k, tf.int32), beta=tf.fill([len(u)], beta), filters=asked)
    return found["items"].numpy().tolist(), found["scores"].numpy()


def traced(index: ExactIndex) -> Callable[..., Answer]:
    """`search` of an index as a graph: traced once for all shapes, as it is served, and then much faster than eagerly."""
    spec = [tf.TensorSpec([None, 6]), tf.TensorSpec([None], tf.int32), tf.TensorSpec([None]),
            Filters(**{name: tf.TensorSpec([None, None], kind.dtype) for name, kind in KINDS.items()})]

    @tf.function(input_signature=spec, autograph=False)
    def graph(u: tf.Tensor, k: tf.Tensor, beta: tf.Tensor, asked: Filters) -> dict[str, tf.Tensor]:
        return index.search(u, k, beta=beta, filters=asked)

    def search(u: np.ndarray, k: list[int], *, beta: float, asked: Filters) -> Answer:
        found = graph(tf.constant(u), tf.constant(k, tf.int32), tf.fill([len(u)], beta), asked)
        return found["items"].numpy().tolist(), found["scores"].numpy()

    return search


def queries(rows: int, seed: int = 0) -> np.ndarray:
    return (4 * np.random.default_rng(seed).normal(size=(rows, 6))).astype(np.float32)


NAMES = [f"i{n}" for n in range(60)] + ["", "nobody"]
texts = st.sampled_from(NAMES)


@pytest.fixture(scope="module")
def both() -> tuple[Callable[..., Answer], Callable[..., Answer]]:
    return traced(EXACT), traced(WHOLE)


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_all_that_is_read_is_answered_as_by_the_exact_index(both: Any, data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 10))

    def draw(of: st.SearchStrategy, most: int) -> list[list]:
        width = data.draw(st.integers(0, most))
        return [[data.draw(of) for _ in range(width)] for _ in range(rows)]

    tags = st.sampled_from(["two", "three", "rare", "", "unknown"])
    overridden = draw(texts, 3)
    # the exact index leaves open which log p counts when an item is named twice
    overridden = [[item if item not in row[:at] else "" for at, item in enumerate(row)] for row in overridden]
    asked = filters(rows, exclude=draw(texts, 4), allow_tags=draw(tags, 2), deny_tags=draw(tags, 1), prior_items=overridden,
                   prior_log_p=[[data.draw(st.sampled_from([-1.0, -9.0]))] * len(row) for row in overridden])
    k = [data.draw(st.integers(-1, 90)) for _ in range(rows)]
    beta = data.draw(st.sampled_from([0.0, 0.8]))
    u = queries(rows, data.draw(st.integers(0, 99)))
    (items, scores), (got, got_scores) = (search(u, k, beta=beta, asked=asked) for search in both)
    assert got == items
    assert_allclose(got_scores, scores, atol=1e-4)


@pytest.mark.parametrize("rows", [0, 1, 8, 9, 20])
def test_a_batch_of_any_size(rows: int) -> None:
    u = queries(rows)
    assert search(WHOLE, u, [7] * rows, beta=0.5)[0] == search(EXACT, u, [7] * rows, beta=0.5)[0]


def test_in_a_graph_with_open_shapes() -> None:
    spec = [tf.TensorSpec([None, 6]), tf.TensorSpec([None], tf.int32)]
    traced = tf.function(lambda u, k: WHOLE.search(u, k, beta=tf.zeros_like(u[:, 0])), input_signature=spec, autograph=False)
    for rows in (1, 9):
        u = queries(rows)
        found = traced(tf.constant(u), tf.fill([rows], 5))["items"].numpy().tolist()
        assert found == search(EXACT, u, [5] * rows, beta=0.0)[0]


def test_little_is_read_and_most_is_found() -> None:
    u = queries(40)
    exact, found = (search(index, u, [10] * 40, beta=0.5)[0] for index in (EXACT, LITTLE))
    share = np.mean([len({*a} & {*b}) / 10 for a, b in zip(exact, found, strict=True)])
    assert 0.5 < share < 1.0


def test_a_rush_on_an_item_far_away_is_seen() -> None:
    far = int(np.argmin(VECTORS @ queries(1)[0]))
    asked = filters(1, prior_items=[[f"i{far}", f"i{far}"]], prior_log_p=[[0.0, 50.0]])
    items, scores = search(LITTLE, queries(1), [2], beta=1.0, asked=asked)
    assert items[0][0] == f"i{far}".encode()
    assert items[0][1] != items[0][0]
    assert_allclose(scores[0, 0], VECTORS[far] @ queries(1)[0] + 50.0, rtol=1e-5)


@pytest.mark.parametrize("tag", ["rare", "three"])
def test_tags_that_hide_most_items_are_answered_exactly(tag: str) -> None:
    asked = filters(3, allow_tags=[[tag], [""], [tag]])
    items, exact = (search(index, queries(3), [5] * 3, beta=0.5, asked=asked)[0] for index in (LITTLE, EXACT))
    assert [items[0], items[2]] == [exact[0], exact[2]]


def test_fewer_found_than_asked_for_are_answered_exactly() -> None:
    few = inverted(ProbeLimits(1, 0.0), ProbeLimits(1, 0.0), max_k=500)
    many = ExactIndex(CATALOGUE, VECTORS, LOG_P, max_k=500)
    assert search(few, queries(2), [400, 3], beta=0.5)[0] == search(many, queries(2), [400, 3], beta=0.5)[0]


def test_popularity_draws_a_query_to_the_head() -> None:
    top = int(np.argmax(np.where([item.available for item in CATALOGUE.items], LOG_P, -99)))
    one = inverted(ProbeLimits(1, 0.0), ProbeLimits(1, 0.0), max_k=5)
    assert search(one, -4 * VECTORS[top : top + 1], [5], beta=100.0)[0][0][0] == f"i{top}".encode()


def test_unavailable_items_keep_a_vector_and_never_come() -> None:
    place = WHOLE.positions(tf.constant(["i7", "i8"]))
    assert_allclose(WHOLE.vectors(place), VECTORS[[7, 8]])
    items = search(WHOLE, VECTORS[7:8], [80], beta=0.0)[0][0]
    assert b"i7" not in items
    assert len({*items}) == 80


@pytest.mark.parametrize(("storage", "atol"), [("bfloat16", 0.03), ("int8", 0.06)])
def test_rounded_vectors_score_nearly_the_same(storage: Storage, atol: float) -> None:
    rounded = inverted(ALL, ALL, storage=storage)
    u = queries(3)
    _, scores = search(EXACT, u, [20] * 3, beta=0.5)
    _, found = search(rounded, u, [20] * 3, beta=0.5)
    assert_allclose(found, scores, atol=atol)
    assert not np.array_equal(found, scores)
    assert_allclose(rounded.vectors(rounded.positions(tf.constant(["i3"])))[0], VECTORS[3], atol=0.01)


def test_it_reads_more_up_to_a_share() -> None:
    index = inverted(ProbeLimits(5, 1.0), ProbeLimits(10, 4.0), max_k=5)
    assert index.read_more(1.5, most=0.5)
    assert (index.shallow, index.deep) == (ProbeLimits(8, 1.5), ProbeLimits(15, 6.0))
    assert not index.read_more(9.0, most=0.5)
    assert (index.shallow, index.deep) == (ProbeLimits(8, 1.5), ProbeLimits(15, 6.0))


def read_of(index: InvertedIndex, u: np.ndarray, depth: list[float]) -> list[set[int]]:
    """The blocks that each row reads."""
    blocks, read = index.blocks_to_read(tf.constant(u), tf.zeros([len(u)]), tf.constant(depth))
    return [set(row[mask].tolist()) for row, mask in zip(blocks.numpy(), read.numpy(), strict=True)]


def test_lists_whose_bound_is_near_the_best_are_read_up_to_a_number_of_blocks() -> None:
    index = inverted(ProbeLimits(4, 0.0), ProbeLimits(6, 1e9))
    lists = layout(VECTORS, LOG_P, CATALOGUE.available, CENTROIDS)
    u = queries(3)
    ranked = np.argsort(-(u @ CENTROIDS.T), axis=1)

    def in_order(row: int, most: int) -> set[int]:
        every = [lists.first[one] + n for one in ranked[row] for n in range(lists.blocks[one])]
        return set(every[:most])

    best = [in_order(row, min(4, lists.blocks[ranked[row][0]])) for row in range(3)]
    assert read_of(index, u, [0.0, 0.0, 0.0]) == best  # only the best list: no other has as high a bound
    assert read_of(index, u, [1.0, 0.0, 0.5]) == [in_order(0, 6), best[1], in_order(2, 5)]


def test_a_row_reads_the_same_in_every_batch() -> None:
    index = inverted(ProbeLimits(3, 1e9), ProbeLimits(20, 1e9), max_k=5)
    u, depth = queries(12), np.linspace(0, 1, 12).tolist()
    alone = [read_of(index, u[row : row + 1], depth[row : row + 1])[0] for row in range(12)]
    assert read_of(index, u, depth) == alone


def test_who_wants_more_or_names_a_tag_reads_deeper() -> None:
    index = inverted(ProbeLimits(1, 0.0), ALL, max_k=500)
    asked = filters(4, exclude=[[""] * 150, ["x"] * 100 + [""] * 50, ["x"] * 150, [""] * 150],
                   deny_tags=[[""], [""], [""], ["no"]])
    rows = tf.constant(4)
    assert (SHALLOW, DEEP) == (100, 300)
    assert index.depth(rows, tf.constant(100), asked).numpy().tolist() == [0.0, 0.5, 0.75, 1.0]
    assert index.depth(rows, tf.constant(40), asked).numpy().tolist() == [0.0, pytest.approx(0.2), pytest.approx(0.45), 1.0]
    assert index.depth(rows, tf.constant(400), None).numpy().tolist() == [1.0] * 4

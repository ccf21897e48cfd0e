"""The index against values worked by hand, and the laws of an answer: padding, filters, priors."""
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.errors import ModelError
from tfrec.graph.exact_index import KINDS, ExactIndex, Filters

INF = float("inf")
CATALOGUE = Catalogue(
    [
        Item(id="a", tags=("red",)),
        Item(id="b", tags=("red", "new")),
        Item(id="c", tags=("new", "")),
        Item(id="d"),
        Item(id="gone", tags=("red",), available=False),
    ]
)
VECTORS = np.array([[1, 0], [0, 1], [0.5, 0.5], [-1, 0], [9, 9]], np.float32)
LOG_P = np.array([-1, -2, -3, -4, -0.1], np.float32)
INDEX = ExactIndex(CATALOGUE, VECTORS, LOG_P, max_k=6)


def filters(rows: int = 1, **some: list[list[str]] | list[list[float]]) -> Filters:
    values = {name: some.get(name, [[]] * rows) for name in Filters._fields}
    return Filters(**{name: tf.constant(value, KINDS[name].dtype) for name, value in values.items()})


def search(
    u: list[list[float]], k: list[int], *, beta: float = 0.0, asked: Filters | None = None
) -> tuple[list[list[str]], np.ndarray]:
    found = INDEX.search(tf.constant(u), tf.constant(k), beta=tf.fill([len(u)], beta), filters=asked)
    return [[item.decode() for item in row] for row in found["items"].numpy()], found["scores"].numpy()


def test_the_score_is_the_product_and_the_prior() -> None:
    items, scores = search([[2.0, 1.0], [0.0, 0.0]], [3, 3], beta=0.5)
    # 2 - .5, 1 - 1, 1.5 - 1.5, -2 - 2; for nobody in particular by popularity
    assert items == [["a", "b", "c"], ["a", "b", "c"]]
    assert_allclose(scores, [[1.5, 0.0, 0.0], [-0.5, -1.0, -1.5]])


def test_rows_are_padded_to_the_largest_k_and_short_answers_to_theirs() -> None:
    items, scores = search([[1.0, 0.0]] * 4, [1, 6, 0, -5])
    assert items == [["a"] + [""] * 5, ["a", "c", "b", "d", "", ""], [""] * 6, [""] * 6]
    assert_allclose(scores, [[1] + [-INF] * 5, [1, 0.5, 0, -1, -INF, -INF], [-INF] * 6, [-INF] * 6])
    assert search([[1.0, 0.0]], [99])[1].shape == (1, 6)
    assert search([[1.0, 0.0]], [0])[1].shape == search([[1.0, 0.0]], [-1])[1].shape == (1, 0)


@pytest.mark.parametrize(
    ("asked", "items"),
    [
        (filters(exclude=[["a", "nobody", "", "a"]]), ["c", "b", "d"]),
        (filters(allow_tags=[["red"]]), ["a", "b"]),
        (filters(allow_tags=[["", "new"]]), ["c", "b"]),
        (filters(allow_tags=[["red", "new"]]), ["a", "c", "b"]),
        (filters(allow_tags=[[""]]), ["a", "c", "b", "d"]),
        (filters(allow_tags=[["blue"]]), []),
        (filters(deny_tags=[["new", ""]]), ["a", "d"]),
        (filters(allow_tags=[["red"]], deny_tags=[["new"]], exclude=[["d"]]), ["a"]),
        (filters(prior_items=[["d", "nobody", ""]], prior_log_p=[[3.0, 9.0, 9.0]]), ["d", "a", "b", "c"]),
    ],
)
def test_filters_and_priors_of_a_request(asked: Filters, items: list[str]) -> None:
    beta = 1.0 if asked.prior_items.shape[1] else 0.0
    assert search([[1.0, 0.0]], [4], beta=beta, asked=asked)[0] == [items + [""] * (4 - len(items))]


def test_each_row_has_its_own_wishes() -> None:
    asked = filters(3, exclude=[["a"], ["b"], [""]], deny_tags=[[""], ["red"], ["new"]])
    assert search([[1.0, 0.0]] * 3, [2, 2, 2], asked=asked)[0] == [["c", "b"], ["c", "d"], ["a", "d"]]


def test_a_catalogue_without_tags() -> None:
    index = ExactIndex(Catalogue([Item(id="a")]), np.ones([1, 2], np.float32), np.zeros(1, np.float32), max_k=3)
    for asked, item in ((filters(allow_tags=[["red"]]), b""), (filters(deny_tags=[["red"]]), b"a")):
        found = index.search(tf.ones([1, 2]), tf.constant([1]), beta=tf.zeros([1]), filters=asked)
        assert found["items"].numpy().tolist() == [[item]]


def test_what_a_search_is_made_of() -> None:
    asked = filters(2, exclude=[["a", "b"], [""] * 2], prior_items=[["c"], [""]], prior_log_p=[[-9.0], [0.0]])
    assert INDEX.eligible(tf.constant(2), asked).numpy().tolist() == [[False, False, True, True, False], [True] * 4 + [False]]
    assert_allclose(INDEX.log_p(tf.constant(2), asked), [[-1, -2, -9, -4, -0.1], LOG_P], rtol=1e-6)
    scores, positions = INDEX.best(tf.constant([[2.0, 1.0]] * 2), tf.constant(7), beta=tf.ones([2]), filters=asked)
    assert_allclose(scores, [[-6, 1.5 - 9, *[-INF] * 5], [1, -1, -1.5, -6, *[-INF] * 3]], rtol=1e-6)
    assert positions.numpy()[:, :2].tolist() == [[3, 2], [0, 1]]


def test_arrays_must_fit_the_catalogue() -> None:
    with pytest.raises(ModelError, match="for each of 5 items, got 4, 5"):
        ExactIndex(CATALOGUE, VECTORS[:4], LOG_P, max_k=3)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(-2, 9), st.sets(st.sampled_from("abcdxy")), st.sets(st.sampled_from(["red", "new", "blue"]))),
        min_size=1,
        max_size=5,
    )
)
def test_an_answer_is_the_sorted_list_of_what_may_come(rows: list[tuple[int, set[str], set[str]]]) -> None:
    k = [row[0] for row in rows]
    asked = filters(
        len(rows),
        exclude=[sorted(row[1]) + [""] * (6 - len(row[1])) for row in rows],
        deny_tags=[sorted(row[2]) + [""] * (3 - len(row[2])) for row in rows],
    )
    u = np.random.default_rng(len(rows)).normal(size=(len(rows), 2)).astype(np.float32)
    items, _ = search(u.tolist(), k, beta=1.0, asked=asked)
    width = max(0, min(6, max(k)))
    for row, (size, excluded, denied) in enumerate(rows):
        scores = {item.id: float(u[row] @ VECTORS[n] + LOG_P[n]) for n, item in enumerate(CATALOGUE.items)}
        may = [i.id for i in CATALOGUE.items if i.available and i.id not in excluded and not denied & set(i.tags)]
        best = sorted(may, key=lambda item: -scores[item])[: max(0, min(size, 6))]
        assert items[row] == best + [""] * (width - len(best))

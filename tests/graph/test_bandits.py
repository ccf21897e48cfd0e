"""Thompson sampling against how often its posterior puts each item first, and LinUCB against bounds worked by hand."""
from math import sqrt
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.graph.bandits import linucb, thompson
from tfrec.graph.clustering import centroids
from tfrec.graph.exact_index import ExactIndex, Filters
from tfrec.graph.inverted_index import InvertedIndex, ProbeLimits
from tfrec.models.bayesian_head import BayesianHead

CATALOGUE = Catalogue([Item(id=name, available=name != "gone") for name in ("a", "b", "c", "d", "gone")])
VECTORS = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0], [9.0, 9.0]], np.float32)
LOG_P = np.array([-1.0, -2.0, -3.0, -1.5, 0.0], np.float32)
INDEX = ExactIndex(CATALOGUE, VECTORS, LOG_P, max_k=4)
PRECISION = np.array([[4.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 3.0]])
MEAN = np.array([1.0, 0.8, 1.2])
U, BETA = np.array([1.0, 1.1], np.float32), 0.5


@pytest.fixture(scope="module")
def head() -> BayesianHead:
    made = BayesianHead(2)
    made.mean.assign(MEAN)
    made.factor.assign(np.linalg.cholesky(PRECISION))
    return made


def filters(rows: int, exclude: str = "") -> Filters:
    return Filters.of(rows, exclude=tf.fill([rows, 1], exclude))


def ask(policy: Any, head: BayesianHead, rows: int, k: int, *, alpha: float, exclude: str = "", **more: Any) -> dict[str, Any]:
    found = policy(INDEX, head, tf.tile(tf.constant(U)[None], [rows, 1]), tf.fill([rows], k), beta=tf.fill([rows], BETA),
                   filters=filters(rows, exclude), alpha=tf.fill([rows], alpha), **more)
    return {name: tensor.numpy() for name, tensor in found.items()}


def sampled(index: ExactIndex, head: BayesianHead, u: tf.Tensor, k: tf.Tensor, *, beta: tf.Tensor, filters: Filters,
            alpha: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """The best by a draw, as the graph puts the two together."""
    draw = tf.function(lambda: thompson(head, u, beta, alpha=alpha, seed=seed), autograph=False)  # a loop of operators otherwise
    drawn, popularity = draw()
    return index.search(drawn, k, beta=popularity, filters=filters)


def phi(item: int) -> np.ndarray:
    return np.array([*(U * VECTORS[item]), BETA * LOG_P[item]])


@pytest.mark.parametrize(("alpha", "exclude"), [(1.0, ""), (2.0, ""), (1.0, "a")])
def test_each_item_is_first_as_often_as_the_posterior_has_it(head: BayesianHead, alpha: float, exclude: str) -> None:
    n = 20_000
    first = ask(sampled, head, n, 1, alpha=alpha, exclude=exclude, seed=tf.range(n, dtype=tf.int64))["items"][:, 0]
    may = [item for item in range(4) if CATALOGUE.items[item].id != exclude]
    # the same posterior by another way: its covariance, numpy's numbers, twenty times as many of them
    weights = np.random.default_rng(0).multivariate_normal(MEAN, alpha**2 * np.linalg.inv(PRECISION), 20 * n)
    best = np.argmax(weights @ np.array([phi(item) for item in may]).T, axis=1)
    expected = np.bincount(best, minlength=len(may)) / 20
    seen = np.array([np.count_nonzero(first == CATALOGUE.items[item].id.encode()) for item in may])
    assert seen.sum() == n
    assert expected.min() > 5
    statistic = ((seen - expected) ** 2 / expected).sum()
    assert float(tf.math.igammac((len(may) - 1) / 2, statistic / 2)) > 0.01


def test_the_same_seed_draws_the_same_and_another_another(head: BayesianHead) -> None:
    seeds = tf.constant([5, 6, 5], tf.int64)
    found = ask(sampled, head, 3, 4, alpha=1.0, seed=seeds)
    assert found["scores"][0].tolist() == found["scores"][2].tolist() != found["scores"][1].tolist()
    alone = ask(sampled, head, 1, 4, alpha=1.0, seed=seeds[1:2])
    assert_allclose(alone["scores"][0], found["scores"][1], rtol=1e-5)


def test_without_a_draw_it_is_the_mean(head: BayesianHead) -> None:
    found = ask(sampled, head, 1, 4, alpha=0.0, seed=tf.constant([3], tf.int64))
    expected = sorted(((float(MEAN @ phi(item)), CATALOGUE.items[item].id) for item in range(4)), reverse=True)
    assert [item.decode() for item in found["items"][0]] == [name for _, name in expected]
    assert_allclose(found["scores"][0], [score for score, _ in expected], rtol=1e-5)


def test_bounds_by_hand() -> None:
    made = BayesianHead(2)
    made.factor.assign(np.diag([2.0, 1.0, 1.0]).astype(np.float32))  # standard deviations 1/2, 1, 1
    found = ask(linucb, made, 1, 4, alpha=2.0, shortlist=4)
    # phi of a: (1, 0, -.5), of b: (.6, .88, -1), of c: (0, 1.1, -1.5), of d: (-1, 0, -.75)
    upper = {"a": 0.5 + 2 * sqrt(0.5**2 + 0.5**2), "b": 0.48 + 2 * sqrt(0.3**2 + 0.88**2 + 1),
             "c": -0.4 + 2 * sqrt(1.1**2 + 1.5**2), "d": -1.75 + 2 * sqrt(0.5**2 + 0.75**2)}
    assert [item.decode() for item in found["items"][0]] == ["c", "b", "a", "d"]
    assert_allclose(found["scores"][0], [upper[name] for name in "cbad"], rtol=1e-5)
    greedy = ask(linucb, made, 1, 4, alpha=0.0, shortlist=4)
    assert [item.decode() for item in greedy["items"][0]] == ["a", "b", "c", "d"]


def test_only_the_shortlist_may_rise() -> None:
    found = ask(linucb, BayesianHead(2), 1, 2, alpha=100.0, shortlist=2)
    assert {item.decode() for item in found["items"][0]} == {"a", "b"}


def test_an_excluded_item_has_no_bound(head: BayesianHead) -> None:
    found = ask(linucb, head, 2, 4, alpha=50.0, exclude="b", shortlist=4)
    assert [set(row) for row in found["items"].tolist()] == [{b"a", b"c", b"d", b""}] * 2
    assert found["scores"][:, 3].tolist() == [-np.inf] * 2


def test_lists_are_searched_by_the_draw(head: BayesianHead) -> None:
    """An index that reads all of its lists finds what the exact one does."""
    rng = np.random.default_rng(4)
    catalogue = Catalogue([Item(id=f"i{n}") for n in range(300)])
    vectors = rng.normal(size=(300, 2)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    log_p = rng.normal(-5, 2, 300).astype(np.float32)
    exact = ExactIndex(catalogue, vectors, log_p, max_k=20)
    every = ProbeLimits(10**6, 1e9)
    lists = InvertedIndex(catalogue, vectors, log_p, max_k=20, centroids=centroids(vectors, seed=0), shallow=every, deep=every)
    given = {"beta": tf.fill([30], BETA), "filters": filters(30), "alpha": tf.ones([30])}
    u, k = tf.tile(tf.constant(U)[None], [30, 1]), tf.fill([30], 9)
    for policy, more in ((sampled, {"seed": tf.range(30, dtype=tf.int64)}), (linucb, {"shortlist": 20})):
        a, b = (policy(index, head, u, k, **given, **more) for index in (exact, lists))
        assert a["items"].numpy().tolist() == b["items"].numpy().tolist()
        assert_allclose(a["scores"], b["scores"], rtol=1e-4)

"""Slates drawn at random against the propensities that they report: by the formula, in sum, and by how often each comes."""
from collections import Counter
from functools import lru_cache
from itertools import permutations
from math import exp, inf, log, nan
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.graph.clustering import centroids
from tfrec.graph.exact_index import ExactIndex, Filters
from tfrec.graph.explore import Policy, explore, log_propensities
from tfrec.graph.inverted_index import InvertedIndex, ProbeLimits

N = 6
CATALOGUE = Catalogue([Item(id=f"i{n}", available=n != 5, tags=("odd",) if n % 2 else ()) for n in range(N)])
# with u = 1 and beta = 0 an item's score is its vector
SCORES = np.log(np.array([4, 2, 1, 1, 0.5, 99], np.float32))
INDEX = ExactIndex(CATALOGUE, SCORES[:, None], np.zeros(N, np.float32), max_k=5)


@lru_cache
def _drawer(shortlist: int) -> Any:
    def draw(
        u: tf.Tensor, k: tf.Tensor, exclude: tf.Tensor, deny: tf.Tensor, policy: Policy, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        filters = Filters.of(tf.shape(u)[0], exclude=exclude, deny_tags=deny)
        return explore(INDEX, u, k, beta=tf.zeros_like(u[:, 0]), filters=filters, policy=policy, seed=seed, shortlist=shortlist)

    texts = tf.TensorSpec([None, None], tf.string)
    policy = Policy(tf.TensorSpec([None]), tf.TensorSpec([None]))
    spec = [tf.TensorSpec([None, 1]), tf.TensorSpec([None], tf.int32), texts, texts, policy, tf.TensorSpec([None], tf.int64)]
    return tf.function(draw, input_signature=spec, autograph=False)  # traced once for all shapes, as it is served


def draw(
    k: int | list[int], *, seed: Any, temperature: Any = 1.0, epsilon: Any = 0.0, exclude: Any = (), deny: Any = (),
    shortlist: int = 5, u: Any = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and log propensities; a single value is every row's."""
    rows = len(seed)
    excluded, denied = ([said] * rows if not said or isinstance(said[0], str) else said for said in (exclude, deny))
    policy = Policy(*(np.broadcast_to(np.float32(value), rows) for value in (temperature, epsilon)))
    found = _drawer(shortlist)(
        tf.broadcast_to(tf.constant(u, tf.float32), [rows])[:, None],
        tf.broadcast_to(tf.constant(k, tf.int32), [rows]),
        tf.reshape(tf.constant(excluded, tf.string), [rows, len(excluded[0]) if rows else 0]),
        tf.reshape(tf.constant(denied, tf.string), [rows, len(denied[0]) if rows else 0]),
        Policy(*map(tf.constant, policy)),
        tf.constant(seed, tf.int64, [rows]),
    )
    return found[0].numpy(), found[1].numpy()


def may(exclude: tuple[str, ...] = (), deny: tuple[str, ...] = ()) -> list[int]:
    return [n for n in range(N) if n != 5 and f"i{n}" not in exclude and not (n % 2 and "odd" in deny)]


def by_the_formula(
    slate: tuple[int, ...], *, temperature: float, epsilon: float, exclude: tuple[str, ...] = (), deny: tuple[str, ...] = (),
    shortlist: int = 5
) -> list[float]:
    """log pi of each place, as the docstring of `explore` says it; a shortlist's ties go to the lower position."""
    left = may(exclude, deny)
    best = sorted(left, key=lambda n: -SCORES[n])[:shortlist]
    log_pi, mass = [], np.diff(INDEX.mass_before.numpy())
    for item in slate:
        weight = {n: exp(SCORES[n] / temperature) if temperature else float(n == best[0]) for n in best}
        own = weight.get(item, 0.0) / sum(weight.values())
        log_pi.append(log((1 - epsilon) * own + epsilon * mass[item] / mass[left].sum()))
        left.remove(item)
        best = [n for n in best if n != item]
    return log_pi


def test_propensities_by_hand() -> None:
    slates, log_pi = draw(2, seed=range(200), epsilon=0.1, shortlist=3, exclude=["i4"])
    found = {tuple(slate): np.exp(row) for slate, row in zip(slates.tolist(), log_pi, strict=True)}
    # the shortlist is {i0: 4, i1: 2, i2: 1}; four items may come
    assert_allclose(found[0, 1], [0.9 * 4 / 7 + 0.1 / 4, 0.9 * 2 / 3 + 0.1 / 3], rtol=1e-6)
    assert_allclose(found[1, 0], [0.9 * 2 / 7 + 0.1 / 4, 0.9 * 4 / 5 + 0.1 / 3], rtol=1e-6)
    assert_allclose(found[0, 3], [0.9 * 4 / 7 + 0.1 / 4, 0.1 / 3], rtol=1e-6)
    assert_allclose(found[3, 0], [0.1 / 4, 0.9 * 4 / 7 + 0.1 / 3], rtol=1e-6)


POLICIES: dict[str, dict[str, Any]] = {
    "plackett-luce": {"temperature": 1.0, "epsilon": 0.0},
    "hot": {"temperature": 3.0, "epsilon": 0.0},
    "mixed": {"temperature": 0.7, "epsilon": 0.3, "shortlist": 3},
    "epsilon-greedy": {"temperature": 0.0, "epsilon": 0.4, "shortlist": 3},
    "uniform": {"temperature": 1.0, "epsilon": 1.0, "shortlist": 3},
    "with exclusions": {"temperature": 0.7, "epsilon": 0.3, "shortlist": 3, "exclude": ("i1", "nobody", "i1", "i5")},
    "with tags": {"temperature": 0.7, "epsilon": 0.6, "shortlist": 3, "exclude": ("i1", ""), "deny": ("odd", "other")},
}


@pytest.mark.parametrize("name", POLICIES)
def test_each_slate_comes_as_often_as_its_propensity_says(name: str) -> None:
    policy, n = POLICIES[name], 10_000
    slates, log_pi = draw(3, seed=range(n), **policy)
    counts = Counter(map(tuple, slates.tolist()))
    reported = {tuple(slate): row for slate, row in zip(slates.tolist(), log_pi, strict=True)}
    for slate, row in reported.items():
        assert_allclose(row, by_the_formula(slate, **policy), rtol=1e-5, atol=1e-6)
    left = may(policy.get("exclude", ()), policy.get("deny", ()))
    expected = {slate: n * exp(sum(by_the_formula(slate, **policy))) for slate in permutations(left, 3)}
    assert sum(expected.values()) == pytest.approx(n)
    assert counts.keys() <= expected.keys()
    cells = [(counts[slate], count) for slate, count in expected.items() if count >= 5]
    rare = [(counts[slate], count) for slate, count in expected.items() if count < 5]
    if rare:
        cells.append((sum(seen for seen, _ in rare), sum(count for _, count in rare)))
    statistic = sum((seen - count) ** 2 / count for seen, count in cells)
    # P(chi-square of that many degrees of freedom is as large): the seeds are fixed, so that it is the same in every run
    assert float(tf.math.igammac((len(cells) - 1) / 2, statistic / 2)) > 0.01


@pytest.mark.parametrize("name", ["mixed", "uniform", "with exclusions", "with tags"])
def test_newcomers_come_as_often_as_their_mass_says(name: str) -> None:
    INDEX.weigh(np.array([1, 1, 3, 1, 0.5, 1]))
    try:
        test_each_slate_comes_as_often_as_its_propensity_says(name)
    finally:
        INDEX.weigh(np.ones(N))


@settings(max_examples=30)
@given(
    st.integers(1, 3), st.sampled_from([0.0, 0.01, 0.5, 1.0, 9.0]), st.floats(0.01, 1.0), st.integers(3, 5),
    st.sets(st.sampled_from(["i0", "i1", "i2"]), max_size=2), st.integers(0, 2**31),
)
def test_the_propensities_of_all_slates_sum_to_one(
    k: int, temperature: float, epsilon: float, shortlist: int, exclude: set[str], seed: int
) -> None:
    slates = np.array(list(permutations(may(tuple(exclude)), k)), np.int32)
    rows = len(slates)
    excluded = tf.constant([sorted(exclude)] * rows, tf.string, [rows, len(exclude)])
    filters = Filters.of(rows, exclude=excluded)
    INDEX.weigh(np.random.default_rng(seed).uniform(0.1, 3, N))
    try:
        log_pi = log_propensities(
            INDEX, tf.ones([rows, 1]), tf.constant(slates), beta=tf.zeros([rows]), filters=filters,
            policy=Policy(tf.fill([rows], temperature), tf.fill([rows], epsilon)), shortlist=shortlist,
        ).numpy()
    finally:
        INDEX.weigh(np.ones(N))
    assert np.exp(log_pi.astype(np.float64).sum(axis=1)).sum() == pytest.approx(1.0, abs=1e-5)


def test_a_row_is_the_same_in_every_batch() -> None:
    rng = np.random.default_rng(3)
    rows = 40
    k, seed = rng.integers(-1, 8, rows), rng.integers(-(2**60), 2**60, rows)
    seed[:2] = 7
    temperature = rng.choice([0, 0.3, 1, 5], rows)
    epsilon = rng.choice([0, 0.1, 0.5, 1], rows)
    u = rng.choice([1.0, -1.0, 0.2], rows)
    exclude = [[["i1"], [""], ["i0"]][row % 3] for row in range(rows)]
    deny = [[["odd", ""], ["", ""]][row % 2] for row in range(rows)]
    together = draw(k.tolist(), seed=seed, temperature=temperature, epsilon=epsilon, u=u, exclude=exclude, deny=deny)
    assert together[0].shape == (rows, 5)
    for row in range(rows):
        alone = draw([int(k[row])], seed=seed[row : row + 1], temperature=temperature[row], epsilon=epsilon[row], u=u[row],
                     exclude=exclude[row], deny=deny[row])
        width = max(0, min(5, int(k[row])))
        assert alone[0].shape == (1, width)
        for whole, part in zip(together, alone, strict=True):
            assert_array_equal(whole[row, :width], part[0])
        assert (together[0][row, width:] == -1).all()
        assert (together[1][row, width:] == -inf).all()


def test_the_same_seed_draws_the_same_slate_and_another_another() -> None:
    slates, log_pi = draw(5, seed=[1, 2, 1, 3, 2**40, -9], epsilon=0.2)
    assert_array_equal(slates[0], slates[2])
    assert_array_equal(log_pi[0], log_pi[2])
    assert len(set(map(tuple, slates.tolist()))) >= 4
    again, _ = draw(5, seed=[1, 2, 1, 3, 2**40, -9], epsilon=0.2)
    assert_array_equal(slates, again)


def test_without_noise_it_is_the_search() -> None:
    # i2 and i3 tie: the lower position comes first, as in a search
    slates, log_pi = draw(5, seed=[0, 1], temperature=0.0)
    assert slates.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert_allclose(log_pi, np.zeros([2, 5]))


def test_a_shorter_catalogue_than_the_slate() -> None:
    rest = ["i0", "i2", "i3"]
    slates, log_pi = draw([5, 5, 5], seed=[1, 2, 3], epsilon=[0.0, 0.5, 1.0], exclude=[[*rest, "i4"], [*rest, ""], [*rest, "i1"]])
    assert slates[0].tolist() == [1, -1, -1, -1, -1]
    assert set(slates[1, :2].tolist()) == {1, 4}
    assert slates[2].tolist() == [4, -1, -1, -1, -1]
    assert_allclose(log_pi[[0, 2]], [[0, *[-inf] * 4]] * 2)
    assert log_pi[1, 1] == pytest.approx(0.0, abs=1e-6)
    everything = [f"i{n}" for n in range(N)]
    slates, log_pi = draw(3, seed=[1, 2], epsilon=[0.0, 1.0], exclude=everything)
    assert (slates == -1).all()
    assert (log_pi == -inf).all()


def test_no_row_and_no_place() -> None:
    assert draw([], seed=[])[0].shape == (0, 0)
    assert draw([0, -3], seed=[1, 2], epsilon=0.5)[1].shape == (2, 0)


@pytest.mark.parametrize(
    ("strange", "plain"),
    [
        ({"temperature": inf}, {"temperature": 1e9}),
        ({"temperature": -1.0}, {"temperature": 0.0}),
        ({"temperature": nan}, {"temperature": 0.0}),
        ({"epsilon": -3.0}, {"epsilon": 0.0}),
        ({"epsilon": 7.0}, {"epsilon": 1.0}),
    ],
)
def test_a_policy_out_of_range_is_the_nearest_and_fails_no_other_row(strange: dict[str, float], plain: dict[str, float]) -> None:
    for one, other in zip(draw(4, seed=range(50), **strange), draw(4, seed=range(50), **plain), strict=True):
        assert_allclose(one, other, atol=1e-6)


def test_on_an_index_of_lists() -> None:
    rng, n, rows = np.random.default_rng(4), 400, 30
    vectors = rng.normal(size=(n, 4)).astype(np.float32)
    catalogue = Catalogue([Item(id=f"i{i}", available=i % 9 != 0) for i in range(n)])
    some = ProbeLimits(20, 1e9)
    index = InvertedIndex(catalogue, vectors, np.zeros(n, np.float32), max_k=20, centroids=centroids(vectors, seed=0),
                          shallow=some, deep=some)
    u, beta, k = tf.constant(rng.normal(size=(rows, 4)), tf.float32), tf.ones([rows]), tf.fill([rows], 20)
    excluded = [f"i{i}" for i in range(1, 40)]
    filters = Filters.of(rows, exclude=tf.constant([excluded] * rows))
    found = index.search(u, k, beta=beta, filters=filters)["items"].numpy()
    left = sum(item.available and item.id not in excluded for item in catalogue.items)
    for epsilon in (0.0, 1.0):
        policy = Policy(tf.zeros([rows]), tf.fill([rows], epsilon))
        slate, log_pi = explore(index, u, k, beta=beta, filters=filters, policy=policy, seed=tf.range(rows, dtype=tf.int64),
                                shortlist=30)
        ids = index.names(slate, slate >= 0).numpy()
        if not epsilon:
            assert_array_equal(ids, found)
        expected = -np.log(left - np.arange(20)) if epsilon else np.zeros(20)
        assert_allclose(log_pi, [expected] * rows, rtol=1e-6)
        drawn = [[int(item[1:]) for item in row] for row in ids]  # an empty place of a list has no number
        assert all(len(set(row)) == 20 and min(row) >= 40 and all(item % 9 for item in row) for row in drawn)

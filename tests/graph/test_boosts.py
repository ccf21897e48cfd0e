"""Boosts in the graph: they are added to scores before anything is chosen, and a drawn slate's propensities know them."""
from collections import Counter
from itertools import permutations
from math import exp, log

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from tests.graph.test_explore import SCORES, N, by_the_formula
from tests.graph.tiny_recommender import by_item, catalogue, only, request
from tfrec.client.slate_options import boost_inputs
from tfrec.data.items.boosted_items import BoostedItems
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.items.numeric_columns import numeric_columns
from tfrec.data.items.tag_filters import positions_by_tag
from tfrec.data.records import Boost, Item
from tfrec.graph.boosts import Boosts
from tfrec.graph.exact_index import ExactIndex, Filters
from tfrec.graph.explore import Policy, explore
from tfrec.graph.inverted_index import BY_WORDS, InvertedIndex, ProbeLimits
from tfrec.model_server.saved_model import SavedModel

ITEMS = Catalogue([Item(id=f"i{n}", available=n != 5, tags=("odd",) if n % 2 else ("even", "all"),
                        numeric={"price": float(n)} if n != 3 else {}) for n in range(N)])
INDEX = ExactIndex(ITEMS, SCORES[:, None], np.zeros(N, np.float32), max_k=5)
ROWS: list[tuple[Boost, ...]] = [
    (), (("item", "i1", 0.5, None, None),), (("tag", "odd", -1.0, None, None), ("item", "i1", 0.25, None, None)),
    (("column", "price", 2.0, 1.0, 4.0),), (("column", "price", 1.0, None, 2.0), ("column", "price", 1.0, 2.0, None)),
    (("item", "nobody", 9.0, None, None), ("tag", "none", 9.0, None, None), ("column", "none", 9.0, None, None)),
    (("tag", "even", 1.0, None, None), ("tag", "all", 1.0, None, None), ("item", "i0", 1.0, None, None)),
]


def boosts(rows: list[tuple[Boost, ...]], index: ExactIndex = INDEX) -> tf.Tensor:
    sent = boost_inputs(rows, len(rows))
    return index.boosts(Boosts(*(tf.constant(sent[f"boost_{name}"]) for name in Boosts._fields)))


def test_the_graph_adds_what_training_adds() -> None:
    known = BoostedItems.of(ROWS, ITEMS.ids.tolist(), positions_by_tag([item.tags for item in ITEMS.items]),
                            numeric_columns(ITEMS.items))
    assert_allclose(boosts(ROWS), known.added(N))
    assert_allclose(known.added(N)[2:5], [[0, -0.75, 0, -1, 0, -1], [0, 2, 2, 0, 2, 0], [1, 1, 2, 0, 1, 1]])
    assert boosts([(), ROWS[5][:0]]).shape == (2, 0)
    assert known[np.array([0])].added(N).shape == (1, 0)


def test_drawn_slates_come_as_often_as_they_say_with_a_pin_and_boosts() -> None:
    """As the gateway asks: what is pinned is excluded, and the other positions are drawn from what is left."""
    n, pinned, k = 12_000, "i2", 2
    added = {1: 0.8, 3: 0.8, 4: -1.5}
    row: tuple[Boost, ...] = (("tag", "odd", 0.8, None, None), ("item", "i4", -1.5, None, None))

    @tf.function(autograph=False)
    def draw() -> tuple[tf.Tensor, tf.Tensor]:
        filters = Filters.of(n, exclude=tf.fill([n, 1], pinned), boosts=tf.tile(boosts([row]), [n, 1]))
        policy = Policy(tf.fill([n], 0.7), tf.fill([n], 0.2))
        return explore(INDEX, tf.fill([n, 1], 1.0), tf.fill([n], k), beta=tf.zeros([n]), filters=filters, policy=policy,
                       seed=tf.range(n, dtype=tf.int64), shortlist=3)

    slate, log_pi = draw()
    drawn, said = slate.numpy(), log_pi.numpy().sum(axis=1)
    probability = {tuple(one): exp(total) for one, total in zip(drawn.tolist(), said.tolist(), strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.graph.test_explore.SCORES", SCORES + np.array([added.get(item, 0.0) for item in range(N)]))
        every = {one: exp(sum(by_the_formula(one, temperature=0.7, epsilon=0.2, exclude=(pinned,), shortlist=3)))
                 for one in permutations([0, 1, 3, 4], k)}
    assert sum(every.values()) == pytest.approx(1)
    assert probability.keys() == every.keys()
    assert_allclose([probability[one] for one in every], list(every.values()), rtol=1e-4)
    count = Counter(map(tuple, drawn.tolist()))
    for one, p in every.items():
        assert abs(count[one] / n - p) < 5 * (p * (1 - p) / n) ** 0.5 + 1e-9


@pytest.mark.parametrize("many", [False, True])
def test_an_index_of_lists_finds_what_the_exact_one_finds(many: bool) -> None:
    rng, n = np.random.default_rng(0), 2_000
    vectors = rng.normal(size=(n, 8)).astype(np.float32)
    items = Catalogue([Item(id=f"i{i}", tags=("half",) if i % 2 else ("few",) if i % 100 == 0 else ()) for i in range(n)])
    log_p = rng.normal(size=n).astype(np.float32)
    limits = ProbeLimits(4, 2.0)
    lists = InvertedIndex(items, vectors, log_p, max_k=20, centroids=vectors[:40],
                          shallow=limits, deep=limits)
    exact = ExactIndex(items, vectors, log_p, max_k=20)
    row: tuple[Boost, ...] = (("tag", "half" if many else "few", 30.0, None, None), ("item", "i7", 60.0, None, None))
    assert n / 2 > BY_WORDS > n / 100
    u, beta = tf.constant(rng.normal(size=(3, 8)).astype(np.float32)), tf.fill([3], 0.5)
    found, wanted = (index.search(u, tf.fill([3], 10), beta=beta, filters=Filters.of(3, boosts=boosts([row] * 3, index)))
                     for index in (lists, exact))
    assert found["items"].numpy().tolist() == wanted["items"].numpy().tolist()
    assert_allclose(found["scores"], wanted["scores"], rtol=1e-5)
    assert (wanted["items"].numpy()[:, 0] == b"i7").all()


def test_every_signature_takes_them(served: SavedModel) -> None:
    row: tuple[Boost, ...] = (("tag", "tens", log(3), None, None), ("column", "year", -2.0, None, 1959.0))
    asked = request([["i3"], []], exclude=[["i3"], [""]])
    plain, boosted = served.run("recommend", asked), served.run("recommend", asked | boost_inputs([row, ()], 2))
    expected = {item.id: log(3) * ("tens" in item.tags) - 2 * (item.numeric["year"] <= 1959) for item in catalogue().items}
    before, after = by_item(plain), by_item(boosted)
    assert before.keys() == after.keys()
    assert_allclose([after[name] - before[name] for name in after], [expected[name] for name in after], atol=1e-4)
    assert by_item(boosted, 1) == pytest.approx(by_item(plain, 1), abs=1e-4)  # the other row asked for nothing
    policy = {"temperature": np.zeros(2, np.float32), "epsilon": np.zeros(2, np.float32), "seed": np.arange(2)}
    drawn = by_item(served.run("explore", only("explore", asked | boost_inputs([row, ()], 2) | policy)))
    assert list(drawn)[:20] == list(after)[:20]
    assert_allclose([drawn[name] for name in list(after)[:20]], list(after.values())[:20], atol=1e-4)
    bandit = {"alpha": np.zeros(2, np.float32), "seed": np.arange(2)}
    for signature in ("thompson", "linucb"):
        top = by_item(served.run(signature, only(signature, asked | boost_inputs([row, ()], 2) | bandit)))
        assert list(top)[:10] == list(after)[:10]

"""Which index is chosen, and that what is said of it in the manifest is true."""
import logging

import numpy as np
import pytest
import tensorflow as tf

from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.graph import index_choice, recall
from tfrec.graph.clustering import centroids
from tfrec.graph.index_choice import Given, InvertedLists, choose_index
from tfrec.graph.inverted_index import InvertedIndex, ProbeLimits
from tfrec.graph.probe_limits import least_limits, least_probe_limits
from tfrec.graph.recall import ExactBest, Queries, sample_queries
from tfrec.models.recommender import Recommender


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search of many queries costs what one of few does, and there are few items."""
    monkeypatch.setattr(recall, "QUERIES_AT_ONCE", 1024)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 items are many."""
    monkeypatch.setattr(index_choice, "INVERTED_FROM", 60)


def with_serving(model: Recommender, **settings: object) -> Recommender:
    serving = model.config.serving.model_copy(update=settings)
    return Recommender(**{**vars(model), "config": model.config.model_copy(update={"serving": serving})})


def test_a_small_catalogue_is_searched_whole(model: Recommender) -> None:
    index, found = choose_index(model)
    assert not isinstance(index, InvertedIndex)
    assert found == {"kind": "exact"}


@pytest.mark.usefixtures("large")
def test_a_large_one_by_lists_that_reach_the_target(model: Recommender) -> None:
    index, found = choose_index(model)
    assert isinstance(index, InvertedIndex)
    assert (found["kind"], found["recall_target"], found["near"], found["far"]) == (
        "lists", 0.99, index.shallow._asdict(), index.deep._asdict())
    assert found["recall"].keys() == {"behaviour", "search", "exclude_200", "tag"}
    assert min(found["recall"].values()) >= 0.99


def test_rounded_vectors_are_measured_too(model: Recommender) -> None:
    index, found = choose_index(with_serving(model, index_storage="bfloat16", recall_target=0.9))
    assert index.state["vectors"].dtype == "bfloat16"
    assert (found["kind"], found["storage"]) == ("exact", "bfloat16")
    assert min(found["recall"].values()) >= 0.9


@pytest.mark.usefixtures("large")
def test_what_misses_the_target_is_not_served(
    model: Recommender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ExactBest, "recall", lambda *_: {"behaviour": 0.995, "search": 0.97})
    with caplog.at_level(logging.WARNING):
        index, found = choose_index(model)
    assert not isinstance(index, InvertedIndex)
    assert (found["kind"], found["refused"]["recall"]["search"]) == ("exact", 0.97)
    assert "finds 0.970 of the exact best 100, less than 0.99: all items are searched instead" in caplog.text


def test_a_delta_keeps_the_kind_and_says_when_it_has_become_worse(
    model: Recommender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ExactBest, "recall", lambda *_: {"behaviour": 0.5})
    lists = InvertedLists(model.item_vectors()[:3], ProbeLimits(2, 0.5), ProbeLimits(3, 1.5))
    with caplog.at_level(logging.WARNING):
        index, found = choose_index(model, given=Given(lists, "int8"))
    assert isinstance(index, InvertedIndex)
    assert (found["kind"], found["lists"], found["storage"]) == ("lists", 3, "int8")
    assert (found["near"], found["far"]) == ({"blocks": 2, "drop": 0.5}, {"blocks": 3, "drop": 1.5})
    assert "export the model again" in caplog.text


def test_recall_is_the_share_of_the_exact_best_that_is_found(model: Recommender) -> None:
    vectors, log_p = model.item_vectors(), model.prior.log_p()
    truth = ExactBest(model.catalogue, vectors, log_p, k=70)
    queries = Queries(vectors[:4] * 5, np.float32([0.0, 0.8, 0.8, 0.3]))
    [(_, _, best)] = truth.best(queries)
    scores = queries.u @ vectors.T + queries.beta[:, None] * log_p
    scores[:, ~truth.available] = -np.inf
    assert best.tolist() == np.argsort(-scores, axis=1, kind="stable")[:, : best.shape[1]].tolist()

    class Half:
        def search(self, u, k, *, beta, filters):  # of every answer the first half, and nothing else
            found = truth_index.search(u, k, beta=beta, filters=filters)
            items = found["items"].numpy()
            items[:, items.shape[1] // 2 :] = b""
            return {"items": Text(items)}

    class Text:
        def __init__(self, items: np.ndarray) -> None:
            self.numpy = lambda: items

    truth_index, _ = choose_index(model)
    assert truth.recall(truth_index, queries)["behaviour"] == 1.0
    assert 0.45 <= truth.recall(Half(), queries)["search"] <= 0.5


def test_sampled_queries_are_of_both_kinds_and_repeatable(model: Recommender) -> None:
    one, two, other = (sample_queries(model, n=9, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.u, two.u)
    assert not np.array_equal(one.u, other.u)
    assert np.unique(one.beta).tolist() == np.float32([0.3, 0.8]).tolist()
    assert one.u.shape == (18, 8)


def test_the_least_limits_by_hand() -> None:
    """Of five items four must be found. In order that takes 5 blocks; up to 1.5 times as many, 8, and then a drop of .6."""
    blocks, drop = np.array([1.0, 2.0, 5.0, 3.0, 20.0]), np.array([0.1, 0.6, 0.2, 0.5, 0.3])
    assert least_limits(blocks, drop, 0.8) == ProbeLimits(8, 0.6)


def test_the_least_limits_find_what_is_asked_of_them_and_no_less_would() -> None:
    rng = np.random.default_rng(7)
    n = 4000
    vectors = rng.normal(size=(20, 8))[rng.integers(20, size=n)] + 0.4 * rng.normal(size=(n, 8))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    log_p = rng.normal(-8, 1, n).astype(np.float32)
    catalogue = Catalogue([Item(id=f"i{k}") for k in range(n)])
    truth = ExactBest(catalogue, vectors, log_p, k=20)
    u = (5 * rng.normal(size=(400, 8))).astype(np.float32)
    queries = Queries(u, np.full(400, 0.5, np.float32))
    made = centroids(vectors, seed=0)
    shallow, deep = least_probe_limits(truth, made, queries, target=0.9)
    assert shallow.blocks < deep.blocks
    assert shallow.drop < deep.drop
    best = catalogue.ids[np.concatenate([part for *_, part in truth.best(queries)])]

    def found_by(limits: ProbeLimits) -> float:
        index = InvertedIndex(catalogue, vectors, log_p, max_k=20, centroids=made, shallow=limits, deep=limits)
        found = index.search(tf.constant(u), tf.fill([400], 20), beta=tf.constant(queries.beta))["items"].numpy().astype(str)
        return float(np.mean([np.isin(wanted, row).mean() for wanted, row in zip(best, found, strict=True)]))

    assert found_by(shallow) >= 0.9
    assert found_by(shallow._replace(drop=0.98 * shallow.drop)) < found_by(shallow)
    assert found_by(ProbeLimits(shallow.blocks // 2, shallow.drop)) < 0.9

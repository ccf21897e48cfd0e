"""Words in the served graph: what they add, what nobody should ask, and that an index of lists finds what the exact one finds."""
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from tests.graph.tiny_recommender import N_ITEMS, by_item, catalogue, only, request
from tests.models.bert.tiny import tokenizer_files
from tfrec.config import Config
from tfrec.graph.clustering import centroids
from tfrec.graph.exact_index import ExactIndex, Filters
from tfrec.graph.inverted_index import InvertedIndex, ProbeLimits
from tfrec.model_server.saved_model import SavedModel
from tfrec.models.lexical.lexicon import Lexicon
from tfrec.models.tokenizer.tokenizer import Tokenizer

LEXICON = Lexicon.of(Config(), catalogue(), Tokenizer(tokenizer_files(), max_tokens=8))
TEXTS = {item.id: str(item.text) for item in catalogue().items}


@pytest.mark.parametrize("query", ["the red tall 0", "TALL, tall!"])
def test_items_with_the_words_come_first(served: SavedModel, query: str) -> None:
    found = [*by_item(served.run("recommend", request([[]], query=[query])))]
    assert "tall" in TEXTS[found[0]]


@pytest.mark.parametrize("query", ["", "   ", "🙂", "\t\n", b"\xff", "人" * 3])
def test_a_query_without_known_words_adds_none(served: SavedModel, query: str) -> None:
    history = [["i3", "i9"]]
    plain, asked = (by_item(served.run("recommend", request(history, query=[text]))) for text in ("", query))
    assert asked.keys() == plain.keys()
    assert np.isfinite(list(asked.values())).all()


def test_ten_thousand_characters_are_answered(served: SavedModel) -> None:
    long = by_item(served.run("recommend", request([[]], query=["red tall " * 1111])))
    assert len(long) == len(by_item(served.run("recommend", request([[]], query=["red"]))))
    assert np.isfinite(list(long.values())).all()


def test_every_signature_counts_words_alike(served: SavedModel) -> None:
    asked = request([[]], query=["the blue slow 8"])
    recommended = by_item(served.run("recommend", asked))
    ids = list(recommended)
    ranked = served.run("rank", only("rank", asked | {"candidates": np.array([ids], object)}))["scores"][0]
    assert_allclose(ranked, list(recommended.values()), rtol=1e-4, atol=1e-4)
    default = by_item(served.run("serving_default", {name: asked[name] for name in ("history", "query", "k")}))
    assert_allclose([default[name] for name in ids], ranked, rtol=1e-4, atol=1e-4)


def test_an_explanation_names_the_words_that_the_item_has(served: SavedModel) -> None:
    asked = request([[]] * 2, query=["tall blue"] * 2)
    item = np.array([next(n for n, text in TEXTS.items() if "tall" in text and "blue" not in text)] * 2, object)
    inputs = {name: asked[name] for name in ("history", "history_action", "history_age_s", "query", "prior_items", "prior_log_p")}
    answer = served.run("explain", inputs | {"item": item})
    weight = dict(zip(answer["tokens"][0].tolist(), answer["token_weights"][0].tolist(), strict=True))
    assert answer["scores"][0] == pytest.approx(answer["scores"][1])
    assert sum(value for name, value in weight.items() if name in b"tall") > 0


@pytest.mark.parametrize("k", [1, 10, N_ITEMS])
def test_lists_find_what_words_find(k: int) -> None:
    assert LEXICON is not None
    rng = np.random.default_rng(3)
    items, vectors, log_p = catalogue(), rng.normal(size=(N_ITEMS, 6)).astype(np.float32), np.log(rng.dirichlet(np.ones(N_ITEMS)))
    exact = ExactIndex(items, vectors, log_p.astype(np.float32), max_k=N_ITEMS, lexicon=LEXICON)
    little = ProbeLimits(1, 0.0)
    lists = InvertedIndex(items, vectors, log_p.astype(np.float32), max_k=N_ITEMS, centroids=centroids(vectors, seed=0),
                          shallow=little, deep=little, lexicon=LEXICON)
    u, beta = tf.constant(rng.normal(size=(3, 6)), tf.float32), tf.ones([3])
    excluded = tf.constant([["i0"], ["i5"], [""]])
    # far apart, as words of different items are: what the words say decides, so that lists cannot miss it
    queries = tf.constant(["the red tall", "loud 21", ""])
    answers = []
    for index in (exact, lists):
        assert index.words is not None
        words = 100 * index.words(queries, index.size())
        filters = Filters.of(tf.constant(3), exclude=excluded, words=words)
        found = index.search(u, tf.fill([3], k), beta=beta, filters=filters)
        answers.append((found["items"].numpy()[:2].tolist(), found["scores"].numpy()[:2]))
    assert answers[0][0] == answers[1][0]
    assert_allclose(answers[0][1], answers[1][1], rtol=1e-4)

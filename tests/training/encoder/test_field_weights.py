"""Weights of text fields, where what decides is known."""
import numpy as np
import pytest

from tests.models.bert.tiny import PIECES
from tfrec.config import Config, load_config
from tfrec.data.examples.pairs import Pairs
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.training.encoder.field_weights import HIGHEST, LEAST, Question, fit, fit_field_weights

LETTERS = "abcdefgh"


def question(features: list[list[float]], right: list[bool]) -> Question:
    return Question(np.array(features, np.float32), np.array(right))


def test_a_field_that_decides_counts_and_one_that_says_nothing_does_not() -> None:
    rng = np.random.default_rng(0)
    questions = []
    for _ in range(200):
        noise, meaning, name = rng.random((3, 8))
        probability = np.exp(6 * name + 3 * meaning)
        right = np.zeros(8, bool)
        right[rng.choice(8, p=probability / probability.sum())] = True
        questions.append(Question(np.stack([meaning, name, noise], axis=1).astype(np.float32), right))
    name, noise = fit(questions)
    assert 1.3 < name < 3  # 6 / 3
    assert noise < 0.3


def test_a_cosine_that_says_nothing_leaves_weights_finite() -> None:
    weights = fit([question([[0, 1], [0, 0], [0, 0]], [True, False, False])] * 5)
    assert weights.tolist() == [HIGHEST]


def test_a_field_that_misleads_has_no_weight() -> None:
    weights = fit([question([[1, 0], [0, 1]], [True, False])] * 5)
    assert weights.tolist() == [0]


def test_several_right_answers_share_a_question() -> None:
    both = fit([question([[1, 1], [0, 1], [0, 0]], [True, True, False])] * 5)
    assert both[0] > 1  # what both answers have counts more than what one of them has


@pytest.fixture(scope="module")
def settled(tiny_checkpoint: str) -> Config:
    return load_config(None, [f"text.encoder={tiny_checkpoint}", "text.max_tokens=12", "model.dim=4"])


def pairs(catalogue: Catalogue, queries: int) -> Pairs:
    return Pairs.of([(f"{LETTERS[n % 8]} {LETTERS[n // 8 % 8]} {'the ' * (n // 64)}", f"i{n % 8}", 1.0) for n in range(queries)],
                    catalogue)


def test_what_queries_name_is_found(settled: Config) -> None:
    assert set(LETTERS) <= set(PIECES)
    # a query names the item's name first, and something that stands in the plot of another one
    items = Catalogue([Item(id=f"i{n}", text={"plot": LETTERS[(n + 1) % 8], "name": LETTERS[n]}) for n in range(8)])
    found = fit_field_weights(settled, items, pairs(items, 2 * LEAST))
    assert found.keys() == {"plot", "name"}
    assert found["name"] > found["plot"]


def test_too_few_queries_fit_nothing(settled: Config) -> None:
    items = Catalogue([Item(id=f"i{n}", text={"name": LETTERS[n]}) for n in range(8)])
    assert fit_field_weights(settled, items, pairs(items, LEAST - 1)) == {}


def test_a_catalogue_without_texts_has_nothing_to_fit(settled: Config) -> None:
    items = Catalogue([Item(id=f"i{n}") for n in range(8)])
    assert fit_field_weights(settled, items, pairs(items, 2 * LEAST)) == {}

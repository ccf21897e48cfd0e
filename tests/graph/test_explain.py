"""Weights of an explanation against the scores of requests that lack a part, and whether what weighs most moves a score most."""
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.graph.tiny_recommender import LENGTH, by_item, request
from tfrec.client.inputs import NO_SCORE
from tfrec.client.tensors import text_array
from tfrec.model_server.saved_model import SavedModel

ITEM = "i5"
HISTORY = ["i3", "nobody", "i9", "", "i4", "i30", "i31", "i32", "i33", "i34"]  # two of the eight known ones are too many
ACTIONS = ["buy", "view", "like", "", "", "view", "buy", "like", "", "fly"]
AGES = [900, 800, 700, -1, 60, 50, 40, -1, 20, 10]
WORDS = ["z", "a", "q"]  # the tiny encoder has a piece for every letter


def asked(history: Any = HISTORY, *, query: str = " ".join(WORDS), actions: Any = ACTIONS, ages: Any = AGES, **more: Any) -> Any:
    return request([list(history)], history_action=[list(actions)], history_age_s=np.array([ages], np.int64), query=[query],
                   **more)


def explain(served: SavedModel, inputs: dict[str, np.ndarray], items: list[str]) -> dict[str, np.ndarray]:
    names = ("history", "history_action", "history_age_s", "query", "prior_items", "prior_log_p")
    return served.run("explain", {name: inputs[name] for name in names} | {"item": text_array(items)})


def without(place: int) -> dict[str, list[Any]]:
    rest = [n for n in range(len(HISTORY)) if n != place]
    return {"history": [HISTORY[n] for n in rest], "actions": [ACTIONS[n] for n in rest], "ages": [AGES[n] for n in rest]}


def score(served: SavedModel, **change: Any) -> float:
    return by_item(served.run("recommend", asked(**change)))[ITEM]


def test_an_event_weighs_what_the_score_loses_without_it(served: SavedModel) -> None:
    found = explain(served, asked(), [ITEM])
    whole = score(served)
    assert found["scores"][0] == pytest.approx(whole, abs=1e-4)
    expected = [whole - score(served, **without(place)) for place in range(len(HISTORY))]
    assert_allclose(found["history_weights"][0], expected, atol=1e-4)
    read = np.flatnonzero(np.abs(expected) > 1e-3)
    assert_array_equal(read, [4, 5, 6, 7, 8, 9])
    assert len(read) == LENGTH


def test_a_word_piece_weighs_what_the_score_loses_without_it(served: SavedModel) -> None:
    found = explain(served, asked(), [ITEM])
    assert found["tokens"][0].tolist() == [word.encode() for word in WORDS]
    whole = score(served)
    rest = [" ".join(word for word in WORDS if word != left) for left in WORDS]
    assert_allclose(found["token_weights"][0], [whole - score(served, query=query) for query in rest], atol=1e-4)


def test_what_popularity_adds_is_that_of_the_request(served: SavedModel) -> None:
    plain = explain(served, asked(), [ITEM])
    moved = explain(served, asked(prior_items=[[ITEM]], prior_log_p=np.array([[-1.5]], np.float32)), [ITEM])
    assert moved["popularity"][0] == pytest.approx(0.3 * -1.5)  # a search weighs popularity by .3
    assert moved["scores"] - moved["popularity"] == pytest.approx(plain["scores"] - plain["popularity"], abs=1e-5)
    assert_allclose(moved["history_weights"], plain["history_weights"], atol=1e-5)


def test_of_nothing_and_of_an_unknown_item_nothing_is_said(served: SavedModel) -> None:
    bare = explain(served, request([[]]), [ITEM])
    assert (bare["history_weights"].shape, bare["tokens"].shape, bare["token_weights"].shape) == ((1, 0), (1, 0), (1, 0))
    assert bare["scores"] == pytest.approx(bare["popularity"])
    both = request([["i3", "i9"], ["", ""]], query=["z", " "])
    found = explain(served, both, ["nobody", ITEM])
    assert found["scores"][0] == NO_SCORE
    assert found["scores"][1] == pytest.approx(found["popularity"][1])
    assert found["tokens"].tolist() == [[b"z"], [b""]]
    for name in ("history_weights", "token_weights"):
        assert not found[name].any()
    assert found["popularity"][0] == 0


def test_what_is_named_first_matters_more_than_what_is_named_last(served: SavedModel) -> None:
    """Of half of the events at once: no weight was measured so, and what they share could have turned the order around."""
    rng = np.random.default_rng(0)
    drops = []
    for _ in range(40):
        history = [f"i{n}" for n in rng.choice(60, LENGTH, replace=False) if n != 7]
        full = request([history], query=[""])
        weights = explain(served, full, [ITEM])["history_weights"][0]
        order = np.argsort(-weights)
        whole = by_item(served.run("recommend", full))[ITEM]
        half = len(history) // 2
        drops.append([whole - by_item(served.run("recommend", request([[history[n] for n in sorted(rest)]])))[ITEM]
                      for rest in (order[half:], order[: len(history) - half])])
    first, last = np.mean(drops, axis=0)
    assert first > 0 > last
    assert np.mean([a > b for a, b in drops]) > 0.8

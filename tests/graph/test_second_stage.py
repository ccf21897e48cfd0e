"""The second stage in the served graph: what orders a shortlist, who may change that, and how likely a drawn slate was."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tests.graph import tiny_recommender as tiny
from tests.graph.tiny_recommender import N_ITEMS, by_item, request
from tfrec.client.slate_options import NO_HEAD, boost_inputs, head_inputs
from tfrec.config import RankerConfig
from tfrec.graph.signatures import Graph
from tfrec.models.text_encoder import load_encoder

HEADS = RankerConfig(heads={"view": 1.0, "buy": 4.0, "hide": -2.0}, after={"buy": "view"})
HISTORY = [["i3", "i9", "i3"], ["", "", ""], ["", "", "i55"]]

Run = Callable[[str, dict[str, np.ndarray]], dict[str, np.ndarray]]


def runner(graph: Graph) -> Run:
    def run(signature: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        return {name: out.numpy() for name, out in graph.functions[signature](
            {name: tf.constant(array) for name, array in tiny.only(signature, inputs).items()}).items()}

    return run


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: str) -> Graph:
    made = tiny.recommender(tmp_path_factory.mktemp("second") / "run", tiny_checkpoint, ranker=HEADS)
    return Graph(made, load_encoder(made.config.text))


@pytest.fixture(scope="module")
def run(graph: Graph) -> Run:
    return runner(graph)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: str) -> Run:
    """The same towers without a second stage."""
    made = tiny.recommender(tmp_path_factory.mktemp("first") / "run", tiny_checkpoint)
    return runner(Graph(made, load_encoder(made.config.text)))


def ranked(run: Run, inputs: dict[str, np.ndarray], items: list[list[str]]) -> dict[str, np.ndarray]:
    return run("rank", inputs | {"candidates": np.array(items, object)})


def test_a_score_is_the_logarithm_of_what_an_item_is_expected_to_bring(run: Run) -> None:
    every = [[f"i{n}" for n in range(N_ITEMS)]] * 3
    found = ranked(run, request(HISTORY), every)
    assert found["heads"].tolist() == [[b"view", b"buy", b"hide"]] * 3
    p = found["head_scores"]
    assert ((p > 0) & (p < 1)).all()
    assert (p[..., 1] < p[..., 0]).all()  # nobody buys what they did not view
    value = p @ [1.0, 4.0, -2.0]
    assert (value > 0).any()
    assert (value < 0).any()
    assert_allclose(found["scores"], np.log(np.maximum(value, 1e-4 * 5.0)), rtol=1e-4, atol=1e-4)
    assert len(np.unique(np.round(p[..., 0], 4))) > N_ITEMS  # it depends on who asks, and for what


def test_recommendations_come_in_the_order_of_the_scores_of_rank(run: Run) -> None:
    inputs = request(HISTORY, query=["", "red tall", ""])
    answer = run("recommend", inputs)
    again = ranked(run, inputs, answer["items"].astype(str).tolist())
    named = answer["items"] != b""
    assert named.sum() == 3 * (N_ITEMS - 1)
    assert_allclose(again["scores"][named], answer["scores"][named], rtol=1e-4, atol=1e-4)
    assert (np.diff(answer["scores"][0][named[0]]) <= 0).all()


def test_without_a_named_head_the_first_stage_answers(run: Run, first: Run) -> None:
    inputs = request(HISTORY, query=["", "red tall", ""])
    theirs = first("recommend", inputs)
    for weights in ([{}] * 3, [{NO_HEAD: 3.0}] * 3, [{"view": 0.0}] * 3):
        ours = run("recommend", inputs | head_inputs(weights, 3))
        assert_array_equal(ours["items"], theirs["items"])
        assert_allclose(ours["scores"], theirs["scores"], rtol=1e-5, atol=1e-5)
    assert (run("recommend", inputs)["items"] != theirs["items"]).any()


def test_a_request_weighs_heads_itself_and_leaves_other_rows_alone(run: Run) -> None:
    inputs = request(HISTORY)
    plain = run("recommend", inputs)
    mixed = run("recommend", inputs | head_inputs([None, {"hide": 1.0}, {}], 3))
    assert_array_equal(mixed["items"][0], plain["items"][0])
    every = ranked(run, inputs, mixed["items"].astype(str).tolist())
    hide = every["head_scores"][1, : N_ITEMS - 1, 2]
    assert (np.diff(hide) <= 1e-6).all()
    assert_allclose(mixed["scores"][1, : N_ITEMS - 1], np.log(hide), rtol=1e-4, atol=1e-4)


def test_a_row_is_answered_alone_as_in_a_batch(run: Run) -> None:
    inputs = request(HISTORY, query=["", "red tall", ""]) | head_inputs([None, {"view": 1.0}, {}], 3)
    whole = run("recommend", inputs)
    for row in range(3):
        one = run("recommend", {name: array[row : row + 1] for name, array in inputs.items()})
        assert_array_equal(one["items"][0], whole["items"][row])


def test_an_unknown_item_has_no_score_and_no_probability(run: Run) -> None:
    found = ranked(run, request([["i3"]]), [["i5", "nowhere", ""]])
    assert found["scores"][0, 0] > -20
    assert (found["scores"][0, 1:] < -1e30).all()
    assert (found["head_scores"][0, 1:] == 0).all()


def test_a_drawn_slate_knows_how_likely_it_was_on_the_ranked_shortlist(run: Run, graph: Graph) -> None:
    inputs = request(HISTORY, k=np.full(3, 4, np.int32)) | {
        "temperature": np.full(3, 0.7, np.float32), "epsilon": np.zeros(3, np.float32), "seed": np.arange(3)}
    every = run("recommend", inputs | {"k": np.full(3, N_ITEMS, np.int32)})
    drawn = run("explore", inputs)
    for row in range(3):
        scores = {item: score / 0.7 for item, score in by_item(every, row).items()}
        for position, item in enumerate(drawn["items"][row].tolist()):
            left = np.logaddexp.reduce(list(scores.values()))
            assert drawn["log_propensities"][row, position] == pytest.approx(scores.pop(item.decode()) - left, abs=1e-3)
    known = inputs | {"slate": drawn["items"]}
    judged = graph.log_propensities({name: tf.constant(known[name]) for name in graph.log_propensities.input_signature[0]})
    assert_allclose(judged.numpy(), drawn["log_propensities"], atol=1e-4)


def test_a_boost_is_added_to_what_the_second_stage_says(run: Run) -> None:
    plain = request(HISTORY)
    boosted = plain | boost_inputs([[("tag", "tens", 1.5, None, None)], [], [("item", "i4", -0.5, None, None)]], 3)
    before, after = run("recommend", plain), run("recommend", boosted)
    for row, (names, value) in enumerate([({f"i{n}" for n in range(0, N_ITEMS, 10)}, 1.5), (set(), 0.0), ({"i4"}, -0.5)]):
        moved, still = by_item(after, row), by_item(before, row)
        assert moved == pytest.approx({name: score + value * (name in names) for name, score in still.items()}, abs=1e-4)
        assert list(moved.values()) == sorted(moved.values(), reverse=True)


def test_without_chance_exploring_is_recommending(run: Run) -> None:
    inputs = request(HISTORY, k=np.full(3, 5, np.int32)) | {
        "temperature": np.zeros(3, np.float32), "epsilon": np.zeros(3, np.float32), "seed": np.arange(3)}
    drawn, best = run("explore", inputs), run("recommend", inputs)
    assert_array_equal(drawn["items"], best["items"])
    assert_allclose(drawn["scores"], best["scores"], rtol=1e-4, atol=1e-4)


def test_filters_caps_and_diversity_hold_for_a_ranked_slate(run: Run) -> None:
    best = run("recommend", request([["i3"]] * 2))
    asked = request([["i3"]] * 2, deny_tags=[["tens"]] * 2, exclude=[["i4"]] * 2, k=np.array([6, 0], np.int32)) | {
        "cap_prefixes": np.array([["even"]] * 2, object), "caps": np.array([[1]] * 2, np.int32)}
    found = [name for name in run("recommend", asked)["items"][0].tolist() if name]
    even = [name for name in found if int(name[1:]) % 2 == 0]
    assert len(found) == 6
    assert len(even) <= 1
    assert b"i4" not in found
    capped = [name for name in best["items"][0].tolist() if name and name != b"i4" and int(name[1:]) % 10]
    odd = [name for name in capped if int(name[1:]) % 2]
    assert [name for name in found if name not in even] == odd[: 6 - len(even)]
    assert not [name for name in run("recommend", asked)["items"][1].tolist() if name]


def test_it_ranks_only_once_it_has_learnt_enough(tmp_path: Path, tiny_checkpoint: str, first: Run) -> None:
    made = tiny.recommender(tmp_path / "run", tiny_checkpoint, ranker=HEADS)
    assert made.ranker is not None
    made.ranker.learnt.assign(HEADS.min_slates - 1)
    run, inputs = runner(Graph(made, load_encoder(made.config.text))), request(HISTORY)
    assert_array_equal(run("recommend", inputs)["items"], first("recommend", inputs)["items"])
    made.ranker.learnt.assign(HEADS.min_slates)  # a variable of the graph
    assert (run("recommend", inputs)["items"] != first("recommend", inputs)["items"]).any()

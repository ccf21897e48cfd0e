"""The second stage as a function: what it scores, what it reads of a history, and what it does not read."""
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tfrec.models.dropout import Noise
from tfrec.models.ranking.ranker import LEAST, Behaviour, Ranker, RankerInputs

DIM, L, N = 4, 5, 3
CHAINS = [[0], [1, 0], [2]]  # click; purchase after click; hide


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    made = Ranker(dim=DIM, feature_width=3, context_rows=[24, 16], chains=CHAINS)
    rng = np.random.default_rng(0)
    for weight in made.trainable_weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    made.learnt.assign(1.0)
    return made


def pairs(ranker: Ranker, rows: int = 2, **changed: Any) -> RankerInputs:
    rng = np.random.default_rng(1)
    given: dict[str, Any] = {
        "u": rng.normal(size=(rows, DIM)), "context": np.full((rows, 2), np.nan), "item": np.arange(N)[None].repeat(rows, 0),
        "v": rng.normal(size=(rows, N, DIM)), "log_p": rng.normal(-8, 1, (rows, N)), "words": np.zeros((rows, N)),
        "columns": rng.normal(size=(rows, N, ranker.columns)), "history": np.full((rows, L), -1), "gap": np.full((rows, L), -1)}
    given |= changed
    floats = {name: tf.constant(given[name], tf.float32) for name in ("u", "context", "v", "log_p", "words", "columns")}
    return RankerInputs(behaviour=Behaviour(tf.constant(given["history"], tf.int32), tf.constant(given["gap"], tf.int64)),
                 item=tf.constant(given["item"], tf.int32), **floats)


def test_a_head_that_follows_another_is_a_probability_of_both(ranker: Ranker) -> None:
    found = np.exp(ranker.log_probabilities(tf.constant([[[0.0, np.log(3.0), -1.0]]])).numpy()[0, 0])
    assert_allclose(found, [0.5, 0.5 * 0.75, 1 / (1 + np.e)], rtol=1e-6)


def test_a_score_is_the_logarithm_of_the_expected_value_and_never_less_than_its_floor(ranker: Ranker) -> None:
    given = pairs(ranker)
    p = np.exp(ranker.log_probabilities(ranker(given)).numpy())
    weights = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, -1.0]], np.float32)
    found = ranker.score(given, tf.constant(weights), tf.fill([2, N], 7.0)).numpy()
    assert_allclose(found[0], np.log(np.maximum(p[0] @ weights[0], LEAST * 3)), rtol=1e-5)
    assert_allclose(found[1], np.full(N, np.log(1e-12)), rtol=1e-5)  # only harm can come of these: all are alike
    harm = ranker.score(given, tf.constant([[0.001, 0.0, -1.0]] * 2), tf.zeros([2, N])).numpy()
    assert_allclose(harm, np.full((2, N), np.log(LEAST * 0.001)), rtol=1e-5)


def test_a_row_without_a_weight_keeps_its_first_scores_and_so_do_all_before_it_has_learnt(ranker: Ranker) -> None:
    given, first = pairs(ranker), tf.constant([[3.0, 1.0, 2.0]] * 2)
    found = ranker.score(given, tf.constant([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), first).numpy()
    assert_array_equal(found[0], [3, 1, 2])
    assert (found[1] < 0).all()
    ranker.learnt.assign(0.0)
    assert_array_equal(ranker.score(given, tf.ones([2, 3]), first).numpy(), first.numpy())
    ranker.learnt.assign(1.0)


def test_it_starts_at_the_rates_of_the_actions() -> None:
    made = Ranker(dim=DIM, feature_width=3, context_rows=[], chains=CHAINS)
    made.start_from(np.array([0.3, 0.1, 0.0]))
    p = np.exp(made.log_probabilities(made(pairs(made, context=np.zeros((2, 0))))).numpy())
    assert_allclose(p[..., 0], np.full((2, N), 0.3), rtol=1e-4)
    assert_allclose(p[..., 1], np.full((2, N), 0.03), rtol=1e-4)
    assert_allclose(p[..., 2], np.full((2, N), 1e-4), rtol=1e-3)


def test_it_sees_whether_and_when_an_item_was_met(ranker: Ranker) -> None:
    def logits(history: list[int], gap: list[int]) -> np.ndarray:
        return ranker(pairs(ranker, 1, history=[history], gap=[gap])).numpy()[0]

    never, met = logits([7, -1, -1, -1, -1], [60, -1, -1, -1, -1]), logits([1, -1, -1, -1, -1], [60, -1, -1, -1, -1])
    assert_allclose(never[[0, 2]], met[[0, 2]], atol=1e-6)
    assert np.abs(never[1] - met[1]).max() > 1e-3
    long_ago = logits([1, -1, -1, -1, -1], [10**7, -1, -1, -1, -1])
    assert np.abs(long_ago[1] - met[1]).max() > 1e-3
    # met twice: the last time counts, and an unknown age is not a recent one
    again, once = logits([1, 7, 1, -1, -1], [500, 500, 60, -1, -1]), logits([7, 7, 1, -1, -1], [500, 500, 60, -1, -1])
    assert_allclose(again, once, atol=1e-6)
    unknown = logits([1, 7, -1, -1, -1], [60, -1, -1, -1, -1])
    assert np.isfinite(unknown).all()
    assert_allclose(unknown, logits([1, 7, -1, -1, -1], [10**6, -1, -1, -1, -1]), atol=1e-6)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(-1, 6), st.integers(-1, 10**9)), min_size=L, max_size=L), st.integers(1, 4))
def test_any_history_gives_numbers_and_a_row_reads_no_other(ranker: Ranker, events: list[tuple[int, int]], rows: int) -> None:
    history, gap = [item for item, _ in events], [seconds for _, seconds in events]
    whole = pairs(ranker, rows, history=[history] * rows, gap=[gap] * rows)
    found = ranker(whole).numpy()
    assert np.isfinite(found).all()
    one = RankerInputs(*(Behaviour(*(x[-1:] for x in part)) if isinstance(part, Behaviour) else part[-1:] for part in whole))
    assert_allclose(ranker(one).numpy()[0], found[-1], rtol=1e-4, atol=1e-5)


def test_person_and_moment_count_and_nothing_known_is_no_news(ranker: Ranker) -> None:
    unknown, known = (ranker(pairs(ranker, context=value)).numpy() for value in (np.full((2, 2), np.nan), [[3.0, 5.5]] * 2))
    assert np.abs(unknown - known).max() > 1e-3
    assert np.isfinite(known).all()


def test_noise_is_a_function_of_its_seed(ranker: Ranker) -> None:
    given = pairs(ranker, context=[[3.0, 5.0]] * 2)
    one, same, other = (ranker(given, Noise(tf.constant([1, seed]))).numpy() for seed in (1, 1, 2))
    assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0

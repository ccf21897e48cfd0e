"""Features of person and moment: what each value becomes, and what it may do to a query vector."""
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

from tests.models.world import batch, catalogue, config, interactions, text_vectors
from tfrec.client.inputs import context_inputs
from tfrec.config import Config, FeaturesConfig
from tfrec.data.behaviour.interactions import Interactions
from tfrec.models.context.context_tower import STEP, ContextTower
from tfrec.models.context.request_features import KNOTS, RequestFeatures, warn_of_features
from tfrec.models.dropout import Noise
from tfrec.models.recommender import Recommender
from tfrec.training.loop import Trainer, optimiser

NAN = np.nan
DECLARED = FeaturesConfig(time=("hour", "weekday"), context={"device": "category", "basket": "number"}, user={"age": "number"},
                          defaults={"device": "web"}, buckets=50)
AGES = [{"age": str(age)} for age in range(20, 61)]


def column(found: np.ndarray, name: str) -> np.ndarray:
    return found[:, DECLARED.names.index(name)]


@pytest.mark.parametrize(("time", "offset", "hour", "weekday"), [
    (0, 0, 0, 3),  # a Thursday
    (3 * 86_400 + 23 * 3600 + 3599, 0, 23, 6),
    (3 * 86_400 + 23 * 3600, 1, 0, 0),
    (0, -5.5, 18, 2),
    (-1, 0, NAN, NAN),
])
def test_hour_and_weekday_are_of_the_requests_time(time: int, offset: float, hour: float, weekday: float) -> None:
    found = RequestFeatures(FeaturesConfig(time=("weekday", "hour"), utc_offset_hours=offset)).of([{}], [time])
    assert_array_equal(found, [[weekday, hour]])


def test_a_category_is_its_hash_and_a_default_stands_in_for_nothing() -> None:
    rows = [{"device": "web"}, {"device": "tv"}, {"device": "tv"}, {}, {"device": ""}, {"other": "tv"}]
    found = column(RequestFeatures(DECLARED).of(rows), "device")
    assert found[1] == found[2] != found[0]
    assert_array_equal(found[3:], [found[0]] * 3)
    assert ((found >= 0) & (found < 50)).all()


def test_a_number_lies_between_quantiles_of_those_that_were_met() -> None:
    made = RequestFeatures(DECLARED).met(AGES)
    assert len(made.knots["age"]) == KNOTS
    rows = [{"age": text} for text in ("20", "60", "40", " 4e1 ", "-1e30", "+1e30", "", "old")] + [{}]
    found = column(made.of(rows), "age")
    assert_allclose(found, [0, 15, 7.5, 7.5, 0, 15, NAN, NAN, NAN], atol=1e-4)
    between = column(made.of(AGES), "age")
    assert (np.diff(between) > 0).all()


def test_quantiles_are_taken_once_and_of_enough_numbers() -> None:
    few = RequestFeatures(DECLARED).met(AGES[:5])
    assert not few.knots
    assert np.isnan(column(few.of(AGES), "age")).all()
    first = few.met(AGES)
    assert first.met([{"age": "1000"}] * 50).knots == first.knots
    same = RequestFeatures(DECLARED).met([{"basket": "3"}] * 30)
    assert_array_equal(column(same.of([{"basket": "2"}, {"basket": "9"}]), "basket"), [0, 0])


def positions(rows: list[list[str]], values: list[list[str]], *, made: RequestFeatures | None = None) -> np.ndarray:
    names, texts = (tf.constant(part, tf.string, [len(part), len(part[0]) if part else 0]) for part in (rows, values))
    found: np.ndarray = (made or RequestFeatures(DECLARED).met(AGES)).positions(
        tf.fill([len(rows)], tf.constant(-1, tf.int64)), names, texts).numpy()
    return found


def test_of_a_name_that_is_there_twice_the_last_value_counts() -> None:
    found = positions([["age", "x", "age"], ["", "age", ""]], [["20", "y", "60"], ["", "60", ""]])
    assert_allclose(column(found, "age"), [15, 15], atol=1e-4)


def test_no_rows_and_no_columns_are_nothing() -> None:
    assert positions([], []).shape == (0, 5)
    assert np.isnan(column(positions([[], []], [[], []]), "age")).all()
    assert RequestFeatures(FeaturesConfig()).of([{"age": "3"}], [5]).shape == (1, 0)


def test_the_graph_gives_what_training_gives() -> None:
    """The skew test of the function alone; tests/gateway/test_features.py has that of a request and its log."""
    rng, made = np.random.default_rng(3), RequestFeatures(DECLARED).met(AGES)
    words = ["", "tv", "web", "Ünïcode 電話", " ", "a" * 512]
    rows = [{"device": words[rng.integers(6)], "age": ("", "33", "1e2", "-4.5")[rng.integers(4)]} for _ in range(64)]
    rows = [{name: value for name, value in row.items() if rng.random() < 0.7} | {"zip": "9"} for row in rows]
    time = rng.integers(-1, 2_000_000_000, 64)
    inputs = context_inputs(64, time=time.tolist(), context=rows)
    graph = tf.function(made.positions, autograph=False)
    found = graph(*(tf.constant(inputs[name]) for name in ("time", "context_name", "context_value")))
    assert_array_equal(found, made.of(rows, time))


@pytest.mark.parametrize("wrong", ["old", "1,5", "0x10", "nan", "inf", "1_000", "--1", "٣"])
def test_the_graph_refuses_a_number_that_is_none_by_name(wrong: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="the feature basket must be a number"):
        positions([["basket"]], [[wrong]])
    assert np.isnan(column(RequestFeatures(DECLARED).of([{"basket": wrong}]), "basket")).all()


def test_what_is_declared_and_not_sent_or_of_a_wrong_kind_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    warn_of_features(DECLARED, [{"device": "tv", "age": "old", "shoe": "42"}, {}], where="here")
    text = "\n".join(caplog.messages)
    assert "here: features are known in device 50%, basket 0%, age 50%" in text
    assert "none of 2 rows has 'basket'" in text
    assert "'age' is declared as a number, and in 1 of 1 rows it is none" in text
    assert "'shoe' is not declared in [features]" in text


def tower(**more: Any) -> ContextTower:
    made = ContextTower(dim=3, rows=[4, 2], rate=more.pop("rate", 0.5))
    made.table.assign(np.arange(18, dtype=np.float32).reshape(6, 3) / STEP)
    return made


def test_what_is_not_known_adds_nothing_and_a_place_between_two_rows_has_a_share_of_both() -> None:
    made = tower()
    made.mean.assign([[1, 1, 1], [2, 2, 2]])
    found = made(tf.constant([[NAN, NAN], [1.25, NAN], [NAN, 1.0], [99.0, -5.0]])).numpy()
    assert_allclose(found, [[0, 0, 0], [2.75, 3.75, 4.75], [13, 14, 15], [9 + 12 - 3, 10 + 13 - 3, 11 + 14 - 3]], rtol=1e-5)


def test_training_hides_features_of_a_window_alike_and_sometimes_all() -> None:
    made = tower(rate=0.5)
    at = tf.zeros([400, 3, 2])
    hidden = np.isnan(made.hidden(at, Noise(tf.constant([1, 2]))).numpy())
    assert (hidden == hidden[:, :1]).all()
    assert_allclose([hidden.mean(), hidden.all((1, 2)).mean()], [0.75, 0.625], atol=0.08)
    assert made.hidden(at, None) is at


def learner(run: Path, **features: Any) -> Recommender:
    settings = config(run, training={"learning_rate": 0.02})
    settings = Config(**dict(settings) | {"features": FeaturesConfig(**features)})
    return Recommender.build(settings, catalogue(), text_vectors(), actions=("view", "buy"))


def test_a_model_whose_features_have_not_learnt_is_the_model_without(tmp_path: Path) -> None:
    with_features, without = learner(tmp_path, time=["hour"], dropout=0), learner(tmp_path)
    inter = interactions(catalogue())
    asked = batch(without, inter)
    at = np.zeros((*asked["item"].shape, 1), np.float32)
    batch(with_features, inter)
    for training in (False, True):
        losses = [made.model.compute_loss({name: tf.constant(array) for name, array in (asked | {"context": at}).items()},
                                          training=training).numpy() for made in (with_features, without)]
        assert_allclose(*losses, rtol=1e-6)
    assert without.model.context is None
    assert len(with_features.model.trainable_variables) == len(without.model.trainable_variables) + 1


def of_the_hour(users: int = 40) -> Interactions:
    """Everybody takes an item of the first cluster in the morning and of the second in the evening."""
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{4 * int(rng.integers(10)) + (hour == 20)}", day * 86_400 + hour * 3600)
            for u in range(users) for day in range(6) for hour in (8, 20)]
    user, item, time = zip(*rows, strict=True)
    return Interactions.from_columns(user, item, time, items=catalogue().ids.tolist())


def test_what_depends_on_the_moment_is_learnt_and_asks_for_no_moment(tmp_path: Path) -> None:
    made, inter = learner(tmp_path, time=["hour"], dropout=0.3), of_the_hour()
    trainer = Trainer(made, inter, np.ones(len(inter), bool), prior_weights=made.prior.weights)
    trainer.run(optimiser(made.config, learning_rate=0.05), epochs=range(8))
    scores = made.model.scale_context(made.requests.of([{}] * 3, [8 * 3600, 20 * 3600, -1])).numpy() @ made.item_vectors().T
    of_cluster = np.stack([scores[:, number::4].mean(1) for number in (0, 1)], axis=1)
    assert of_cluster[0, 0] > of_cluster[0, 1] + 1
    assert of_cluster[1, 1] > of_cluster[1, 0] + 1
    assert_array_equal(scores[2], np.zeros(40))
    means = made.model.context.mean.numpy()
    assert np.isfinite(means).all()
    assert np.abs(means).max() > 0


def test_what_is_known_of_a_user_is_read_at_each_event(tmp_path: Path) -> None:
    made = learner(tmp_path, time=["weekday"], user={"age": "number", "kind": "category"})
    made.requests = made.requests.met(AGES)
    made.users = {"u1": {"age": "40", "kind": "a"}, "u2": {"kind": "b"}}
    inter = Interactions.from_columns(["u0", "u1", "u2"], ["i1", "i2", "i3"], [0, 86_400, 2 * 86_400],
                                      items=catalogue().ids.tolist())
    found = made.event_context(inter)
    expected = made.requests.of([{}, made.users["u1"], made.users["u2"]], inter.time)
    assert_array_equal(found, expected)
    assert_allclose(found[:, :2], [[3, NAN], [4, 7.5], [5, NAN]], atol=1e-4)

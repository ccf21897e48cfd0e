"""Rewards by hand: the rows of the rule, when a label is final, and the gains of events."""
from datetime import UTC, datetime

import numpy as np
import pytest

from tfrec.config import Rating, RewardConfig, WeightChange
from tfrec.data.labels.rewards import FOREVER, ceiling, gains, item_lengths, length_table, lengths_of, reward_table
from tfrec.data.records import Item
from tfrec.errors import DataError

SHOP = RewardConfig(weights={"click": 1.0, "purchase": 5.0}, cap=8.0)
WATCH = RewardConfig(weights={"watch": 0.1, "dislike": -1.0}, valued=("watch",), cap=6.0)
STARS = RewardConfig(weights={"rating": 2.0}, rated={"rating": Rating(neutral=3.0, scale=2.0)})
FILM = RewardConfig(weights={"watch": 2.0}, completed={"watch": 100.0}, lengths={"watch": "minutes"})


def since(time: int, **weights: float) -> WeightChange:
    return WeightChange(since=datetime.fromtimestamp(time, UTC), weights=weights)


def test_the_relations_of_the_join():
    plain = {"since": 0, "until": FOREVER, "full": None, "neutral": 0.0, "scale": 1.0, "half_life": None, "converts": False}
    assert reward_table(WATCH).to_pylist() == [
        {**plain, "action": "watch", "weight": 0.1, "reads": "value"},
        {**plain, "action": "dislike", "weight": -1.0, "reads": "nothing"},
    ]
    sale = SHOP.model_copy(update={"changes": (since(50, purchase=6.0), since(90, gift=1.0)), "half_life_hours": {"click": 0.5}})
    table = reward_table(sale).select(["action", "since", "until", "weight", "half_life", "converts"])
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("click", 0, FOREVER, 1.0, 1800.0, False),
        ("purchase", 0, 50, 5.0, None, True),
        ("purchase", 50, FOREVER, 6.0, None, True),
        ("gift", 0, 90, 0.0, None, False),
        ("gift", 90, FOREVER, 1.0, None, False),
    ]
    assert reward_table(RewardConfig(weights={})).schema == reward_table(SHOP).schema
    assert length_table({"watch": {"a": 2.0}}).to_pylist() == [{"action": "watch", "item": "a", "length": 2.0}]
    assert length_table({}).num_rows == 0


def test_a_label_is_final_when_nothing_better_can_follow():
    assert ceiling(SHOP) == 5.0
    assert ceiling(SHOP.model_copy(update={"cap": 2.0})) == 2.0
    assert ceiling(SHOP.model_copy(update={"changes": (since(50, purchase=6.0),)})) == 6.0
    assert ceiling(WATCH.model_copy(update={"weights": {"watch": 0.1}})) == 6.0
    assert ceiling(RewardConfig(weights={"click": 1.0}, valued=("other",))) == 1.0
    assert ceiling(RewardConfig(weights={})) == 10.0
    assert ceiling(FILM) == 10.0


def test_no_label_is_final_early_that_can_fall():
    assert ceiling(WATCH) == ceiling(STARS) == np.inf
    assert ceiling(SHOP.model_copy(update={"changes": (since(50, click=-1.0),)})) == np.inf


def test_gains_of_events():
    actions = ("watch", "dislike", "scroll")
    got = gains(WATCH, actions=actions, action=np.array([0, 0, 1, 2, 0], np.int16), value=[30, 999, 4, 4, -999], time=[0] * 5)
    np.testing.assert_allclose(got, [3.0, 6.0, -1.0, 0.0, -6.0], rtol=1e-6)


def test_gains_of_ratings_and_of_what_was_finished():
    one = np.zeros(5, np.int16)
    got = gains(STARS, actions=["rating"], action=one, value=[1, 2, 3, 4, 5], time=[0] * 5)
    np.testing.assert_allclose(got, [-2.0, -1.0, 0.0, 1.0, 2.0])
    length = lengths_of({"watch": {"a": 50.0}}, ["watch"], one, ["a", "b"], np.array([0, 0, 1, 1, 1]))
    got = gains(FILM, actions=["watch"], action=one, value=[25, 60, 25, 300, -4], time=[0] * 5, length=length)
    np.testing.assert_allclose(got, [1.0, 2.0, 0.5, 2.0, 0.0])
    unknown = FILM.model_copy(update={"completed": {}})
    assert gains(unknown, actions=["watch"], action=one[:1], value=[25], time=[0]).tolist() == [0.0]


def test_gains_by_delay_and_date():
    rule = SHOP.model_copy(update={"half_life_hours": {"click": 1.0}, "changes": (since(50, purchase=2.0),)})
    got = gains(rule, actions=["click", "purchase"], action=np.array([0, 0, 1, 1]), value=[1] * 4, time=[9, 9, 49, 50],
                delay=[3600, 7200, 9, 9])  # fmt: skip
    np.testing.assert_allclose(got, [0.5, 0.25, 5.0, 2.0])


def test_lengths_come_from_the_catalogue():
    items = [Item(id="a", numeric={"minutes": 50.0}), Item(id="b"), Item(id="c", numeric={"minutes": 0.0})]
    assert item_lengths(FILM, items) == {"watch": {"a": 50.0}}
    assert item_lengths(SHOP, items) == {}
    with pytest.raises(DataError, match="reward.lengths.watch: expected 'minutes' to be a column of numbers above 0"):
        item_lengths(FILM, items[1:])

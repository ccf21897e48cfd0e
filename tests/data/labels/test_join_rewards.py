"""What an example earns: caps, values, completion, ratings, delays and weights that change."""
from datetime import UTC, datetime

import numpy as np
import pytest

from tests.data.labels.world import ITEMS, SHOP, brief
from tfrec.config import Rating, RewardConfig, WeightChange
from tfrec.data.labels.rewards import gains, lengths_of
from tfrec.errors import UsageError


def changes(*steps):
    return tuple(WeightChange(since=datetime.fromtimestamp(since, UTC), weights=weights) for since, weights in steps)


def test_the_reward_has_a_cap_and_values_may_count(world):
    watch = RewardConfig(weights={"watch": 0.1}, valued=("watch",), cap=6.0)
    world.show("r1", 1000, "a", "b")
    for event, time, item, value in [
        ("e1", 1001, "a", 30), ("e2", 1002, "a", 20),  # repeats add up: 3 + 2
        ("e3", 1003, "b", 500),  # capped
    ]:  # fmt: skip
        world.act(event, time, item, "watch", request="r1", value=value)
    first = world.window(None, now=1050)
    assert brief(world.join(first, reward=watch)) == [("slate:r1/b", 1003, "watch", 6.0)]
    got = brief(world.join(world.window(first, now=1101), reward=watch))
    assert got == [("slate:r1/a", 1001, "watch", 5.0)]


def test_a_label_that_can_still_fall_is_not_final(world):
    moody = RewardConfig(weights={"click": 1.0, "purchase": 5.0, "dislike": -3.0}, cap=4.0)
    world.show("r1", 1000, "a", "b", "c", "d")
    world.act("e1", 1001, "a", "purchase", request="r1")
    world.act("e2", 1002, "b", "click", request="r1")
    world.act("e3", 1003, "c", "dislike", request="r1")
    world.act("e4", 1004, "d", "purchase", request="r1")
    first = world.window(None, now=1050)
    got = world.join(first, reward=moody)
    assert (len(got), got.immature) == (0, 4)
    world.act("e5", 1060, "b", "dislike", request="r1")
    world.act("e6", 1061, "d", "dislike", request="r1")
    world.act("e7", 1062, "c", "dislike", request="r2")  # that request is not known
    world.act("e8", 1063, "c", "dislike", user="v")  # nobody showed it to v
    got = world.join(world.window(first, now=1101), reward=moody)
    assert brief(got) == [
        ("slate:r1/a", 1001, "purchase", 4.0),
        ("slate:r1/c", 1003, "dislike", -3.0),
        ("slate:r1/d", 1004, "purchase", 2.0),
        ("slate:r1/b", 1060, "dislike", -2.0),
        ("organic:v/e8", 1063, "dislike", -3.0),
    ]
    assert got.table["converted"].to_pylist() == [True, False, True, False, False]


def test_a_dismissal_has_a_cap_as_well_and_what_cancels_out_keeps_its_act(world):
    moody = RewardConfig(weights={"click": 2.0, "skip": -2.0, "report": -50.0}, cap=6.0)
    world.show("r1", 1000, "a", "b")
    world.act("e1", 1001, "a", "report", request="r1")
    world.act("e2", 1002, "b", "skip", request="r1")
    world.act("e3", 1003, "b", "click", request="r1")
    world.act("e4", 1200, "c", "report", user="v")
    got = brief(world.join(world.window(None, now=1300), reward=moody))
    assert got == [
        ("slate:r1/a", 1001, "report", -6.0), ("slate:r1/b", 1003, "click", 0.0), ("organic:v/e4", 1200, "report", -6.0),
    ]  # fmt: skip


def test_completion_and_ratings(world):
    film = RewardConfig(
        weights={"watch": 2.0, "read": 1.0, "rating": 1.0}, completed={"watch": 200.0}, lengths={"watch": "minutes"},
        rated={"rating": Rating(neutral=3.0, scale=2.0)},
    )  # fmt: skip
    world.show("r1", 1000, "a", "b", "c")
    world.act("e1", 1001, "a", "watch", request="r1", value=25)  # of 50: half
    world.act("e2", 1002, "a", "watch", request="r1", value=90)  # of 50: whole
    world.act("e3", 1003, "b", "watch", request="r1", value=50)  # of 200: a quarter
    world.act("e4", 1004, "b", "watch", request="r1", value=-1)  # nothing
    world.act("e5", 1005, "b", "rating", request="r1", value=1)  # -1
    world.act("e6", 1006, "c", "rating", request="r1", value=4)  # 0.5
    world.act("e7", 1007, "c", "rating", request="r1", value=3)  # a repeat
    window = world.window(None, now=1101)
    got = world.join(window, reward=film, lengths={"watch": {"a": 50.0}})
    assert brief(got) == [
        ("slate:r1/a", 1002, "watch", 3.0), ("slate:r1/b", 1005, "rating", -0.5), ("slate:r1/c", 1006, "rating", 0.5),
    ]  # fmt: skip
    assert (got.noise, got.unrewarded) == (1, 1)
    with pytest.raises(UsageError, match="reward.lengths names a column of the catalogue for 'watch'"):
        world.join(window, reward=film)
    unknown = film.model_copy(update={"completed": {}})
    got = world.join(window, reward=unknown, lengths={"watch": {"a": 50.0}})
    assert (brief(got)[1], got.unrewarded) == (("slate:r1/b", 1005, "rating", -1.0), 2)


def test_late_acts_say_less(world):
    hasty = SHOP.model_copy(update={"half_life_hours": {"click": 20 / 3600, "purchase": 40 / 3600}})
    world.show("r1", 1000, "a", "b")
    world.act("e1", 1000, "a", "click", request="r1")
    world.act("e2", 1040, "b", "click", request="r1")  # 1 / 4
    world.act("e3", 1080, "b", "purchase")  # 5 / 4
    world.act("e4", 1090, "c", "purchase", user="v")  # nobody waited for it
    assert brief(world.join(world.window(None, now=1101), reward=hasty)) == [
        ("slate:r1/a", 1000, "click", 1.0), ("slate:r1/b", 1080, "purchase", 1.5), ("organic:v/e4", 1090, "purchase", 5.0),
    ]  # fmt: skip


def test_weights_change_by_the_time_of_the_act(world):
    sale = SHOP.model_copy(update={"changes": changes((1050, {"purchase": 2.0, "share": 3.0}), (1080, {"share": 0.0}))})
    world.show("r1", 1000, "a", "b", "c")
    world.act("e1", 1049, "a", "purchase", request="r1")
    world.act("e2", 1050, "b", "purchase", request="r1")
    world.act("e3", 1051, "c", "click", request="r1")
    world.act("e4", 1079, "c", "share", request="r1")
    world.act("e5", 1080, "b", "share", request="r1")
    got = world.join(world.window(None, now=1101), reward=sale)
    assert brief(got) == [
        ("slate:r1/a", 1049, "purchase", 5.0), ("slate:r1/b", 1050, "purchase", 2.0), ("slate:r1/c", 1079, "share", 4.0),
    ]  # fmt: skip
    assert got.unrewarded == 1


def test_the_statement_and_the_numbers_are_one_rule(world):
    rng = np.random.default_rng(7)
    rule = RewardConfig(
        weights={"click": 1.5, "watch": 2.0, "rating": 1.0, "purchase": 0.01, "dislike": -4.0}, valued=("purchase",),
        completed={"watch": 80.0}, lengths={"watch": "minutes"}, rated={"rating": Rating(neutral=2.5, scale=1.5)},
        changes=changes((500_000, {"click": -0.5, "rating": 3.0}), (800_000, {"watch": 0.25})),
        half_life_hours={"click": 0.005}, cap=3.0,
    )  # fmt: skip
    known = {"watch": {"a": 120.0, "c": 30.0}}
    actions, items = (*rule.weights, "scroll"), ITEMS
    acts = []
    for k in range(400):
        action, item, delay = rng.integers(len(actions)), rng.integers(len(items)), int(rng.integers(0, 101))
        acts.append((action, item, 2_500 * k, delay, float(rng.choice([-20.0, 0.0, 1.0, 2.5, 4.0, 50.0, 900.0])), k % 2))
        request = None
        if k % 2:
            request = f"r{k}"
            world.show(request, 2_500 * k, items[item], user=f"u{k}")
        world.act(f"e{k}", 2_500 * k + delay, items[item], actions[action], user=f"u{k}", request=request, value=acts[-1][4])
    got = world.join(world.window(None, now=2_000_000), reward=rule, lengths=known)
    action, item, shown, delay, value, is_shown = (np.array(column) for column in zip(*acts, strict=True))
    expected = gains(
        rule, actions=actions, action=action, value=value, time=shown + delay, delay=delay * is_shown,
        length=lengths_of(known, actions, action, items, item),
    )  # fmt: skip
    found = {e["example_id"]: e["reward"] for e in got.table.to_pylist()}
    for k, gain in enumerate(expected):
        name = f"slate:r{k}/{items[item[k]]}" if k % 2 else f"organic:u{k}/e{k}"
        assert found.get(name, 0.0) == pytest.approx(float(gain), rel=1e-6), name
    assert len({round(float(gain), 3) for gain in expected}) > 40

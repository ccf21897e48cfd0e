import numpy as np

from tfrec.config import RewardConfig
from tfrec.data.rewards import ceiling, gains, reward_table

SHOP = RewardConfig(weights={"click": 1.0, "purchase": 5.0}, cap=8.0)
WATCH = RewardConfig(weights={"watch": 0.1, "dislike": -1.0}, valued=("watch",), cap=6.0)


def test_the_relation_of_the_join():
    assert reward_table(WATCH).to_pylist() == [
        {"action": "watch", "weight": 0.1, "valued": True},
        {"action": "dislike", "weight": -1.0, "valued": False},
    ]


def test_a_label_is_final_when_nothing_better_can_follow():
    assert ceiling(SHOP) == 5.0
    assert ceiling(SHOP.model_copy(update={"cap": 2.0})) == 2.0
    assert ceiling(WATCH) == 6.0
    assert ceiling(RewardConfig(weights={"click": 1.0}, valued=("other",))) == 1.0
    assert ceiling(RewardConfig(weights={})) == 10.0


def test_gains_of_events():
    actions = ("watch", "dislike", "scroll")
    got = gains(WATCH, actions=actions, action=np.array([0, 0, 1, 2], np.int16), value=[30, 999, 4, 4])
    np.testing.assert_allclose(got, [3.0, 6.0, -1.0, 0.0], rtol=1e-6)

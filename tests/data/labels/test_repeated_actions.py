"""Of several acts of a user on an item one event or none: by hand, and the same for a file as for the log."""
import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfrec.config import Rating, RewardConfig
from tfrec.data.behaviour.interaction_files import read_interactions, read_preferences
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.merge import merge_behaviour
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.pair_rewards import ACTIONS, one_row_per_pair, positive_pairs
from tfrec.data.labels.repeated_actions import one_code
from tfrec.data.records import Item, Outcome
from tfrec.data.settled.examples import Buckets, SettledExamples
from tfrec.data.settled.settle import settle

ITEMS = [Item(id=name, numeric={"minutes": 40.0}) for name in "abc"]
RULE = RewardConfig(
    weights={"click": 1.0, "purchase": 5.0, "dislike": -2.0, "look": 0.0, "watch": 1.0, "rating": 1.0}, cap=6.0,
    lengths={"watch": "minutes"}, rated={"rating": Rating()},
)  # fmt: skip
NOW = 10_000
ACT = st.tuples(st.sampled_from("uvpqrs"), st.sampled_from("abcx"), st.sampled_from([5, 6, 7, 900, 1805, 1806, 9000, 10_500]),
                st.sampled_from(["click", "purchase", "dislike", "look", "watch", "rating", "scroll"]),
                st.sampled_from([1.0, 3.0, 5.0, 20.0, -4.0]))


def acts(*rows: tuple[str, str, int, str, float]) -> pa.Table:
    return pa.table([pa.array(column) for column in zip(*rows, strict=True)], schema=ACTIONS)


def told(inter: Interactions) -> list[tuple[str, str, int, str, float]]:
    columns = zip(inter.user, inter.item, inter.time, inter.action, inter.weight, strict=True)
    return [(inter.users[u], inter.items[i], int(t), inter.actions[a], round(float(w), 5)) for u, i, t, a, w in columns]


def test_the_earliest_act_that_counts_stands_for_all():
    pairs = one_row_per_pair(acts(("u", "a", 9, "purchase", 5.0), ("u", "a", 3, "dislike", -2.0), ("u", "a", 7, "click", 1.0),
                        ("u", "b", 1, "dislike", -2.0), ("u", "b", 2, "click", 1.0), ("v", "a", 4, "click", 1.0),
                        ("v", "a", 4, "buy", 9.0)), cap=6.0)
    assert sorted(tuple(row.values()) for row in pairs.to_pylist()) == [
        ("u", "a", 7, "click", 4.0), ("u", "b", 2, "click", -1.0), ("v", "a", 4, "buy", 6.0),
    ]  # fmt: skip
    assert positive_pairs(pairs)["item"].to_pylist() == ["a", "a"]


def test_rounding_is_no_preference():
    pairs = one_row_per_pair(acts(*[("u", "a", k, "x", gain) for k, gain in enumerate((0.1, 0.2, -0.3))]), cap=6.0)
    assert positive_pairs(pairs).num_rows == 0


def test_view_then_purchase_counts_both(tmp_path: Path):
    (tmp_path / "i.csv").write_text("user,item,time,action\nann,10,100,view\nann,10,1000,purchase\nbob,10,1000,purchase\n")
    shop = RewardConfig(weights={"view": 1.0, "purchase": 5.0})
    inter = read_interactions(tmp_path / "i.csv", catalogue=None, quarantine=None, reward=shop)
    assert told(inter) == [("ann", "10", 100, "view", 6.0), ("bob", "10", 1000, "purchase", 5.0)]


def test_acts_without_a_weight_shadow_nothing_and_are_told_with_the_nearest_name(tmp_path: Path, caplog):
    (tmp_path / "i.csv").write_text("user,item,time,action\nu,a,1,impression\nu,a,2,click\nu,b,3,Click\nv,b,4,click \n")
    with caplog.at_level(logging.WARNING):
        inter = read_interactions(tmp_path / "i.csv", catalogue=None, quarantine=None, reward=RewardConfig())
    assert told(inter) == [("u", "a", 2, "click", 1.0)]
    assert "3 of 4 events count nothing" in caplog.text
    assert "1 of 'Click' (nearest: 'click')" in caplog.text
    assert "1 of 'click ' (nearest: 'click')" in caplog.text
    assert "1 of 'impression'" in caplog.text


@pytest.mark.parametrize("setting", ["weights", "valued", "completed", "conversions", "half_life_hours"])
def test_a_name_of_the_configuration_that_nobody_logged_is_told(setting: str, tmp_path: Path, caplog):
    (tmp_path / "i.csv").write_text("user,item,time,action\nu,a,1,click\n")
    value = ("clik",) if setting in ("valued", "conversions") else {"clik": 2.0}
    reward = RewardConfig(**{setting: value} | {"weights": {"click": 1.0} | (value if setting == "weights" else {})})
    with caplog.at_level(logging.WARNING):
        read_interactions(tmp_path / "i.csv", catalogue=None, quarantine=None, reward=reward)
    assert f"reward.{setting} names the action 'clik', which no event has" in caplog.text


def test_a_name_that_a_file_beside_a_log_does_not_have_may_be_in_the_log(tmp_path: Path, caplog):
    (tmp_path / "i.csv").write_text("user,item,time,action\nu,a,1,click\nu,a,2,Click\n")
    rule = LabelRule.of_rewards(RewardConfig(weights={"click": 1.0, "dismiss": -1.0}), Catalogue([Item(id="a")]))
    with caplog.at_level(logging.WARNING):
        read_preferences(tmp_path / "i.csv", rule, quarantine=None)
    assert "1 of 'Click' (nearest: 'click')" in caplog.text
    assert "dismiss" not in caplog.text


# A join of many acts costs what one of few does, so there are few examples with many in each.
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACT, min_size=30, max_size=90))
def test_files_and_log_give_the_same_examples_for_the_same_acts(rows):
    rows = [*rows, ("w", "a", NOW, "click", 1.0)]  # so that there is behaviour, and an event of now
    catalogue = Catalogue(ITEMS)
    rule = LabelRule.of_rewards(RULE, catalogue, attribution_seconds=100)
    with TemporaryDirectory() as directory:
        path = Path(directory, "acts.jsonl")
        path.write_text("".join(json.dumps(dict(zip(("user", "item", "time", "action", "value"), row, strict=True))) + "\n"
                                for row in rows))
        log = FeedbackLog(Path(directory, "log"))
        outcomes = [Outcome(event_id=f"{k:03}", user=u, item=i, time=t, action=a, value=v)
                    for k, (u, i, t, a, v) in enumerate(rows)]
        log.append("outcomes", list(enumerate((one.model_dump_json() for one in outcomes), 1)), writer="w")
        settled = SettledExamples(Path(directory, "examples"))
        settle(log, settled, rule, now=NOW, quarantine=None)
        logged = settled.behaviour(after=0, upto=1, sample=Buckets.share(1.0, seed=0))
        of_log = merge_behaviour(None, logged, after=0, counted=0, items=catalogue.ids.tolist(), cap=RULE.cap, now=NOW).inter
        of_file = read_interactions(path, catalogue=catalogue, quarantine=None, reward=rule, now=NOW)
    assert told(of_file) == told(of_log)


@given(st.integers(0, 3), st.integers(NOW + 1, 1 << 39))
def test_a_clock_that_is_ahead_changes_no_other_items_popularity(which: int, ahead: int):
    from tfrec.models.popularity_prior import DEFAULT_WEIGHTS, PopularityPrior

    def prior(time: int) -> np.ndarray:
        times = [NOW - 900_000 % NOW, 50, 800, 9000]
        times[which] = time
        inter = Interactions.from_columns(list("uvwx"), list("abca"), times, items=list("abc"), now=NOW)
        return PopularityPrior.counted(inter, weights=DEFAULT_WEIGHTS).log_p()

    np.testing.assert_array_equal(prior(NOW + 1), prior(ahead))


@given(st.lists(st.tuples(*[st.integers(0, 1) | st.integers(0, 1 << 40)] * 4), max_size=20))
def test_combinations_of_codes_have_a_code_each(rows: list[tuple[int, int, int, int]]) -> None:
    """Also where their product is larger than a number."""
    code = one_code(list(np.array(rows, np.int64).reshape(-1, 4).T)).tolist()
    assert len(set(zip(rows, code, strict=True))) == len(set(rows)) == len(set(code))

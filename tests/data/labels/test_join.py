"""The join on a small world of literal times: the attribution window is 100 s, a click is worth 1, a purchase 5."""
import itertools
import json
import shutil
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sqlglot
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfrec.config import Rating, RewardConfig, WeightChange
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.labels import join as join_module
from tfrec.data.labels.join import SCHEMA, join, statement
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.rewards import gains, lengths_of
from tfrec.data.readers.rows import Quarantine
from tfrec.data.records import Impression, Outcome, Shown
from tfrec.errors import DataError, UsageError

SHOP = RewardConfig(weights={"click": 1.0, "purchase": 5.0})
ITEMS = ("a", "b", "c", "d")
RULES = {  # of all kinds: labels that are final early, that decay, and that can fall
    "plain": SHOP,
    "late": SHOP.model_copy(update={"half_life_hours": {"click": 20 / 3600, "purchase": 0.01}}),
    "moody": RewardConfig(weights={"click": -2.0, "purchase": 5.0}, half_life_hours={"click": 0.01}, cap=4.0),
    "added": RewardConfig(weights={"click": 0.4, "purchase": 1.0}, valued=("click",), cap=1.5),
}


class World:
    """A log that is written by one writer unless said otherwise, and committed when a window is asked for."""

    def __init__(self, root):
        self.log = FeedbackLog(root)
        self.seq = Counter()
        self.waiting = []

    def write(self, kind, record, writer):
        self.seq[writer] += 1
        self.waiting.append((kind, writer, self.seq[writer], record.model_dump()))

    def window(self, after, *, now):
        for kind, writer in sorted({(kind, writer) for kind, writer, _, _ in self.waiting}):
            records = [(seq, record) for *of, seq, record in self.waiting if of == [kind, writer]]
            self.log.append(kind, records, writer=writer)
        self.waiting = []
        return self.log.window(after, now=now)

    def show(self, request, time, *items, user="u", writer="w", **fields):
        slate = [Shown(item=item, position=k, score=1.0, log_propensity=0.0) for k, item in enumerate(items)]
        given = {"request_id": request, "time": time, "user": user, "slate": slate, "policy": "greedy", "model_version": 3}
        self.write("impressions", Impression(**given, **fields), writer)

    def act(self, event, time, item, action="click", *, user="u", request=None, value=1.0, writer="w"):
        given = {"event_id": event, "time": time, "user": user, "item": item, "action": action, "value": value}
        self.write("outcomes", Outcome(**given, request_id=request), writer)

    def join(self, window, *, reward=SHOP, items=ITEMS, quarantine=None, log=None, lengths=None):
        rule = LabelRule(tuple(items), 100, reward, lengths or {})
        return join(log or self.log, window, rule, quarantine=quarantine)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "log")


def changes(*steps):
    return tuple(WeightChange(since=datetime.fromtimestamp(since, UTC), weights=weights) for since, weights in steps)


def brief(examples):
    return [(e["example_id"], e["time"], e["action"], e["reward"]) for e in examples.table.to_pylist()]


def test_a_click_a_skip_and_organic_behaviour(world):
    world.show("r1", 1000, "a", "b", query="heat", history=("c",))
    world.act("e1", 1010, "b", request="r1")
    world.act("e2", 1020, "c", user="v")
    got = world.join(world.window(None, now=1101))
    assert got.table.schema == SCHEMA
    skipped, clicked, organic = got.table.to_pylist()
    assert skipped == {
        "example_id": "slate:r1/a", "source": "slate", "request_id": "r1", "user": "u", "query": "heat", "item": "a",
        "time": 1000, "action": None, "reward": 0.0, "converted": False, "shown_time": 1000, "position": 0, "log_propensity": 0.0,
        "policy": "greedy", "model_version": 3, "history": ["c"], "positive_time": None, "positive_action": None,
    }  # fmt: skip
    assert clicked == skipped | {
        "example_id": "slate:r1/b", "item": "b", "time": 1010, "action": "click", "reward": 1.0, "position": 1,
        "positive_time": 1010, "positive_action": "click",
    }  # fmt: skip
    assert organic == dict.fromkeys(SCHEMA.names) | {
        "example_id": "organic:v/e2", "source": "organic", "user": "v", "query": "", "item": "c", "time": 1020, "action": "click",
        "reward": 1.0, "converted": False, "positive_time": 1020, "positive_action": "click",
    }  # fmt: skip


def test_a_negative_waits_until_its_label_has_matured(world):
    world.show("r1", 1000, "a")
    first = world.window(None, now=1100)  # the attribution window closes with this second
    got = world.join(first)
    assert (len(got), got.immature) == (0, 1)
    second = world.window(first, now=1101)
    assert second.is_empty
    assert brief(world.join(second)) == [("slate:r1/a", 1000, None, 0.0)]
    assert len(world.join(world.window(second, now=9999))) == 0


def test_a_final_positive_is_learned_at_once_and_another_when_it_matured(world):
    world.show("r1", 1000, "a", "b", "c")
    world.act("e1", 1001, "a", "purchase", request="r1")
    world.act("e2", 1002, "b", "click", request="r1")
    world.act("e5", 1003, "c", "purchase", request="r1")
    world.act("e6", 1004, "c", "click", request="r1")  # after the final act nothing counts
    first = world.window(None, now=1010)
    assert brief(world.join(first)) == [("slate:r1/a", 1001, "purchase", 5.0), ("slate:r1/c", 1003, "purchase", 5.0)]
    world.act("e3", 1020, "a", "click", request="r1")  # nor in a later window
    world.act("e4", 1050, "b", "purchase", request="r1")  # a click before it does
    second = world.window(first, now=1060)
    got = world.join(second)
    assert (brief(got), got.late) == ([("slate:r1/b", 1050, "purchase", 6.0)], 1)
    assert len(world.join(world.window(second, now=9999))) == 0


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
        length=lengths_of(known, [actions[a] for a in action], [items[i] for i in item]),
    )  # fmt: skip
    found = {e["example_id"]: e["reward"] for e in got.table.to_pylist()}
    for k, gain in enumerate(expected):
        name = f"slate:r{k}/{items[item[k]]}" if k % 2 else f"organic:u{k}/e{k}"
        assert found.get(name, 0.0) == pytest.approx(float(gain), rel=1e-6), name
    assert len({round(float(gain), 3) for gain in expected}) > 40


def test_an_outcome_without_request_belongs_to_the_latest_place_its_user_saw(world):
    world.show("r1", 1000, "a")
    world.show("r2", 1050, "a")
    world.show("r3", 1050, "a", user="v")
    world.act("e0", 1050, "a", user="v")  # in the same second: nobody knows which was first
    world.act("e1", 1060, "a", "purchase")
    world.act("e2", 1151, "a", "purchase", user="v")  # a second late: on v's own account
    got = brief(world.join(world.window(None, now=1160)))
    assert got == [
        ("slate:r1/a", 1000, None, 0.0),
        ("organic:v/e0", 1050, "click", 1.0),
        ("slate:r3/a", 1050, None, 0.0),
        ("slate:r2/a", 1060, "purchase", 5.0),
        ("organic:v/e2", 1151, "purchase", 5.0),
    ]


def test_outcomes_that_no_place_takes_are_counted(world):
    world.show("r1", 1000, "a")
    world.act("e1", 1010, "b", request="r1")  # never shown there
    world.act("e2", 1101, "a", request="r1")  # too late
    world.act("e3", 999, "a", request="r1", user="v")  # before it was shown
    world.act("e4", 1010, "a", request="r9")  # no such request
    got = world.join(world.window(None, now=1200))
    assert (brief(got), got.unmatched) == ([("slate:r1/a", 1000, None, 0.0)], 4)


def test_an_outcome_may_arrive_before_its_impression(world):
    world.act("e1", 1010, "a", "purchase", request="r1", writer="fast")
    first = world.window(None, now=1020)
    got = world.join(first)
    assert (len(got), got.unmatched) == (0, 1)
    world.show("r1", 1000, "a", writer="slow")
    assert brief(world.join(world.window(first, now=1030))) == [("slate:r1/a", 1010, "purchase", 5.0)]


def test_what_was_emitted_is_not_taken_back_by_a_late_impression(world):
    world.show("r1", 1000, "a")
    world.act("e1", 1060, "a", "purchase")
    first = world.window(None, now=1070)
    assert brief(world.join(first)) == [("slate:r1/a", 1060, "purchase", 5.0)]
    world.show("r2", 1050, "a", writer="slow")  # the latest place before the purchase, as it turns out
    assert "slate:r1/a" not in [e[0] for e in brief(world.join(world.window(first, now=1300)))]


def test_old_rows_are_read_back_as_far_as_they_matter(world, monkeypatch):
    world.act("e1", 1000, "b")
    first = world.window(None, now=2600)
    world.act("e2", 2600, "b")  # 1,600 s later: a repeat, though the attribution window is 100 s
    assert world.join(world.window(first, now=2700)).noise == 1
    monkeypatch.setattr(join_module, "REPEAT_SECONDS", 0)
    world.show("r1", 2600, "a")
    second = world.window(first, now=2690)
    assert world.join(second).immature == 1
    world.act("e3", 2700, "a", "purchase", request="r1")
    assert brief(world.join(world.window(second, now=2700))) == [("slate:r1/a", 2700, "purchase", 5.0)]


def test_duplicates_noise_unknown_items_and_unrewarded_actions_are_counted(world):
    world.act("e1", 1000, "a")
    world.act("e1", 1000, "a")
    first = world.window(None, now=1001)
    got = world.join(first)
    assert (brief(got), got.duplicates) == ([("organic:u/e1", 1000, "click", 1.0)], 1)
    world.act("e1", 1000, "a", writer="other")
    world.act("e2", 1000 + 1799, "a")  # the same again within half an hour
    world.act("e3", 1000 + 1799 + 1800, "a")  # and after it
    world.act("e4", 1002, "zzz")
    world.show("r1", 1000, "zzz", "a", user="v")
    world.act("e5", 1003, "b", "scroll")
    got = world.join(world.window(first, now=5000))
    assert [e[0] for e in brief(got)] == ["slate:r1/a", "organic:u/e3"]
    assert (got.duplicates, got.noise, got.unknown_items, got.unrewarded) == (1, 1, 2, 1)


def test_nobody_acts_faster_than_hands(world, monkeypatch):
    monkeypatch.setattr(join_module, "MINUTE_LIMIT", 2)
    for k, item in enumerate(ITEMS):
        world.act(f"bot{k}", 600 + k, item, user="bot")
        world.act(f"e{k}", 600 + 30 * k, item, user="person")
    got = world.join(world.window(None, now=700))
    assert [e[0] for e in brief(got)] == ["organic:person/e0", "organic:person/e1", "organic:person/e2", "organic:person/e3"]
    assert got.noise == 4


def test_one_request_logged_twice_is_one_slate(world):
    for writer in ("w", "other"):
        world.show("r1", 1000, "a", "b", writer=writer)
    world.act("e1", 1001, "a", "purchase", request="r1")
    got = brief(world.join(world.window(None, now=2000)))
    assert got == [("slate:r1/b", 1000, None, 0.0), ("slate:r1/a", 1001, "purchase", 5.0)]


def test_an_empty_window_gives_no_examples(world):
    got = world.join(world.window(None, now=10))
    assert (len(got), got.table.schema) == (0, SCHEMA)
    world.act("e1", 1000, "a")
    window = world.window(world.window(None, now=1001), now=1001)
    assert window.is_empty
    assert len(world.join(window)) == 0


USERS = st.sampled_from("uvw")
ACTIONS = st.sampled_from(["click", "purchase"])
STEP = st.one_of(
    st.tuples(st.just("show"), USERS, st.sampled_from(["ab", "bc", "a"])),
    st.tuples(st.just("act"), USERS, st.sampled_from("abz"), ACTIONS, st.booleans()),
    st.tuples(st.just("again")),
    st.tuples(st.just("wait"), st.sampled_from([1, 60, 101, 2000])),
)
# What happens before each cut. A join of many steps costs what one of few does, so there are few examples with many in each.
PARTS = st.lists(st.lists(STEP, min_size=10, max_size=30), min_size=2, max_size=3)
FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def play(world, parts):
    """Let the steps happen in the order of time; returns the windows, one after each part, and the final time."""
    now, acts, shown, windows = 1000, [], [], []
    names = itertools.count(10)
    for last, part in ((k == len(parts), part) for k, part in enumerate(parts, 1)):
        for what, *args in part:
            if what == "show":
                shown.append((f"r{next(names)}", *args))
                world.show(shown[-1][0], now, *args[1], user=args[0])
            elif what == "act":
                user, item, action, named = args
                request = shown[-1][0] if named and shown else None
                acts.append((f"e{next(names)}", now, item, action, user, request))
            elif what == "wait":
                now += args[0]
            if what in ("act", "again") and acts:
                event, time, item, action, user, request = acts[-1]
                world.act(event, time, item, action, user=user, request=request)
        now += 200 * last
        windows.append(world.window(windows[-1] if windows else None, now=now))
    return windows, now


@FEW
@given(PARTS, st.sampled_from(sorted(RULES)))
def test_windows_tile_wherever_they_are_cut(tmp_path_factory, parts, rule):
    world, reward = World(tmp_path_factory.mktemp("log")), RULES[rule]
    windows, now = play(world, parts)
    whole = world.join(world.window(None, now=now), reward=reward)
    parts = [world.join(window, reward=reward) for window in windows]
    assert sorted(example for part in parts for example in brief(part)) == sorted(brief(whole))
    assert sum(part.duplicates for part in parts) == whole.duplicates
    assert sum(part.noise for part in parts) == whole.noise
    assert whole.immature == 0


@FEW
@given(st.lists(STEP, min_size=20, max_size=60), st.sampled_from(["a", "z"]))
def test_joining_twice_or_writing_twice_is_once(tmp_path_factory, steps, replayer):
    world = World(tmp_path_factory.mktemp("log"))
    [window], now = play(world, [steps])
    once = world.join(window)
    assert world.join(window).table.equals(once.table)
    for kind in ("impressions", "outcomes"):  # another process replays the whole log under a name of its own
        rows = world.log.read(kind)
        again = rows.set_column(rows.column_names.index("writer"), "writer", pa.repeat(replayer, rows.num_rows))
        write_deltalake(world.log.tables[kind].uri, again, mode="append")
    assert world.join(world.window(None, now=now)).table.equals(once.table)
    replayed = world.join(world.window(window, now=now))
    assert (len(replayed), replayed.noise, replayed.unmatched) == (0, 0, 0)


def test_compaction_deletion_and_vacuum_between_retrains_change_nothing(world, tmp_path):
    world.show("r0", 800, "a", user="gone")
    world.act("e0", 801, "a", "purchase", user="gone", request="r0")
    world.show("r1", 1000, "a", "b")
    world.act("e1", 1001, "a", request="r1")
    first = world.window(None, now=1050)
    before = world.join(first)
    assert [e[0] for e in brief(before)] == ["slate:r0/a"]
    world.act("e2", 1060, "a", "purchase", request="r1")
    world.act("e1", 1001, "a", request="r1")
    world.show("r2", 1070, "c")
    pinned = world.window(first, now=1300)  # a retrain that is killed here runs again after the housekeeping
    shutil.copytree(world.log.root, tmp_path / "untouched")
    untouched = FeedbackLog(tmp_path / "untouched")
    expected = world.join(untouched.window(first, now=1300), log=untouched)
    assert brief(expected) == [
        ("slate:r1/b", 1000, None, 0.0),
        ("slate:r1/a", 1060, "purchase", 6.0),
        ("slate:r2/c", 1070, None, 0.0),
    ]

    world.log.compact()
    for table in world.log.tables.values():
        DeltaTable(table.uri).delete("\"user\" = 'gone'")
    world.log.compact()
    world.log.vacuum(retention_hours=0)
    window = world.window(first, now=1300)
    assert (window.start, window.end) == (pinned.start, pinned.end)
    for retrain in (window, pinned):
        got = world.join(retrain)
        assert got.table.equals(expected.table)
        assert got.duplicates == expected.duplicates == 1
    assert brief(world.join(first)) == []  # the person who is gone is gone


@pytest.mark.parametrize("kind", ["impressions", "outcomes"])
def test_malformed_rows_of_other_tools_are_set_aside(world, tmp_path, kind):
    world.show("r1", 1000, "a")
    world.act("e1", 1001, "a", "purchase", request="r1")
    world.window(None, now=1002)
    bad = world.log.read(kind).to_pylist()[0] | {"user": None, "writer": "spark", "seq": 7}
    worse = bad | {"user": "u", "time": -5, "seq": 8}
    write_deltalake(world.log.tables[kind].uri, pa.Table.from_pylist([bad, worse], world.log.tables[kind].schema), mode="append")
    window = world.window(None, now=1002)
    quarantine = Quarantine(tmp_path / "bad.jsonl")
    got = world.join(window, quarantine=quarantine)
    assert brief(got) == [("slate:r1/a", 1001, "purchase", 5.0)]
    assert (got.malformed, quarantine.count) == (2, 2)
    entries = [json.loads(line) for line in quarantine.path.read_text().splitlines()]
    assert [(e["file"], e["line"]) for e in entries] == [(world.log.tables[kind].uri, f"spark:{seq}") for seq in (7, 8)]
    assert [e["reason"] for e in entries] == [
        "expected \"user\" IS NOT NULL AND \"user\" <> '', got null",
        "expected time >= 0 AND time < 1099511627776, got -5",
    ]
    with pytest.raises(DataError, match=rf"{kind} line spark:7: expected \"user\" IS NOT NULL"):
        world.join(window)
    assert world.join(world.window(window, now=1003)).malformed == 0


@pytest.mark.parametrize("kind", ["impressions", "outcomes"])
def test_a_truncated_file_is_named(world, kind):
    world.show("r1", 1000, "a")
    world.act("e1", 1001, "a", request="r1")
    window = world.window(None, now=1002)
    [file] = Path(world.log.tables[kind].uri).glob("*.parquet")
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(DataError, match=rf"{file.name}: truncated or damaged"):
        world.join(window)


def test_a_log_behind_a_url_gives_the_same(world):
    world.show("r1", 1000, "a", "b", history=("c", "a"))
    world.act("e1", 1001, "a", "purchase", request="r1")
    world.act("e2", 1002, "c", user="v")
    remote = FeedbackLog(f"file://{world.log.root}")  # read through Arrow, as an object store is
    window = world.window(None, now=2000)
    assert remote.window(None, now=2000) == window
    assert world.join(window, log=remote).table.equals(world.join(window).table)


def test_the_statement_translates_to_spark():
    [spark] = sqlglot.transpile(statement(), read="duckdb", write="spark", unsupported_level=sqlglot.ErrorLevel.RAISE)
    tree = sqlglot.parse_one(spark, read="spark")
    tables = {table.name for table in tree.find_all(sqlglot.exp.Table)} - {cte.alias for cte in tree.find_all(sqlglot.exp.CTE)}
    assert tables == {"impressions", "outcomes", "bounds", "catalogue", "rewards", "lengths", "settings"}
    assert "`user`" in spark


def test_an_event_id_is_its_users(world):
    world.act("e", 1000, "a")
    world.act("e", 1000, "a", user="v")
    world.act("e", 1000, "a", user="v")
    got = world.join(world.window(None, now=1100))
    assert ([e[0] for e in brief(got)], got.duplicates) == (["organic:u/e", "organic:v/e"], 1)


def test_a_time_after_now_counts_as_now(world):
    world.show("r1", 1000, "a")
    world.act("e1", 1 << 39, "a", "purchase", request="r1")
    world.act("e2", 1 << 39, "b", user="v")
    first = world.window(None, now=1050)
    assert brief(world.join(first)) == [("organic:v/e2", 1050, "click", 1.0), ("slate:r1/a", 1050, "purchase", 5.0)]
    assert len(world.join(world.window(first, now=2000))) == 0


@pytest.mark.parametrize("absent", [(), ("writer", "seq"), ("writer", "seq", "value")])
def test_rows_without_an_ingest_id_are_set_aside_and_the_rest_is_used(world, tmp_path, absent):
    world.act("e1", 1000, "a")
    window = world.window(None, now=1100)
    row = {"event_id": "x", "request_id": None, "user": "v", "item": "b", "action": "click", "value": 1.0, "time": 1000,
           "writer": None, "seq": None}
    schema = pa.schema([one for one in world.log.read("outcomes").schema if one.name not in absent])
    kept = {name: [value] for name, value in row.items() if name not in absent}
    rows = pa.Table.from_pydict(kept, schema=schema)
    write_deltalake(world.log.tables["outcomes"].uri, rows, mode="append", schema_mode="merge")
    window = world.log.window(None, now=1100)
    quarantine = Quarantine(tmp_path / "bad.jsonl")
    got = world.join(window, quarantine=quarantine)
    assert ([e[0] for e in brief(got)], got.malformed, quarantine.count) == (["organic:u/e1"], 1, 1)
    told = json.loads(quarantine.path.read_text())
    assert told["file"].endswith("outcomes")
    assert "ingest id" in told["reason"]
    with pytest.raises(DataError, match="outcomes line 1 of those without an ingest id"):
        world.join(window)
    assert len(world.join(world.log.window(window, now=1200))) == 0

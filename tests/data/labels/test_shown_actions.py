"""Which actions came of each shown item: by hand, against a plain count, and the same that the join credits."""
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.labels.world import World
from tfrec.config import RewardConfig
from tfrec.data.examples.slates import SLATES
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.labels.repeated_actions import MINUTE_LIMIT
from tfrec.data.labels.shown_actions import shown_actions
from tfrec.errors import DataError

HEADS = ("click", "like", "purchase")
# A read of a log with many outcomes costs what one of a log with few does, so there are few examples with many in each.
FEW = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


def slate(request, time, items, user="u"):
    return {"request_id": request, "time": time, "user": user, "item": None if items is None else list(items)}


def asked(world, *slates, actions=HEADS, log=None):
    """The answer, once what the world has written is in its log."""
    world.window(None, now=1)
    return shown_actions(log or world.log, pa.Table.from_pylist(slates, SLATES), actions, attribution_seconds=100)


def told(found, actions=HEADS):
    """(slate, position, action) of what was logged."""
    return [(int(n), int(k), actions[a]) for n, k, a in np.argwhere(found)]


def test_each_action_of_each_item_of_ragged_slates(world):
    world.act("e1", 1005, "b", "click", request="r1")
    world.act("e2", 1006, "b", "purchase", request="r1")
    world.act("e3", 1030, "c", "like", request="r2")
    world.act("e4", 1007, "c", "click", request="r1")  # was not in this slate
    world.act("e5", 1007, "a", "scroll", request="r1")  # not asked for
    found = asked(world, slate("r1", 1000, "ab"), slate("r0", 1001, ""), slate("r2", 1020, "dac"), slate("r3", 1021, None))
    assert (found.shape, found.dtype) == ((4, 3, 3), np.bool_)
    assert told(found) == [(0, 1, "click"), (0, 1, "purchase"), (2, 2, "like")]


@pytest.mark.parametrize(("seconds", "counts"), [(-1, False), (0, True), (100, True), (101, False)])
def test_an_outcome_that_names_its_request_counts_from_the_impression_to_the_end_of_the_window(world, seconds, counts):
    world.act("e", 1000 + seconds, "a", request="r1")
    assert asked(world, slate("r1", 1000, "a"), slate("r2", 1, "b"), slate("r3", 5000, "b"))[0].any() == counts


@pytest.mark.parametrize(("seconds", "counts"), [(0, False), (1, True), (100, True), (101, False)])
def test_an_outcome_that_names_no_request_comes_after_the_impression(world, seconds, counts):
    world.show("r1", 1000, "a")
    world.act("e", 1000 + seconds, "a")
    assert asked(world, slate("r1", 1000, "a"), slate("r2", 1, "b"), slate("r3", 5000, "b"))[0].any() == counts


def test_an_outcome_that_names_no_request_is_of_the_latest_that_showed_its_user_the_item(world):
    for request, time, user in (("r1", 1000, "u"), ("r2", 1020, "u"), ("r3", 1030, "v"), ("r4", 1050, "u")):
        world.show(request, time, "a", "b", user=user)
    world.act("e1", 1040, "a", "click")
    world.act("e2", 1060, "a", "like")  # of r4, which is not asked for
    world.act("e3", 1010, "b", "purchase")
    world.act("e4", 1090, "b", "like", user="w")  # saw none
    found = asked(world, slate("r1", 1000, "ab"), slate("r2", 1020, "ab"), slate("r3", 1030, "ab", user="v"))
    assert told(found) == [(0, 1, "purchase"), (1, 0, "click")]


def test_of_requests_of_one_second_the_first_by_name_has_the_outcome_that_names_none(world):
    for request in ("r2", "r1", "r3"):
        world.show(request, 1000, "a")
    world.act("e1", 1010, "a")
    assert told(asked(world, *(slate(request, 1000, "a") for request in ("r3", "r1", "r2")))) == [(1, 0, "click")]


def test_another_user_counts_only_with_the_name_of_the_request(world):
    world.show("r1", 1000, "a")
    world.act("e1", 1010, "a", "click", user="v", request="r1")
    world.act("e2", 1010, "a", "like", user="v")
    assert told(asked(world, slate("r1", 1000, "a"))) == [(0, 0, "click")]


def test_an_item_that_stands_twice_a_request_that_stands_twice_and_copies_of_an_outcome(world):
    for writer in ("w", "x", "w"):
        world.act("e1", 1005, "a", request="r1", writer=writer)
    found = asked(world, slate("r1", 1000, "aba"), slate("r1", 1000, "ba"))
    assert told(found) == [(0, 0, "click"), (0, 2, "click"), (1, 1, "click")]


def test_actions_that_nobody_logged_that_are_asked_for_twice_and_none(world):
    world.act("e1", 1005, "a", request="r1")
    one = slate("r1", 1000, "ab")
    assert told(asked(world, one, actions=("hide", "Click"))) == []
    assert asked(world, one, actions=("click", "hide", "click")).tolist() == [[[True, False, True], [False] * 3]]
    assert asked(world, one, actions=()).shape == (1, 2, 0)


def test_no_slates_slates_without_items_and_a_log_that_nobody_wrote(world, tmp_path):
    assert asked(world).shape == (0, 0, 3)
    assert shown_actions(world.log, pa.table({name: [] for name in SLATES.names}, SLATES), HEADS,
                         attribution_seconds=100).shape == (0, 0, 3)
    assert asked(world, slate("r1", 1000, ""), slate("r2", 1000, None)).shape == (2, 0, 3)
    one = slate("r1", 1000, "ab")
    assert not asked(world, one).any()
    missing = asked(world, one, log=FeedbackLog(tmp_path / "missing"))
    assert (missing.shape, missing.any()) == ((1, 2, 3), False)


def test_malformed_rows_and_rows_without_an_ingest_id_do_not_count(world):
    world.act("e1", 1005, "a", "click", request="r1")
    good = {"event_id": "e2", "request_id": "r1", "user": "u", "item": "b", "action": "like", "value": 1.0, "time": 1005,
            "writer": "spark", "seq": 1}
    bad = [{"event_id": None}, {"user": ""}, {"value": 1e300}, {"time": None}, {"seq": None}, {"writer": None}]
    asked(world)
    table = world.log.tables["outcomes"]
    write_deltalake(table.uri, pa.Table.from_pylist([good | one for one in bad], table.schema), mode="append")
    assert told(asked(world, slate("r1", 1000, "ab"))) == [(0, 0, "click")]
    write_deltalake(table.uri, pa.Table.from_pylist([good], table.schema), mode="append")
    assert told(asked(world, slate("r1", 1000, "ab"))) == [(0, 0, "click"), (0, 1, "like")]


@pytest.mark.parametrize("more", [0, 1])
def test_a_minute_with_more_outcomes_than_a_person_can_have_does_not_count(world, more):
    """Also those of other actions, and before the impression, count for the minute; copies do not."""
    for k in range(MINUTE_LIMIT - 1 + more):
        for writer in "wx":
            world.act(f"s{k}", 960, f"i{k}", "scroll", writer=writer)
    world.act("e1", 1019, "a", "click", request="r1")
    world.act("e2", 1020, "a", "like", request="r1")  # in the next minute
    world.act("e3", 1019, "a", "purchase", user="v", request="r1")
    expected = ["like", "purchase"] if more else list(HEADS)
    assert told(asked(world, slate("r1", 1010, "a"))) == [(0, 0, action) for action in expected]


def test_a_log_at_a_url_gives_the_same(world):
    world.show("r1", 1000, "a", "b")
    world.act("e1", 1005, "a", request="r1")
    world.act("e2", 1006, "b", "like")
    one = slate("r1", 1000, "ab")
    assert told(asked(world, one, log=FeedbackLog(f"file://{world.log.root}"))) == told(asked(world, one)) != []


@pytest.mark.parametrize("kind", ["impressions", "outcomes"])
def test_a_damaged_file_is_named_and_one_of_another_time_is_not_read(world, kind):
    for name, time in (("old", 10), ("new", 1000)):
        world.show(name, time, "a")
        world.act(name, time + 5, "a")
        world.window(None, now=2000)
    files = Path(world.log.tables[kind].uri).glob("*.parquet")
    [file] = [file for file in files if pq.read_table(file)["time"][0].as_py() < 1000]
    file.write_bytes(file.read_bytes()[:300])
    old, new = (pa.Table.from_pylist([slate(*one, "a")], SLATES) for one in (("old", 10), ("new", 1000)))
    assert told(shown_actions(world.log, new, HEADS, attribution_seconds=100)) == [(0, 0, "click")]
    with pytest.raises(DataError, match=rf"{file.name}: truncated or damaged"):
        shown_actions(world.log, old, HEADS, attribution_seconds=100)


SLATE = st.tuples(st.integers(1000, 1300), st.sampled_from("uv"), st.text("abcd", max_size=4))
ACT = st.tuples(st.integers(990, 1420), st.sampled_from("uvw"), st.sampled_from("abcde"),
                st.sampled_from([*HEADS, "scroll"]), st.none() | st.integers(0, 7))


@settings(max_examples=10, **FEW)
@given(st.lists(SLATE, min_size=1, max_size=6), st.lists(ACT, min_size=20, max_size=80))
def test_what_a_plain_count_finds(tmp_path_factory, slates, acts):
    world = World(tmp_path_factory.mktemp("log"))
    for n, (time, user, items) in enumerate(slates):
        if items:
            world.show(f"r{n}", time, *dict.fromkeys(items), user=user)
    expected = np.zeros((len(slates), max(len(items) for *_, items in slates), len(HEADS)), np.bool_)
    for e, (time, user, item, action, named) in enumerate(acts):
        world.act(f"e{e}", time, item, action, user=user, request=None if named is None else f"r{named}")
        if named is None:
            saw = [(-shown, f"r{n}", n) for n, (shown, of, items) in enumerate(slates)
                   if of == user and item in items and 0 < time - shown <= 100]
            belongs = [min(saw)[2]] if saw else []
        else:
            belongs = [named] if named < len(slates) and 0 <= time - slates[named][0] <= 100 else []
        for n in belongs:
            for position, one in enumerate(slates[n][2]):
                if one == item and action in HEADS:
                    expected[n, position, HEADS.index(action)] = True
    found = asked(world, *(slate(f"r{n}", time, items, user) for n, (time, user, items) in enumerate(slates)))
    assert told(found) == told(expected)


@settings(max_examples=5, **FEW)
@given(st.lists(SLATE, min_size=4, max_size=8), st.lists(ACT, min_size=40, max_size=120), st.sampled_from(HEADS))
def test_an_item_has_an_action_where_the_join_gives_it_a_reward_for_it(tmp_path_factory, slates, acts, action):
    world = World(tmp_path_factory.mktemp("log"))
    for n, (time, user, items) in enumerate(slates):
        if items:
            world.show(f"r{n}", time, *dict.fromkeys(items), user=user)
    for e, (time, user, item, did, named) in enumerate(acts):
        world.act(f"e{e}", time, item, did, user=user, request=None if named is None else f"r{named}")
    # with values that add up, as repeats are noise to the join
    examples = world.join(world.window(None, now=3000), reward=RewardConfig(weights={action: 1.0}, valued=(action,))).table
    rewarded = {(e["request_id"], e["item"]) for e in examples.to_pylist() if e["source"] == "slate" and e["reward"]}
    found = asked(world, *(slate(f"r{n}", *one[::2], one[1]) for n, one in enumerate(slates)), actions=(action,))
    assert {(f"r{n}", slates[n][2][k]) for n, k, _ in told(found, (action,))} == rewarded

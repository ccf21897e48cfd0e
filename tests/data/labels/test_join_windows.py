"""The laws of the join: windows tile the log wherever they are cut, and nothing is joined twice."""
import itertools
import random
import re
import shutil

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.labels.world import SHOP, World, brief
from tfrec.config import RewardConfig
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.labels import join as join_module

RULES = {  # of all kinds: labels that are final early, that decay, and that can fall
    "plain": SHOP,
    "late": SHOP.model_copy(update={"half_life_hours": {"click": 20 / 3600, "purchase": 0.01}}),
    "moody": RewardConfig(weights={"click": -2.0, "purchase": 5.0}, half_life_hours={"click": 0.01}, cap=4.0),
    "added": RewardConfig(weights={"click": 0.4, "purchase": 1.0}, valued=("click",), cap=1.5),
}
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


def test_keys_that_share_a_hash_stay_apart(world, monkeypatch):
    draw = random.Random(5)
    steps = [draw.choice([("show", draw.choice("uvw"), "ab"), ("act", draw.choice("uvw"), draw.choice("ab"), "click", True),
                          ("act", draw.choice("uvw"), "a", "purchase", False), ("again",), ("wait", draw.choice([1, 60]))])
             for _ in range(80)]
    windows, _ = play(world, [steps[:50], steps[50:]])
    expected = [world.join(window) for window in windows]
    assert all(len(part) and part.duplicates and part.noise for part in expected)
    collide = re.sub(r"HASH\((.*?)\)", r"(HASH(\1) % 2)", join_module.statement("join.sql"))
    horizon = join_module.statement("horizon.sql")
    monkeypatch.setattr(join_module, "statement", {"join.sql": collide, "horizon.sql": horizon}.get)
    for window, part in zip(windows, expected, strict=True):
        got = world.join(window)
        assert got.table.equals(part.table)
        assert got.left_out == part.left_out


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

    world.log.maintain()
    for table in world.log.tables.values():
        DeltaTable(table.uri).delete("\"user\" = 'gone'")
    world.log.maintain(retention_hours=0)
    window = world.window(first, now=1300)
    assert (window.start, window.end) == (pinned.start, pinned.end)
    for retrain in (window, pinned):
        got = world.join(retrain)
        assert got.table.equals(expected.table)
        assert got.duplicates == expected.duplicates == 1
    assert brief(world.join(first)) == []  # the person who is gone is gone

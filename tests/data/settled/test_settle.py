"""Each example is settled once, whatever happens on the way: windows cut anywhere, repeats, other processes, another rule."""
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.labels.world import ITEMS, SHOP, World
from tfrec.config import RewardConfig
from tfrec.data.labels.join import join
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.settled.examples import Buckets, SettledExamples
from tfrec.data.settled.settle import settle
from tfrec.data.settled.settle_again import settle_again
from tfrec.errors import UsageError

RULE = LabelRule(ITEMS, 100, SHOP, {})
OTHER = LabelRule(ITEMS, 100, RewardConfig(weights={"click": 2.0}), {})
ALL = Buckets.share(1.0, seed=0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "log")


@pytest.fixture
def settled(tmp_path: Path) -> SettledExamples:
    return SettledExamples(tmp_path / "examples")


def advance(world: World, settled: SettledExamples, *, now: int, rule: LabelRule = RULE,
            engine: Callable[..., object] = join) -> int:
    world.window(None, now=now)  # commits what waits
    return settle(world.log, settled, rule, now=now, quarantine=None, engine=engine).number


def rows(settled: SettledExamples, *, upto: int = 1 << 40) -> list[tuple[object, ...]]:
    found = settled.whole(upto=upto, items=[*ITEMS, "gone"]).select(["example_id", "time", "action", "reward", "position"])
    return [tuple(row.values()) for row in found.to_pylist()]


def test_a_part_holds_what_its_window_settled(world: World, settled: SettledExamples) -> None:
    world.show("r1", 1000, "a", "b")
    world.act("e1", 1010, "b", request="r1")
    assert settled.last() is None
    assert advance(world, settled, now=1050) == 1
    assert rows(settled) == []  # both labels may still change
    assert advance(world, settled, now=1101) == 2
    assert rows(settled) == [("slate:r1/a", 1000, None, 0.0, 0), ("slate:r1/b", 1010, "click", 1.0, 1)]
    first, second = settled.parts(0, 2)
    assert (first.left_out["immature"], second.left_out["immature"]) == (2, 0)
    assert (first.actions, second.actions) == ({"click": 1}, {})
    assert (first.behaviour, second.behaviour) == (0, 1)
    assert (second.window.matured_from, second.rule) == (1050, RULE.digest)


def test_where_nothing_arrived_and_nothing_matured_there_is_no_new_part(world: World, settled: SettledExamples) -> None:
    world.act("e1", 1010, "b")
    assert [advance(world, settled, now=now) for now in (1020, 1030, 1040)] == [1, 1, 1]
    world.act("e2", 1041, "c")
    assert advance(world, settled, now=1050) == 2


def test_an_item_that_no_catalogue_has_yet_is_settled(world: World, settled: SettledExamples) -> None:
    world.act("e1", 1010, "gone")
    advance(world, settled, now=1020)
    assert [row[0] for row in rows(settled)] == ["organic:u/e1"]
    assert settled.counts(after=0, upto=1, items=ITEMS) == (0, 1)


EVENT = st.tuples(st.sampled_from(["show", "click", "purchase", "organic"]), st.integers(0, 5), st.sampled_from(ITEMS),
                  st.integers(0, 300))


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(st.lists(EVENT, max_size=25), st.sets(st.integers(1, 24), max_size=4))
def test_parts_cut_anywhere_hold_what_one_join_of_the_whole_log_gives(tmp_path_factory, events, cuts):
    root = tmp_path_factory.mktemp("log")
    world, settled, now = World(root / "log"), SettledExamples(root / "examples"), 1000
    for n, (kind, request, item, delay) in enumerate(events):
        if n in cuts:
            advance(world, settled, now=now)
        now += 30
        if kind == "show":
            world.show(f"r{request}-{n}", now, item, "d" if item != "d" else "a", user=f"u{request % 3}")
        else:
            shown = [m for m, event in enumerate(events[:n]) if event[:2] == ("show", request)]
            asked = None if kind == "organic" or not shown else f"r{request}-{shown[-1]}"
            action = "click" if kind == "organic" else kind
            world.act(f"e{n}", now - min(delay, 20), item, action, user=f"u{request % 3}", request=asked)
    advance(world, settled, now=now + 200)
    once = join(world.log, world.log.window(None, now=now + 200), RULE, quarantine=None, every_item=True).table
    expected = once.select(["example_id", "time", "action", "reward", "position"]).to_pylist()
    assert sorted(rows(settled), key=str) == sorted((tuple(row.values()) for row in expected), key=str)


def test_a_part_that_is_added_twice_is_there_once(world: World, settled: SettledExamples) -> None:
    world.act("e1", 1010, "a")
    advance(world, settled, now=1020)
    [part] = settled.parts(0, 1)
    before = settled.table.open().version()
    settled.add(settled.whole(upto=1, items=ITEMS), part)  # a run that was killed after its commit does its work again
    assert settled.table.open().version() == before
    assert len(rows(settled)) == 1


def test_who_comes_second_goes_on_from_the_others_part(world: World, settled: SettledExamples) -> None:
    world.act("e1", 1010, "a")

    def overtaken(*arguments: object, **named: object) -> object:
        found = join(*arguments, **named)
        if settled.last() is None:
            world.act("e2", 1015, "b")
            advance(world, settled, now=1030)  # another process, which sees more
        return found

    assert advance(world, settled, now=1020, engine=overtaken) == 1
    assert settled.parts(0, 1)[0].window.now == 1030
    assert [row[0] for row in rows(settled)] == ["organic:u/e1", "organic:u/e2"]


def test_compaction_and_the_erasure_of_a_user_change_no_other_example(world: World, settled: SettledExamples) -> None:
    for n in range(6):
        world.show(f"r{n}", 1000 + 200 * n, "a", "b", user=f"u{n % 2}")
        world.act(f"e{n}", 1010 + 200 * n, "b", request=f"r{n}", user=f"u{n % 2}")
        advance(world, settled, now=1050 + 200 * n)
    kept = rows(settled)
    for table in world.log.tables.values():
        table.open().delete("\"user\" = 'u1'")
        table.compact()
        table.vacuum(retention_hours=0)
    settled.maintain(retention_hours=0)
    assert rows(settled) == kept
    advance(world, settled, now=3000)
    assert [row for row in rows(settled) if "r5" not in row[0]] == kept  # r5 was u1's, and its labels were open
    assert [part.number for part in settled.parts(0, 10)] == list(range(1, settled.last().number + 1))


def test_where_a_clock_ran_ahead_the_label_that_matured_counts(world: World, settled: SettledExamples) -> None:
    world.show("r1", 1000, "a")
    advance(world, settled, now=5000)  # closes the label too early
    world.act("e1", 1050, "a", request="r1")
    advance(world, settled, now=1060)  # the clock is right again, and the label is open again
    advance(world, settled, now=1200)
    assert rows(settled) == [("slate:r1/a", 1050, "click", 1.0, 0)]
    world.act("e2", 1300, "b")  # of no slate
    advance(world, settled, now=1400)
    behaviour = settled.behaviour(after=0, upto=9, sample=ALL)
    assert (behaviour["reward"].to_pylist(), behaviour["was_shown"].to_pylist()) == ([1.0, 1.0], [True, False])


def test_examples_of_another_rule_are_refused_by_name(world: World, settled: SettledExamples) -> None:
    world.act("e1", 1010, "a")
    advance(world, settled, now=1020)
    with pytest.raises(UsageError, match=rf"another reward rule \({RULE.digest}\).*\({OTHER.digest}\).*tfrec join --again"):
        advance(world, settled, now=1030, rule=OTHER)
    assert LabelRule(("x",), 100, SHOP, {}).digest == RULE.digest != LabelRule(ITEMS, 101, SHOP, {}).digest


def test_joined_again_known_parts_keep_their_numbers(world: World, settled: SettledExamples, tmp_path: Path) -> None:
    for n in range(5):
        world.act(f"e{n}", 1010 + 100 * n, "a", user=f"u{n}")
        advance(world, settled, now=1050 + 100 * n)
    before = [[row[0] for row in rows(settled, upto=upto)] for upto in (2, 5)]
    part = settle_again(world.log, tmp_path / "examples", OTHER, known=[2, 9], quarantine=None)
    again = SettledExamples(tmp_path / "examples")
    assert part == again.last()
    assert [(one.number, one.rule, one.behaviour) for one in again.parts(0, 9)] == [(2, OTHER.digest, 2), (5, OTHER.digest, 5)]
    assert [[row[0] for row in rows(again, upto=upto)] for upto in (2, 5)] == before
    assert {row[3] for row in rows(again)} == {2.0}
    world.act("e9", 1600, "a", user="u9")
    assert advance(world, again, now=1700, rule=OTHER) == 6


def test_behaviour_is_of_those_who_act_those_who_are_named_and_a_sample(world: World, settled: SettledExamples) -> None:
    for n in range(40):
        world.act(f"e{n}", 1000 + n, "a", user=f"u{n}")
    advance(world, settled, now=1050)
    world.act("new", 1060, "b", user="u7")
    advance(world, settled, now=1070)

    def read(sample: Buckets, **named: object) -> list[tuple[str, bool]]:
        found = settled.behaviour(after=1, upto=2, sample=sample, **named)
        return [(user, part > 1) for user, part in zip(found["user"].to_pylist(), found["seq"].to_pylist(), strict=True)]

    nobody = Buckets.share(0.0, seed=3)
    assert read(nobody) == [("u7", False), ("u7", True)]
    assert read(nobody, users=["u9", "nobody"]) == [("u7", False), ("u9", False), ("u7", True)]
    assert len(read(ALL)) == 41
    halves = [{user for user, _ in read(Buckets.share(0.5, seed=seed))} for seed in (0, 32_768)]
    assert halves[0] | halves[1] == {f"u{n}" for n in range(40)}
    assert halves[0] & halves[1] == {"u7"}
    counts = settled.item_counts(since=1001, upto=2, period=60).to_pylist()
    assert [tuple(row.values()) for row in counts] == [("a", 16, 19), ("a", 17, 20), ("b", 17, 1)]


def test_what_was_searched_and_chosen(world: World, settled: SettledExamples) -> None:
    world.show("r1", 1000, "a", "b", query="heat")
    world.show("r2", 1001, "c")
    world.act("e1", 1010, "b", request="r1")
    world.act("e2", 1011, "c", request="r2")
    advance(world, settled, now=1200)
    expected = pa.table({"query": ["heat"], "item": ["b"], "reward": [1.0]})
    assert settled.searches(upto=1).equals(expected)

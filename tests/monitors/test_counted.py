"""What is counted of a log, by hand: windows of 1,000 s that end at 10,000, a horizon of 100 s."""
import json

import pytest

from tests.data.labels.world import World
from tfrec.config import load_config
from tfrec.monitors.counted import counted
from tfrec.monitors.windows import LookWindows

WINDOWS = LookWindows(end=10_000, length=1_000, count=3, horizon=100)


def context(**profile):
    return {"profile": profile}


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "log")


def looked(world, tmp_path, read, *, settings=()):
    """What `read` says of the counts."""
    world.window(None, now=1)
    config = load_config(None, [f"run={tmp_path}", f"data.log={tmp_path / 'log'}", "reward.weights={click=1.0, purchase=5.0}",
                                *settings])
    with counted(config, WINDOWS, lengths={"watch": {"a": 200.0}}) as counts:
        return read(counts)


def by_window(cells, *columns):
    return [[float(one) for one in row] for row in cells.sums(*columns).sum(axis=0)]


def test_outcomes_count_once_within_the_horizon_of_the_request_that_they_name(world, tmp_path):
    world.show("r1", 9_500, "a", "b", user="u1")
    world.show("r2", 9_600, "a", user="u2")
    world.show("old", 8_100, "a", user="u1")
    world.act("e1", 9_510, "a", request="r1", user="u1")
    world.act("e2", 9_512, "a", request="r1", user="u1")  # again
    world.act("e3", 9_520, "a", "purchase", request="r1", user="u1")
    world.act("e4", 9_701, "a", request="r2", user="u2")  # too late
    world.act("e5", 9_610, "b", request="r2", user="u2")  # was not shown there
    world.act("e6", 9_610, "a", request="unknown", user="u2")
    found = looked(world, tmp_path, lambda counts: by_window(counts.requests(), "requests", "reward", "acted", "told"))
    assert found == [[0, 0, 0, 0], [1, 0, 0, 0], [2, 6, 1, 2]]


def test_an_outcome_without_a_request_is_of_the_latest_one_that_showed_its_user_the_item(world, tmp_path):
    world.show("r1", 9_500, "a", user="u1")
    world.show("r2", 9_550, "a", user="u1")
    world.show("r3", 9_560, "b", user="u1")
    world.act("e1", 9_570, "a", user="u1")
    world.act("e2", 9_570, "a", user="u2")  # nobody showed it to them
    world.act("e3", 9_500, "b", user="u1")  # before it was shown
    told = looked(world, tmp_path, lambda counts: [(row["request_id"], row["delay"]) for row in counts.credited.to_pylist()])
    assert told == [("r2", 20)]


def test_an_empty_log_and_one_without_outcomes(world, tmp_path):
    world.show("r1", 9_500, "a")
    assert looked(world, tmp_path, lambda counts: (
        by_window(counts.requests(), "requests", "told"), counts.credited.num_rows, counts.newest_outcome(),
        counts.actions().by_part(most=5)[0])) == ([[0, 0], [0, 0], [1, 0]], 0, None, [])


def test_requests_outside_the_windows_do_not_count(world, tmp_path):
    world.show("before", 6_999, "a")
    world.show("first", 7_000, "a")
    world.show("last", 9_999, "a")
    world.show("after", 10_000, "a")
    assert looked(world, tmp_path, lambda counts: by_window(counts.requests(), "requests")) == [[1], [0], [1]]


def test_the_reward_is_that_of_the_configuration(world, tmp_path):
    world.show("r1", 9_500, "a")
    world.act("e1", 9_550, "a", "watch", request="r1", value=50.0)
    found = looked(world, tmp_path, lambda counts: by_window(counts.requests(), "reward"), settings=[
        "reward.weights={watch=2.0}", "reward.lengths={watch='seconds'}"])
    assert found[-1] == [0.5]  # a quarter of the 200 s of item a


def test_parts_sources_and_values_that_anybody_may_write(world, tmp_path):
    odd = "x'; DROP \"y"
    world.show("r1", 9_500, "a", context={"device": odd, "profile": {"app_version": "1", odd: "v"}})
    world.show("r2", 9_501, "a", "b", context={"place": "ulm"})
    world.show("r3", 9_502, "c")
    world.act("e", 9_510, "b", request="r2")

    def read(counts):
        told = {name: counts.parts(name) for name in ("device", "place", "policy", "version", odd)}
        return (counts.requests().values("source"), {name: cells.values("part") for name, cells in told.items()},
                by_window(counts.requests().without(["1"]), "requests")[-1],
                {part: by_window(counts.positions().only("part", part), "n", "acted")[-1] for part in "01"})

    sources, parts, rest, positions = looked(world, tmp_path, read)
    assert sources == ["", "1"]
    assert parts == {"device": ["", odd], "place": ["", "ulm"], "policy": ["greedy"], "version": ["3"], odd: ["", "v"]}
    assert rest == [2]
    assert positions == {"0": [3, 0], "1": [1, 1]}


def test_numbers_of_the_context_are_told_apart_by_tenths_of_what_they_were(world, tmp_path):
    for n in range(20):
        world.show(f"o{n}", 8_000 + n, "a", user=f"u{n}", context=context(age=str(n)))
    for n, age in enumerate(["0", "100", "none", ""]):
        world.show(f"n{n}", 9_000 + n, "a", context=context(age=age))
    names, sums = looked(world, tmp_path, lambda counts: counts.context("age", number=True).by_part(most=20))
    newest = dict(zip(names, sums.sum(axis=0)[-1].tolist(), strict=False))
    assert {name: n for name, n in newest.items() if n} == {"0": 1, "9": 1, "": 2}


def test_coverage_counts_items_and_those_of_one_group(world, tmp_path):
    for user in ("u1", "u2", "u3"):
        world.show(f"r{user}", 9_500, "a", user=user)
    world.show("r", 9_500, "b", user="u1")
    items, alone = looked(world, tmp_path, lambda counts: counts.coverage([]))
    assert (items.tolist(), alone.sum()) == ([0, 0, 2], 1)


def test_items_that_the_window_before_did_not_show_are_new(world, tmp_path):
    world.show("r1", 8_500, "a")
    world.show("r2", 9_500, "a", "b", "c")
    assert looked(world, tmp_path, lambda counts: by_window(counts.newcomers(), "new", "n")) == [[0, 0], [1, 1], [2, 3]]


def test_pins_own_weights_and_answers_without_a_model_are_not_calibrated(world, tmp_path):
    pinned = {"rules": {"version": "1", "names": ["n"], "pinned": ["a"]}}
    contexts = {"context": json.dumps(pinned)}, {"context": json.dumps({"head_weights": {"click": 1.0}})}
    for number, more in enumerate([{}, *contexts, {"policy": "popularity"}]):
        given = {"request_id": f"r{number}", "time": 9_500, "user": "u", "model_version": 3, "policy": "greedy",
                 "slate": [{"item": "a", "position": 0, "score": -1.0}, {"item": "b", "position": 1, "score": -2.0}]} | more
        world.seq["w"] += 1
        world.log.append("impressions", [(world.seq["w"], json.dumps(given))], writer="w")
        world.act(f"e{number}", 9_510, "a", request=f"r{number}")
    found = looked(world, tmp_path, lambda counts: by_window(counts.calibration(), "expected", "earned"),
                   settings=["ranker.heads={click=0.5, purchase=1}"])
    assert found[-1] == [pytest.approx(0.36788, abs=1e-5), 0.5]

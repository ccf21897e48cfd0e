"""Counts that roll on between publishes: what is overridden, when, and what a new version takes over."""
import itertools
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tfrec.errors import ModelError
from tfrec.gateway.first_seen import FirstSeen
from tfrec.gateway.live_popularity import LivePopularity
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.release.popularity_files import HIDDEN_FILE, read_hidden, read_prior, write_prior

IDS = ["a", "b", "c", "d"]
EXPORT = 1_000_000  # the clock of the exported prior
NOW = EXPORT + 100
TIMES = 200  # that each event happens: enough to be seen in p, whatever it is smoothed with


_people = itertools.count()
KNOWN = [f"u{n}" for n in range(20_000)]  # people with a history


def prior_of(*events: tuple[str, int]) -> PopularityPrior:
    prior = PopularityPrior(len(IDS))
    prior.update([IDS.index(item) for item, _ in events] * TIMES, [time for _, time in events] * TIMES)
    return prior


def fresh_of(lookup: Callable[[], Path | None], *, known: Sequence[str] = KNOWN, **settings: Any) -> LivePopularity:
    """One to which those who are `known` are no newcomers."""
    first_seen = FirstSeen()
    first_seen.fill(known, [0] * len(known))
    return LivePopularity(lookup, first_seen=first_seen, **settings)


def observe(fresh: LivePopularity, *events: tuple[str, int]) -> None:
    """Each event happens to TIMES people."""
    for item, time in events:
        users = [KNOWN[next(_people) % len(KNOWN)] for _ in range(TIMES)]
        fresh.observe(users, [item] * TIMES, [time] * TIMES)


def version(path: Path, *events: tuple[str, int]) -> Path:
    path.mkdir()
    write_prior(path, prior_of(*events), IDS)
    return path


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    return version(tmp_path / "1", ("a", EXPORT), ("a", EXPORT), ("b", EXPORT))


def test_nothing_has_moved_before_anything_happens(exported: Path) -> None:
    ids, log_p = fresh_of(lambda: exported, limit=4).override(NOW)
    assert (ids, log_p.tolist(), log_p.dtype) == ([], [], np.float32)


def test_the_items_that_moved_most_come_first_with_the_log_p_of_now(exported: Path) -> None:
    fresh = fresh_of(lambda: exported, limit=2)
    observe(fresh, ("c", NOW - 1), ("c", NOW))
    now = prior_of(("a", EXPORT), ("a", EXPORT), ("b", EXPORT), ("c", NOW - 1), ("c", NOW)).log_p()
    ids, log_p = fresh.override(NOW)
    # c rises from next to nothing to about 2/5; a falls by 2/3 - 2/5, b by 1/3 - 1/5
    assert ids == ["c", "a"]
    assert_allclose(log_p, now[[2, 0]], rtol=1e-6)
    assert fresh_of(lambda: exported, limit=0).override(NOW).ids == []


def test_an_answer_holds_for_a_second(exported: Path) -> None:
    fresh = fresh_of(lambda: exported, limit=4)
    assert fresh.override(NOW + 0.1).ids == []
    observe(fresh, ("c", NOW))
    assert fresh.override(NOW + 0.9).ids == []
    moved = fresh.override(NOW + 1.0)
    assert moved.ids[0] == "c"
    assert fresh.override(NOW + 2.0) is moved


def test_items_that_the_version_does_not_know_are_left_out(exported: Path) -> None:
    fresh = fresh_of(lambda: exported, limit=4)
    observe(fresh, ("new", NOW))
    assert fresh.override(NOW).ids == []


def test_a_time_to_come_counts_as_now(exported: Path) -> None:
    wrong, right = fresh_of(lambda: exported, limit=4), fresh_of(lambda: exported, limit=4)
    observe(wrong, ("c", NOW + 10**9))
    observe(right, ("c", NOW))
    assert wrong.override(NOW).ids == right.override(NOW).ids
    assert_array_equal(wrong.override(NOW).log_p, right.override(NOW).log_p)


def test_a_new_version_counts_again_what_came_after_its_clock(tmp_path: Path, exported: Path) -> None:
    live = [exported]
    fresh = fresh_of(lambda: live[0], limit=4)
    observe(fresh, ("c", NOW - 50), ("d", NOW))
    assert sorted(fresh.override(NOW).ids) == IDS
    # this version has counted c, not d
    live[0] = version(tmp_path / "2", ("a", EXPORT), ("a", EXPORT), ("b", EXPORT), ("c", NOW - 50))
    fresh.override(NOW + 1)
    fresh.wait_until_loaded()
    ids, log_p = fresh.override(NOW + 1)
    now = prior_of(("a", EXPORT), ("a", EXPORT), ("b", EXPORT), ("c", NOW - 50), ("d", NOW)).log_p()
    assert ids[0] == "d"
    assert_allclose(log_p, now[[IDS.index(item) for item in ids]], rtol=1e-6)
    # and this one both, so nothing has moved
    live[0] = version(tmp_path / "3", ("c", NOW - 50), ("d", NOW))
    fresh.override(NOW + 2)
    fresh.wait_until_loaded()
    assert fresh.override(NOW + 2).ids == []


def test_outcomes_of_before_the_first_version_are_counted_on_it(exported: Path) -> None:
    live: list[Path | None] = [None]
    fresh = fresh_of(lambda: live[0], limit=4)
    observe(fresh, ("d", NOW), ("b", EXPORT))
    assert fresh.override(NOW).ids == []
    live[0] = exported
    moved = fresh.override(NOW + 1)
    assert moved.ids[0] == "d"
    now = prior_of(("a", EXPORT), ("a", EXPORT), ("b", EXPORT), ("d", NOW)).log_p()
    assert_allclose(moved.log_p, now[[IDS.index(item) for item in moved.ids]], rtol=1e-6)


def test_only_the_newest_outcomes_are_remembered(tmp_path: Path, exported: Path) -> None:
    live: list[Path | None] = [None]
    fresh = fresh_of(lambda: live[0], limit=1, remembered=2 * TIMES)
    observe(fresh, ("c", NOW))
    observe(fresh, ("d", NOW), ("d", NOW))
    fresh.override(NOW)
    live[0] = exported
    expected = prior_of(("a", EXPORT), ("a", EXPORT), ("b", EXPORT), ("d", NOW), ("d", NOW)).log_p()
    ids, log_p = fresh.override(NOW + 1)
    assert ids == ["d"]
    assert_allclose(log_p, expected[[3]], rtol=1e-6)


def test_a_version_without_a_prior_is_left_as_it_is(tmp_path: Path, exported: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "0").mkdir()
    live = [tmp_path / "0"]
    fresh = fresh_of(lambda: live[0], limit=4)
    observe(fresh, ("c", NOW))
    with caplog.at_level(logging.WARNING):
        assert [fresh.override(NOW + later).ids for later in range(3)] == [[], [], []]
    assert len(caplog.records) == 1
    assert "prior.npz" in caplog.text
    live[0] = exported
    assert fresh.override(NOW + 3).ids[0] == "c"


def test_ids_hold_any_character(tmp_path: Path) -> None:
    ids = ["a\nb", '"quoted"', "\u2028", "Amélie, 2001"]
    write_prior(tmp_path, PopularityPrior(4), ids)
    prior, found = read_prior(tmp_path)
    assert (len(prior), found) == (4, ids)
    with pytest.raises(ModelError, match="an id for each of the prior's 4 items, got 1"):
        write_prior(tmp_path, prior, ["a"])


@pytest.mark.parametrize("lines", ['"a"\n', "a\nb\nc\nd\n", "1\n2\n3\n4\n", None])
def test_a_list_of_items_that_does_not_fit_is_named(exported: Path, lines: str | None) -> None:
    (exported / "items.jsonl").unlink()
    if lines is not None:
        (exported / "items.jsonl").write_text(lines)
    with pytest.raises(ModelError, match=r"items\.jsonl: expected"):
        read_prior(exported)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.tuples(st.sampled_from(IDS), st.integers(EXPORT, NOW)), max_size=5), max_size=5))
def test_with_the_override_every_item_has_the_p_of_now(
    tmp_path_factory: pytest.TempPathFactory, seconds: list[list[tuple[str, int]]]
) -> None:
    counted = [("a", EXPORT), ("b", EXPORT - 50_000)]
    path = version(tmp_path_factory.mktemp("versions") / "1", *counted)
    served = prior_of(*counted).log_p()
    fresh = fresh_of(lambda: path, limit=4)
    fresh.override(NOW)
    for second, events in enumerate(seconds, start=1):
        observe(fresh, *events)
        ids, log_p = fresh.override(NOW + second)
    if seconds:
        served[[IDS.index(item) for item in ids]] = log_p
    assert_allclose(served, prior_of(*counted, *(event for events in seconds for event in events)).log_p(), rtol=1e-5)


def test_threads_lose_no_outcome(exported: Path) -> None:
    fresh = fresh_of(lambda: exported, limit=4)

    def work(item: str) -> None:
        for n in range(TIMES):
            fresh.observe([KNOWN[n]], [item], [NOW])
            fresh.override(NOW + n)

    threads = [threading.Thread(target=work, args=(item,)) for item in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids, log_p = fresh.override(NOW + 1000)
    events = [("a", EXPORT), ("a", EXPORT), ("b", EXPORT), *((item, NOW) for item in IDS)]
    assert sorted(ids) == IDS
    assert_allclose(log_p, prior_of(*events).log_p()[[IDS.index(item) for item in ids]], rtol=1e-6)


def test_it_does_not_import_tensorflow() -> None:
    code = "import sys, tfrec.gateway.live_popularity; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], timeout=60, check=False).returncode == 0


def test_the_most_popular_items_of_now_without_those_that_must_not_be_shown(tmp_path: Path) -> None:
    write_prior(tmp_path, prior_of(("a", EXPORT), ("a", EXPORT), ("b", EXPORT)), IDS, hidden=["b"])
    fresh = fresh_of(lambda: tmp_path, limit=4)
    assert_array_equal(fresh.popular(NOW, 9).ids, ["a", "c", "d"])  # equal ones in their order
    observe(fresh, ("d", NOW), ("d", NOW), ("d", NOW), ("b", NOW))
    ids, log_p = fresh.popular(NOW + 1, 2)
    assert ids == ["d", "a"]
    assert log_p[0] > log_p[1]
    assert fresh.popular(NOW + 1, 1).ids == ["d", "a"]  # at least as many as were asked for
    assert fresh.popular(NOW + 1, 3).ids == ["d", "a", "c"]
    assert fresh_of(lambda: None, limit=4).popular(NOW, 1) is None


def test_a_list_of_hidden_items_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / HIDDEN_FILE).write_text("{")
    with pytest.raises(ModelError, match="unavailable.json: expected a JSON list of ids"):
        read_hidden(tmp_path)


CHOICE = st.tuples(st.integers(1, 4), st.sampled_from(["v", "w", "x", "y"]), st.sampled_from(IDS))


@pytest.mark.parametrize("known", ["", "uvwxy"])
@settings(deadline=None, max_examples=60)
@given(st.lists(CHOICE, max_size=12), st.lists(st.tuples(st.integers(1, 4), st.sampled_from(IDS)), max_size=12))
def test_a_single_user_moves_nobody_elses_answer(
    tmp_path_factory: pytest.TempPathFactory, known: str, others: list[tuple[int, str, str]], mine: list[tuple[int, str]]
) -> None:
    """Of items that fewer than two others chose, whatever one user does changes nothing at all. Of the others only the first
    choice of each counts."""
    path = tmp_path_factory.mktemp("versions") / "1"
    version(path, ("a", EXPORT), ("a", EXPORT), ("b", EXPORT))
    quiet = {item for item in IDS if len({user for _, user, other in others if other == item}) < 2}
    first = {item: second for second, item in sorted(mine, reverse=True, key=lambda choice: choice[0]) if item not in quiet}

    def answers(choices: list[tuple[int, str, str]]) -> list[Any]:
        fresh = fresh_of(lambda: path, limit=4, known=known)
        found = []
        for second in range(1, 5):
            now = [(user, item, NOW + second) for when, user, item in choices if when == second]
            fresh.observe(*zip(*now, strict=True)) if now else None
            ids, log_p = fresh.override(NOW + second)
            found.append((ids, log_p.tolist()))
        return found

    with_me = answers([*others, *((second, "u", item) for second, item in mine)])
    assert with_me == answers([*others, *((second, "u", item) for item, second in first.items())])


def test_an_item_moves_once_three_people_chose_it_and_each_counts_once(exported: Path) -> None:
    fresh = fresh_of(lambda: exported, limit=4)
    for second, user in enumerate(["u0", "u1", "u0", "u1"]):
        fresh.observe([user] * 99, ["c"] * 99, [NOW + second] * 99)
        assert fresh.override(NOW + second).ids == []
    assert fresh.damped() == (2, 0.0, "")
    fresh.observe(["u2", "u0"], ["c", "c"], [NOW + 9, NOW + 9])
    ids, log_p = fresh.override(NOW + 9)
    now = prior_of(("a", EXPORT), ("a", EXPORT), ("b", EXPORT))
    now.update([2, 2, 2], [NOW, NOW + 1, NOW + 9])
    assert_allclose(log_p, now.log_p()[[IDS.index(item) for item in ids]], rtol=1e-6)
    assert ("c" in ids, fresh.damped()) == (True, (0, 0.0, ""))


def test_newcomers_count_as_far_as_others_agree(exported: Path) -> None:
    fresh = fresh_of(lambda: exported, limit=4)
    rush = [f"new{n}" for n in range(50)]
    fresh.observe(rush, ["c"] * 50, [NOW] * 50)
    ids, log_p = fresh.override(NOW)
    now = prior_of(("a", EXPORT), ("a", EXPORT), ("b", EXPORT))
    now.update([2] * 50, [NOW] * 50, newcomer=[True] * 50)
    assert_allclose(log_p, now.log_p()[[IDS.index(item) for item in ids]], rtol=1e-6)
    # 600 events of people with a history of 2 items: 3 * (0 + 1) / (600 + 1) * (0 + (600 + 1) / (2 + 1)) = 1 of the 50 weighs
    damped = fresh.damped()
    assert (damped.few, round(damped.newcomers, 2), damped.most) == (0, 49.0, "c")
    # a day after they came they are newcomers no more
    fresh.observe(rush, ["b"] * 50, [NOW + 86_400] * 50)
    ids, log_p = fresh.override(NOW + 86_400)
    now.update([1] * 50, [NOW + 86_400] * 50)
    assert_allclose(log_p, now.log_p()[[IDS.index(item) for item in ids]], rtol=1e-6)


def test_no_claim_makes_anybody_known_for_longer() -> None:
    first_seen = FirstSeen(most=2)
    assert first_seen.is_newcomer("u", 0, now=NOW)
    assert first_seen.is_newcomer("u", NOW + 86_399, now=NOW + 86_399)
    assert not first_seen.is_newcomer("u", NOW + 86_400, now=NOW + 86_400)
    first_seen.fill("vw", [0, 0])
    assert [first_seen.is_newcomer(user, NOW, now=NOW) for user in "wuv"] == [False, True, True]  # two are remembered


def test_requests_are_answered_while_a_new_version_loads(
    tmp_path: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, begun, go = [exported], threading.Event(), threading.Event()
    fresh = fresh_of(lambda: live[0], limit=4)
    observe(fresh, ("c", NOW))
    before = fresh.override(NOW)
    assert before.ids[0] == "c"

    def slow(path: Path) -> tuple[PopularityPrior, list[str]]:
        begun.set()
        assert go.wait(60)
        return read_prior(path)

    monkeypatch.setattr("tfrec.gateway.live_popularity.read_prior", slow)
    live[0] = version(tmp_path / "2", ("c", NOW), ("d", NOW))
    assert fresh.override(NOW + 1) is before
    assert begun.wait(60)
    observe(fresh, ("a", NOW + 2))
    fresh.override(NOW + 2)
    assert [fresh.override(NOW + 3).ids != [], len(fresh.popular(NOW + 3, 2).ids)] == [True, 2]
    go.set()
    fresh.wait_until_loaded()
    ids, log_p = fresh.override(NOW + 3)
    now = prior_of(("c", NOW), ("d", NOW), ("a", NOW + 2)).log_p()  # what came meanwhile is in it
    assert ids[0] == "a"
    assert_allclose(log_p, now[[IDS.index(item) for item in ids]], rtol=1e-6)

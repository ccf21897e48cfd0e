"""Counts that roll on between publishes: what is overridden, when, and what a new version takes over."""
import logging
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tfrec.errors import ModelError
from tfrec.models.prior import PopularityPrior
from tfrec.serving.freshness import HIDDEN_FILE, Freshness, read_hidden, read_prior, write_prior

IDS = ["a", "b", "c", "d"]
EXPORT = 1_000_000  # the clock of the exported prior
NOW = EXPORT + 100
TIMES = 200  # that each event happens: enough to be seen in p, whatever it is smoothed with


def prior_of(*events: tuple[str, int]) -> PopularityPrior:
    prior = PopularityPrior(len(IDS))
    prior.update([IDS.index(item) for item, _ in events] * TIMES, [time for _, time in events] * TIMES)
    return prior


def observe(fresh: Freshness, *events: tuple[str, int]) -> None:
    fresh.observe([item for item, _ in events] * TIMES, [time for _, time in events] * TIMES)


def version(path: Path, *events: tuple[str, int]) -> Path:
    path.mkdir()
    write_prior(path, prior_of(*events), IDS)
    return path


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    return version(tmp_path / "1", ("a", EXPORT), ("a", EXPORT), ("b", EXPORT))


def test_nothing_has_moved_before_anything_happens(exported: Path) -> None:
    ids, log_p = Freshness(lambda: exported, limit=4).override(NOW)
    assert (ids, log_p.tolist(), log_p.dtype) == ([], [], np.float32)


def test_the_items_that_moved_most_come_first_with_the_log_p_of_now(exported: Path) -> None:
    fresh = Freshness(lambda: exported, limit=2)
    observe(fresh, ("c", NOW - 1), ("c", NOW))
    now = prior_of(("a", EXPORT), ("a", EXPORT), ("b", EXPORT), ("c", NOW - 1), ("c", NOW)).log_p()
    ids, log_p = fresh.override(NOW)
    # c rises from next to nothing to about 2/5; a falls by 2/3 - 2/5, b by 1/3 - 1/5
    assert ids == ["c", "a"]
    assert_allclose(log_p, now[[2, 0]], rtol=1e-6)
    assert Freshness(lambda: exported, limit=0).override(NOW).ids == []


def test_an_answer_holds_for_a_second(exported: Path) -> None:
    fresh = Freshness(lambda: exported, limit=4)
    assert fresh.override(NOW + 0.1).ids == []
    observe(fresh, ("c", NOW))
    assert fresh.override(NOW + 0.9).ids == []
    moved = fresh.override(NOW + 1.0)
    assert moved.ids[0] == "c"
    assert fresh.override(NOW + 2.0) is moved


def test_items_that_the_version_does_not_know_are_left_out(exported: Path) -> None:
    fresh = Freshness(lambda: exported, limit=4)
    observe(fresh, ("new", NOW))
    assert fresh.override(NOW).ids == []


def test_a_time_to_come_counts_as_now(exported: Path) -> None:
    wrong, right = Freshness(lambda: exported, limit=4), Freshness(lambda: exported, limit=4)
    observe(wrong, ("c", NOW + 10**9))
    observe(right, ("c", NOW))
    assert wrong.override(NOW).ids == right.override(NOW).ids
    assert_array_equal(wrong.override(NOW).log_p, right.override(NOW).log_p)


def test_a_new_version_counts_again_what_came_after_its_clock(tmp_path: Path, exported: Path) -> None:
    live = [exported]
    fresh = Freshness(lambda: live[0], limit=4)
    observe(fresh, ("c", NOW - 50), ("d", NOW))
    assert sorted(fresh.override(NOW).ids) == IDS
    # this version has counted c, not d
    live[0] = version(tmp_path / "2", ("a", EXPORT), ("a", EXPORT), ("b", EXPORT), ("c", NOW - 50))
    ids, log_p = fresh.override(NOW + 1)
    now = prior_of(("a", EXPORT), ("a", EXPORT), ("b", EXPORT), ("c", NOW - 50), ("d", NOW)).log_p()
    assert ids[0] == "d"
    assert_allclose(log_p, now[[IDS.index(item) for item in ids]], rtol=1e-6)
    # and this one both, so nothing has moved
    live[0] = version(tmp_path / "3", ("c", NOW - 50), ("d", NOW))
    assert fresh.override(NOW + 2).ids == []


def test_outcomes_of_before_the_first_version_are_counted_on_it(exported: Path) -> None:
    live: list[Path | None] = [None]
    fresh = Freshness(lambda: live[0], limit=4)
    observe(fresh, ("d", NOW), ("b", EXPORT))
    assert fresh.override(NOW).ids == []
    live[0] = exported
    moved = fresh.override(NOW + 1)
    assert moved.ids[0] == "d"
    now = prior_of(("a", EXPORT), ("a", EXPORT), ("b", EXPORT), ("d", NOW)).log_p()
    assert_allclose(moved.log_p, now[[IDS.index(item) for item in moved.ids]], rtol=1e-6)


def test_only_the_newest_outcomes_are_remembered(tmp_path: Path, exported: Path) -> None:
    live: list[Path | None] = [None]
    fresh = Freshness(lambda: live[0], limit=1, remembered=2 * TIMES)
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
    fresh = Freshness(lambda: live[0], limit=4)
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
    fresh = Freshness(lambda: path, limit=4)
    fresh.override(NOW)
    for second, events in enumerate(seconds, start=1):
        observe(fresh, *events)
        ids, log_p = fresh.override(NOW + second)
    if seconds:
        served[[IDS.index(item) for item in ids]] = log_p
    assert_allclose(served, prior_of(*counted, *(event for events in seconds for event in events)).log_p(), rtol=1e-5)


def test_threads_lose_no_outcome(exported: Path) -> None:
    fresh = Freshness(lambda: exported, limit=4)

    def work(item: str) -> None:
        for n in range(TIMES):
            fresh.observe([item], [NOW])
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
    code = "import sys, tfrec.serving.freshness; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], timeout=60, check=False).returncode == 0


def test_the_most_popular_items_of_now_without_those_that_must_not_be_shown(tmp_path: Path) -> None:
    write_prior(tmp_path, prior_of(("a", EXPORT), ("a", EXPORT), ("b", EXPORT)), IDS, hidden=["b"])
    fresh = Freshness(lambda: tmp_path, limit=4)
    assert_array_equal(fresh.popular(NOW, 9).ids, ["a", "c", "d"])  # equal ones in their order
    observe(fresh, ("d", NOW), ("d", NOW), ("d", NOW), ("b", NOW))
    ids, log_p = fresh.popular(NOW + 1, 2)
    assert ids == ["d", "a"]
    assert log_p[0] > log_p[1]
    assert fresh.popular(NOW + 1, 1).ids == ["d", "a"]  # at least as many as were asked for
    assert fresh.popular(NOW + 1, 3).ids == ["d", "a", "c"]
    assert Freshness(lambda: None, limit=4).popular(NOW, 1) is None


def test_a_list_of_hidden_items_may_be_missing_but_not_broken(tmp_path: Path) -> None:
    assert read_hidden(tmp_path) == []
    (tmp_path / HIDDEN_FILE).write_text("{")
    with pytest.raises(ModelError, match="unavailable.json: expected a JSON list of ids"):
        read_hidden(tmp_path)

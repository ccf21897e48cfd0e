"""Rows that leave a log of little windows: those that are old and settled, all others not, whatever happens on the way."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.labels.world import ITEMS, SHOP, World
from tests.data.settled.test_settle import RULE, advance, rows
from tests.object_store import local_s3, needs_s3
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.schema import KINDS
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.settled.examples import SettledExamples
from tfrec.data.settled.settle_again import settle_again

ROOT = Path(__file__).parents[3]
ATTRIBUTION, SPARE = RULE.attribution_seconds, 2000
KILLED = """
import os, signal, sys
from pathlib import Path
from unittest import mock
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.settled.examples import SettledExamples
root, name = Path(sys.argv[1]), sys.argv[2]
settled = SettledExamples(root / "examples")
with mock.patch(name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)):
    settled.drop_outdated(before=30_000, upto=4)
    FeedbackLog(root / "log").drop_outdated(settled.last().window, before=30_000, spare=2000)
"""


def times(log: FeedbackLog) -> dict[str, list[tuple[str, int, int]]]:
    return {kind: sorted((row["writer"], row["seq"], row["time"]) for row in log.read(kind).to_pylist()) for kind in KINDS}


def day(world: World, n: int, *, writer: str = "w") -> None:
    """A slate and what came of it, 10,000 seconds a day."""
    world.show(f"r{n}", 10_000 * n, "a", "b", writer=writer)
    world.act(f"e{n}", 10_000 * n + 10, "b", request=f"r{n}", writer=writer)


def drop(world: World, settled: SettledExamples, *, before: int, upto: int) -> None:
    settled.drop_outdated(before=before, upto=upto)
    last = settled.last()
    assert last is not None
    world.log.drop_outdated(last.window, before=before, spare=SPARE)


def test_what_is_old_and_settled_leaves(tmp_path: Path) -> None:
    world, settled = World(tmp_path / "log"), SettledExamples(tmp_path / "examples")
    for n in range(1, 6):
        day(world, n)
        advance(world, settled, now=10_000 * n + 5000)
    world.act("late", 10_000, "c", writer="other")  # of long ago, and nobody has settled it
    world.window(None, now=1)
    whole, parts = rows(settled), settled.parts(0, 5)

    drop(world, settled, before=40_000, upto=5)
    assert [time for *_, time in times(world.log)["impressions"]] == [40_000, 40_000, 50_000, 50_000]
    assert sorted(time for *_, time in times(world.log)["outcomes"]) == [10_000, 40_010, 50_010]
    assert rows(settled) == [row for row in whole if row[1] >= 40_000]
    assert (settled.table.gone(), world.log.tables["outcomes"].gone()) == (3, 30_010)
    assert settled.parts(0, 9) == parts[3:]
    assert settled.behaviour_gone() == 4

    before = settled.table.open().version(), world.log.tables["outcomes"].open().version()
    drop(world, settled, before=40_000, upto=5)
    assert (settled.table.open().version(), world.log.tables["outcomes"].open().version()) == before  # nothing to do
    assert advance(world, settled, now=60_000) == 6  # the late one is settled now
    assert [row[0] for row in rows(settled)][0] == "organic:u/late"


def test_who_wrote_and_how_far_is_not_forgotten(tmp_path: Path) -> None:
    world, settled = World(tmp_path / "log"), SettledExamples(tmp_path / "examples")
    day(world, 1)
    waiting = list(world.waiting)
    for now in (15_000, 90_000):
        world.act(f"now{now}", now - 10, "c")
        advance(world, settled, now=now)
    drop(world, settled, before=80_000, upto=2)
    assert world.log.last_seq("w") == 4
    assert [seq for _, seq, _ in times(world.log)["outcomes"]] == [4]
    for kind, writer, seq, record in waiting:  # its write-ahead file is replayed
        FeedbackLog(world.log.root).append(kind, [(seq, record)], writer=writer)
    assert [seq for _, seq, _ in times(world.log)["outcomes"]] == [4]
    assert times(world.log)["impressions"] == []
    assert advance(world, settled, now=90_001) == 2
    assert SettledExamples(tmp_path / "examples").last() == settled.last()


@pytest.mark.parametrize(("name", "has_left"), [
    ("tfrec.data.feedback_log.commits.Commits.commit", False),  # the new file of the examples is there, and no commit names it
    ("tfrec.data.feedback_log.log.FeedbackLog.drop_outdated", True),  # the examples have left, the rows of the log have not
])
def test_killed_in_the_middle_it_is_done_again(tmp_path: Path, name: str, has_left: bool) -> None:
    """The rows are all there or have all left, and the next run removes the rest."""
    world, settled = World(tmp_path / "log"), SettledExamples(tmp_path / "examples")
    for n in range(1, 5):
        day(world, n)
        advance(world, settled, now=10_000 * n + 5000)
    whole = rows(settled)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), name], env=os.environ | {"PYTHONPATH": str(ROOT)},
                           capture_output=True, text=True, timeout=300)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    kept = [row for row in whole if row[1] >= 30_000]
    assert rows(settled) == (kept if has_left else whole)
    drop(world, settled, before=30_000, upto=4)
    assert rows(settled) == kept
    settled.maintain(retention_hours=0)
    world.log.maintain(retention_hours=0)
    assert len(list((tmp_path / "examples").glob("*.parquet"))) == 1
    assert rows(settled) == kept


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(ITEMS), st.booleans()), min_size=3, max_size=9),
       st.sets(st.integers(1, 11)), st.lists(st.integers(0, 7), max_size=3))
def test_cut_at_any_day_the_rest_is_as_before(tmp_path_factory, events, cuts, days):
    """Twice the same log: what stays of the one that rows left is what the other one says of that time, now and later."""
    root = tmp_path_factory.mktemp("cut")
    kept, cut = (World(root / name) for name in ("kept", "cut"))
    tables = {id(kept): SettledExamples(root / "of-kept"), id(cut): SettledExamples(root / "of-cut")}
    before = 0
    for n, (when, item, is_asked) in enumerate(events):
        now = 10_000 * (n // 2 + 1) + 1000 * (n % 2)
        for world in (kept, cut):
            world.show(f"r{n}", now, item, "d" if item != "d" else "a", writer=f"w{when}")
            world.act(f"e{n}", now + 5 * when, item, request=f"r{n}" if is_asked else None, writer=f"w{when % 2}")
            if n in cuts:
                advance(world, tables[id(world)], now=now + 500)
        last = tables[id(cut)].last()
        if last is not None and days:
            before = max(before, min(10_000 * days.pop(), last.window.now - ATTRIBUTION - 1800))
            drop(cut, tables[id(cut)], before=before, upto=last.number)
    for world in (kept, cut):
        advance(world, tables[id(world)], now=10_000 * 9)
    assert [r for r in rows(tables[id(cut)]) if r[1] >= before + ATTRIBUTION] == [
        r for r in rows(tables[id(kept)]) if r[1] >= before + ATTRIBUTION]
    again = settle_again(cut.log, root / "of-cut", LabelRule(ITEMS, ATTRIBUTION, SHOP, {}), known=(), quarantine=None)
    assert again is not None
    assert [r for r in rows(tables[id(cut)]) if r[1] >= before + ATTRIBUTION] == [
        r for r in rows(tables[id(kept)]) if r[1] >= before + ATTRIBUTION]


@needs_s3
def test_in_an_object_store_the_same_rows_leave() -> None:
    with local_s3():
        world, settled = World("s3://bucket/log"), SettledExamples("s3://bucket/examples")
        for n in (1, 2, 3):
            day(world, n, writer="o'brien")
            advance(world, settled, now=10_000 * n + 5000)
        world.act("late", 10_000, "c", writer="other")
        world.window(None, now=1)
        whole = rows(settled)
        drop(world, settled, before=30_000, upto=3)
        assert rows(settled) == [row for row in whole if row[1] >= 30_000]
        assert [time for *_, time in times(world.log)["impressions"]] == [30_000, 30_000]
        assert sorted(time for *_, time in times(world.log)["outcomes"]) == [10_000, 30_010]
        assert (settled.table.gone(), world.log.tables["outcomes"].gone(), world.log.last_seq("o'brien")) == (2, 20_010, 6)

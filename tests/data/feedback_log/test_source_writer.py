"""A source that can be read again: its records are in the log once, whatever is killed, and how far it was read is known."""
from contextlib import suppress
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.source_writer import SourceBatch, SourceWriter, Written
from tfrec.data.records import Impression, Outcome, Shown
from tfrec.errors import DataError


def outcome(n):
    return n, Outcome(event_id=f"e{n}", user="u", item="i", action="click", time=5).model_dump_json()


def impression(n):
    slate = (Shown(item="a", position=0, score=1.0), Shown(item="b", position=1, score=0.0))
    return n, Impression(request_id=f"r{n}", time=5, user="u", policy="p", model_version=1, slate=slate).model_dump_json()


def batch(*, shown=(), done=(), upto):
    return SourceBatch([impression(n) for n in shown], [outcome(n) for n in done], upto)


def events(log):
    rows = log.read("outcomes").sort_by([("writer", "ascending"), ("seq", "ascending")])
    return rows["event_id"].to_pylist()


@pytest.fixture
def log(tmp_path):
    return FeedbackLog(tmp_path / "log")


@pytest.fixture
def aside():
    return []


@pytest.fixture
def writer(log, aside):
    return SourceWriter(log, lambda *what: aside.append(what))


def test_rows_and_positions_of_many_writers_are_in_one_commit(log, writer):
    found = writer.commit({"k:t:0": batch(shown=[1, 4], done=[2], upto=9), "k:t:1": batch(upto=7)})
    assert found == {"k:t:0": Written(2, 1, 0), "k:t:1": Written(0, 0, 0)}
    assert [writer.position(name) for name in ("k:t:0", "k:t:1", "k:t:2")] == [9, 7, 0]
    assert {kind: table.open().version() for kind, table in log.tables.items()} == {"impressions": 1, "outcomes": 1}
    assert log.read("impressions")["seq"].to_pylist() == [1, 1, 4, 4]


def test_what_is_read_again_is_left_out_and_counted(log, writer):
    writer.commit({"k": batch(shown=[1], done=[2, 3], upto=5)})
    again = SourceWriter(log, lambda *what: None)
    assert again.commit({"k": batch(shown=[1], done=[2, 3, 6], upto=6)}) == {"k": Written(0, 1, 3)}
    assert again.commit({"k": batch(done=[2, 3, 6], upto=6)}) == {"k": Written(0, 0, 3)}
    assert events(log) == ["e2", "e3", "e6"]


def test_after_a_kill_between_the_tables_nothing_is_lost_or_twice(log, writer, monkeypatch):
    monkeypatch.setattr(log.tables["outcomes"], "append_all", lambda parts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        writer.commit({"k": batch(shown=[1, 3], done=[2, 4], upto=9)})
    monkeypatch.undo()
    assert (writer.position("k"), writer.newest("k")) == (0, 9)
    assert writer.commit({"k": batch(shown=[1], done=[2], upto=2)}) == {"k": Written(0, 1, 1)}  # in other parts than before
    assert writer.commit({"k": batch(shown=[3, 10], done=[4], upto=12)}) == {"k": Written(1, 1, 1)}
    assert sorted(log.read("impressions")["request_id"].to_pylist()) == ["r1", "r1", "r10", "r10", "r3", "r3"]
    assert events(log) == ["e2", "e4"]


def test_positions_survive_maintenance_and_other_writers(log, writer):
    for n in range(1, 7):
        writer.commit({"k": batch(upto=n), "other": batch(done=[n], upto=n)})
    log.maintain(retention_hours=0)
    fresh = SourceWriter(FeedbackLog(log.root), lambda *what: None)
    assert (fresh.position("k"), fresh.position("other")) == (6, 6)
    assert fresh.commit({"k": batch(done=[6, 7], upto=7)}) == {"k": Written(0, 1, 1)}


def test_a_record_that_no_table_can_hold_is_set_aside_and_holds_up_nothing(log, writer, aside):
    bad = 4, '{"event_id": "e4", "time": "soon"}'
    lines = [outcome(1), outcome(2), bad, outcome(5)]
    found = writer.commit({"k": SourceBatch([], lines, 8), "other": batch(done=[1], upto=3)})
    assert found == {"k": Written(0, 3, 0, unwritable=1), "other": Written(0, 1, 0)}
    assert (writer.position("k"), writer.position("other")) == (8, 3)
    ((name, seq, payload, reason),) = aside
    assert (name, seq, payload, "outcomes: no rows" in reason) == ("k", *bad, True)
    assert events(log) == ["e1", "e2", "e5", "e1"]


def test_a_log_that_cannot_be_written_keeps_the_position(log, writer, tmp_path):
    (tmp_path / "log").write_text("a file")
    with pytest.raises(DataError, match="log"):
        writer.commit({"k": batch(done=[1], upto=1)})


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 5), st.booleans()), max_size=8))
def test_whatever_is_read_again_each_record_is_there_once(tmp_path_factory, steps):
    log = FeedbackLog(tmp_path_factory.mktemp("log"))
    writer, done = SourceWriter(log, lambda *what: None), 0
    for more, back, dies in steps:  # reads on from where the log is, or again from before
        start = max(0, writer.position("k") - back)
        stop = start + more
        ns = range(start + 1, stop + 1)
        read = batch(shown=[n for n in ns if n % 3 == 0], done=[n for n in ns if n % 3], upto=stop)
        if dies:  # between the tables
            with mock.patch.object(log.tables["outcomes"], "append_all", side_effect=DataError), suppress(DataError):
                writer.commit({"k": read})
        else:
            writer.commit({"k": read})
            done = max(done, stop)
    assert writer.position("k") == done
    assert sorted(log.read("outcomes")["seq"].to_pylist()) == [n for n in range(1, done + 1) if n % 3]
    shown = range(3, writer.newest("k") + 1, 3)
    assert sorted(log.read("impressions")["seq"].to_pylist()) == sorted([*shown, *shown])  # two items each

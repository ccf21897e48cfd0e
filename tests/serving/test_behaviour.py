"""The memory of what users did: sorted, bounded, without repeats, filled again from the log."""
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.data.log import FeedbackLog
from tfrec.serving.behaviour import Behaviour, Event, newest_outcomes


def test_events_come_back_oldest_first_whatever_their_order() -> None:
    behaviour = Behaviour()
    behaviour.add([("u", Event(30, "c", "click")), ("u", Event(10, "a", "click"))])
    behaviour.add([("u", Event(20, "b", "view")), ("u", Event(10, "a", "click"))])
    assert [event.item for event in behaviour.of("u")] == ["a", "b", "c"]
    assert [event.item for event in behaviour.of("u", before=30)] == ["a", "b"]
    assert [event.item for event in behaviour.of("u", before=10)] == []
    assert behaviour.of("nobody") == ()


def test_the_newest_events_and_the_latest_users_stay() -> None:
    behaviour = Behaviour(users=2, events=2)
    behaviour.add([("u", Event(time, f"i{time}", "")) for time in (3, 1, 2)])
    assert [event.item for event in behaviour.of("u")] == ["i2", "i3"]
    behaviour.add([("v", Event(1, "x", ""))])
    behaviour.of("u")
    behaviour.add([("w", Event(1, "x", ""))])
    assert (len(behaviour.of("u")), len(behaviour.of("v")), len(behaviour.of("w"))) == (2, 0, 1)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("ab")), max_size=20), st.integers(1, 4))
def test_it_keeps_the_newest_distinct_events(seen: list[tuple[int, str]], size: int) -> None:
    behaviour = Behaviour(events=size)
    for time, item in seen:
        behaviour.add([("u", Event(time, item, ""))])
    assert list(behaviour.of("u")) == [Event(time, item, "") for time, item in sorted(set(seen))][-size:]


def test_it_is_filled_from_the_log(tmp_path: Path) -> None:
    log = FeedbackLog(tmp_path)
    assert newest_outcomes(log).num_rows == 0
    row = {"event_id": "e", "request_id": None, "user": "u", "action": "click", "value": 1.0}
    log.append("outcomes", [(1, {**row, "item": "b", "time": 20}), (2, {**row, "item": "a", "time": 10})], writer="w")
    behaviour = Behaviour()
    behaviour.fill(newest_outcomes(log))
    assert behaviour.of("u") == (Event(10, "a", "click"), Event(20, "b", "click"))

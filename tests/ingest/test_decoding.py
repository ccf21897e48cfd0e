"""Messages in tfrec's own format, whatever they hold."""
import json

import pytest

from tests.ingest.broker import click, slate
from tfrec.data.records import Impression, Outcome
from tfrec.ingest.decoding import Fault, decode_tfrec


def decoded(content):
    (found,) = decode_tfrec(content if isinstance(content, (bytes, dict)) else json.dumps(content).encode())
    return found


def test_a_row_with_a_slate_is_an_impression_and_any_other_one_an_outcome():
    shown, done = decode_tfrec(json.dumps([slate(1, query="film"), click(2, request_id="r1")]).encode())
    assert isinstance(shown, Impression)
    assert isinstance(done, Outcome)
    assert (shown.query, done.request_id) == ("film", "r1")
    assert decode_tfrec(b"[]") == []


@pytest.mark.parametrize("content", [
    click(1, value=None, request_id=None),
    click(1, request_id=""),
    click(2, event_id="e1"),
    click(1, time="5", value="1"),
    click(1, item="i", unknown={"a": [1]}),
    b"\xef\xbb\xbf" + json.dumps(click(1)).encode(),
    b'\n {"event_id": "e1", "user": "u1", "item": "i", "action": "click", "time": 5.0} ',
    dict(click(1), slate=None),  # a row of Parquet has all columns
])  # fmt: skip
def test_the_same_outcome_in_many_ways(content):
    found = decoded(content)
    assert isinstance(found, Outcome)
    assert (found.event_id, found.item, found.time, found.value, found.request_id) == ("e1", "i", 5, 1.0, None)


def test_an_outcome_without_an_id_has_one_that_is_made_of_what_it_says():
    one = click(1, event_id=None, request_id="r1", value=2)
    others = [one | {name: value} for name, value in
              {"user": "v", "item": "j", "action": "buy", "time": 6, "value": 3, "request_id": "r2"}.items()]
    assert decoded(one).event_id == decoded(dict(reversed(one.items()))).event_id
    assert len({decoded(each).event_id for each in (one, *others)}) == 7
    missing = decoded({"user": "u", "item": "i"})
    assert isinstance(missing, Fault)
    assert missing.row == {"user": "u", "item": "i"}


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "not JSON"),
    (b"nonsense", "not JSON"),
    (b'{"event_id": "e1"', "not JSON"),
    (b'{"user": "\xff"}', "not UTF-8 (byte 0xff)"),
    (b"[" * 9000, "not JSON"),
    (b'{"slate": 1, "slate": 2}', "not JSON"),
    (b"7", "expected a JSON object, or a list of them, got 7"),
    ([click(1)], ""),
    ([[click(1)]], "expected a JSON object"),
    (click(1, user="a\nb"), '"user": expected one line'),
    (click(1, user="a\0b"), '"user": holds a zero byte'),
    (click(1, user="\ud800"), '"user"'),
    (click(1, time=1_790_000_000_000), '"time"'),  # milliseconds
    (click(1, value=float("nan")), '"value"'),
    (click(1, usr="u", user=None), '"user": field required'),
    (slate(1, slate=[]), '"slate"'),
    (slate(1, slate=[{"item": "a"}]), '"slate.0.position"'),
    (slate(1, history=["a"], history_time=[1, 2]), "history_time must be empty or as long as history"),
    (slate(1, context={"place": "x" * 600}), '"context.place"'),
])  # fmt: skip
def test_what_is_no_record_is_a_fault_that_says_why(content, reason):
    found = decoded(content)
    assert isinstance(found, Fault) == bool(reason)
    assert not reason or reason in found.reason

"""Documents of UBI 1.0, as OpenSearch and its JavaScript client write them, and as people's own programs do."""
import json
import time

import pyarrow.parquet as pq
import pytest

from tfrec.data.records import Impression, Outcome
from tfrec.ingest.decoding import Fault, LeftOut
from tfrec.ingest.ubi import decode_ubi

QUERY = {  # the fields of the standard's query schema
    "application": "shop",
    "query_id": "q-1",
    "client_id": "client-1",
    "user_query": "laptop",
    "query_attributes": {"page": 2, "filter": None},
    "object_id_field": "asin",
    "timestamp": "2024-11-19T18:00:00.123Z",
    "query_response_id": "qr-1",
    "query_response_hit_ids": ["B01", "B02", "B03"],
}
EVENT = {  # and of its event schema
    "application": "shop",
    "action_name": "click",
    "query_id": "q-1",
    "session_id": "s-1",
    "client_id": "client-1",
    "timestamp": 1732039260500,
    "message_type": "INFO",
    "message": "clicked",
    "event_attributes": {
        "object": {"object_id": "B02", "object_id_field": "asin", "name": None},
        "position": {"ordinal": 2, "x": 10, "y": 20},
    },
}


def decoded(document):
    (found,) = decode_ubi(json.dumps(document).encode())
    return found


def without(document, *names, **other):
    return {name: value for name, value in document.items() if name not in names} | other


def test_a_query_becomes_an_impression_and_an_event_an_outcome_of_it():
    shown, done = decoded(QUERY), decoded(EVENT)
    assert isinstance(shown, Impression)
    assert (shown.request_id, shown.user, shown.query, shown.time) == ("q-1", "client-1", "laptop", 1732039200)
    assert [(one.item, one.position) for one in shown.slate] == [("B01", 0), ("B02", 1), ("B03", 2)]
    assert {one.log_propensity for one in shown.slate} == {None}
    assert (shown.policy, shown.model_version, shown.context.place) == ("ubi", 0, "shop")
    assert isinstance(done, Outcome)
    assert (done.request_id, done.user, done.item, done.action, done.time) == ("q-1", "client-1", "B02", "click", 1732039260)


@pytest.mark.parametrize(("written", "seconds"), [
    ("2024-11-19T18:00:00.999Z", 1732039200),
    ("2024-11-19T20:00:00+02:00", 1732039200),
    ("2024-11-19T18:00:00", 1732039200),  # UTC
    ("2024-11-19", 1731974400),
    (1732039200, 1732039200),
    (1732039200.7, 1732039200),
    (1732039200999, 1732039200),
    ("1732039200999", 1732039200),
])  # fmt: skip
def test_times(written, seconds):
    assert decoded(without(EVENT, timestamp=written)).time == seconds
    assert decoded(without(QUERY, timestamp=written)).time == seconds


@pytest.mark.parametrize("written", ["yesterday", "", None, -1, [], 1e300, "Infinity", "NaN"])
def test_what_is_no_time_is_a_fault(written):
    found = decoded(without(EVENT, timestamp=written))
    assert isinstance(found, Fault)
    assert '"timestamp"' in found.reason


def test_an_event_that_is_sent_twice_has_the_same_id_and_another_one_has_another():
    assert decoded(EVENT).event_id == decoded(dict(reversed(EVENT.items()))).event_id
    assert decoded(without(EVENT, session_id="\ud800")).event_id
    others = [without(EVENT, action_name="buy"), without(EVENT, timestamp=1732039260501), without(EVENT, client_id="c"),
              without(EVENT, query_id="q"), without(EVENT, session_id="s"),
              without(EVENT, event_attributes={"object": {"object_id": "B03"}})]
    assert len({decoded(one).event_id for one in [EVENT, *others]}) == 7
    assert decoded({"_id": "doc-1", "_source": EVENT}).event_id == "doc-1"


def test_who_is_not_named_is_known_by_the_query():
    shown, done = decoded(without(QUERY, "client_id")), decoded(without(EVENT, "client_id"))
    assert shown.user == done.user == "q-1"
    assert decoded(without(QUERY, "client_id", user_id="ann")).user == "ann"
    assert decoded(without(EVENT, "query_id")).request_id is None
    nobody = decoded(without(EVENT, "client_id", "query_id"))
    assert isinstance(nobody, Fault)
    assert '"client_id": field required' in nobody.reason


@pytest.mark.parametrize(("document", "reason"), [
    (without(EVENT, "event_attributes", action_name="logout"), "event without an object"),
    (without(EVENT, event_attributes={"object": None, "dwell_time": 3}), "event without an object"),
    (without(EVENT, action_name="impression"), "impression of one item"),
    (without(QUERY, "query_response_hit_ids"), "query without hits"),
    (without(QUERY, query_response_hit_ids=[]), "query without hits"),
])  # fmt: skip
def test_what_is_right_and_is_no_record_is_left_out(document, reason):
    assert decoded(document) == LeftOut(reason)


@pytest.mark.parametrize(("document", "word"), [
    (without(EVENT, event_attributes={"object": {"name": "no id"}}), "object_id"),
    (without(EVENT, event_attributes="text"), "event_attributes"),
    (without(QUERY, query_response_hit_ids="B01"), "query_response_hit_ids"),
    (without(QUERY, query_response_hit_ids=["B01", None]), "query_response_hit_ids"),
    ({"_source": 3}, "_source"),
    ({"user": "u"}, "expected a document of UBI"),
    (7, "expected a JSON object"),
])  # fmt: skip
def test_what_is_no_document_is_a_fault(document, word):
    found = decoded(document)
    assert isinstance(found, Fault)
    assert word in found.reason


def test_ids_may_be_numbers_and_hits_may_be_repeated():
    shown = decoded(without(QUERY, query_response_hit_ids=[7, "8", 7]))
    assert [(one.item, one.position) for one in shown.slate] == [("7", 0), ("8", 1)]
    assert decoded(without(EVENT, event_attributes={"object": {"object_id": 7}})).item == "7"


def test_a_list_of_hits_of_a_search():
    hits = [{"_index": "ubi_queries", "_id": "a", "_source": QUERY}, {"_index": "ubi_events", "_id": "b", "_source": EVENT}]
    assert [type(one) for one in decode_ubi(json.dumps(hits).encode())] == [Impression, Outcome]


def test_documents_of_a_file_become_examples(call, tmp_path):
    day_ago = int(time.time() - 2 * 86_400) * 1000
    query = QUERY | {"timestamp": day_ago}
    event = EVENT | {"timestamp": day_ago + 9_000}
    hover = event | {"action_name": "item_hover", "event_attributes": {"object": {"object_id": "B03"}}}
    (tmp_path / "ubi.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (event, query, hover)))
    (tmp_path / "items.jsonl").write_text("".join(json.dumps({"id": f"B0{n}", "title": "laptop"}) + "\n" for n in range(1, 4)))
    run = "--set", f"run={tmp_path / 'run'}"
    assert call("ingest", "--from", "jsonl", "--format", "ubi", tmp_path / "ubi.jsonl", *run)[0] == 0
    code, _, err = call("join", "--items", tmp_path / "items.jsonl", "--output", tmp_path / "examples.parquet", *run)
    assert code == 0, err
    rows = pq.read_table(tmp_path / "examples.parquet").to_pylist()
    assert {row["item"]: (row["position"], row["reward"]) for row in rows} == {"B01": (0, 0.0), "B02": (1, 1.0), "B03": (2, 0.0)}
    assert "1 of 'item_hover'" in err

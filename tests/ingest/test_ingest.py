"""What happens between a message and the log, whatever a message says."""
import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ingest.broker import click, slate
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.source_writer import SourceWriter
from tfrec.data.people.erasures import Erasures
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.data.people.queries import query_keeper
from tfrec.data.readers.quarantine import Quarantine
from tfrec.errors import DataError
from tfrec.ingest.decoding import decode_tfrec
from tfrec.ingest.erased_users import ErasedUsers
from tfrec.ingest.ingest import Ingest
from tfrec.ingest.messages import Arrived, Message
from tfrec.ingest.ubi import decode_ubi

STEP = 4  # numbers of a message

FIELDS = st.sampled_from([
    "event_id", "user", "item", "action", "time", "value", "request_id", "slate", "policy", "position", "score", "context",
    "history", "query", "action_name", "query_id", "timestamp", "event_attributes", "object", "object_id",
    "query_response_hit_ids", "_source", "_id", "client_id",
    "session_id",
])  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\ud800", "\0", "a\nb"])
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=8),
                    max_leaves=20)


class Messages:
    """A source of contents, one in each arrival."""

    def __init__(self, contents, *, first=0):
        self._contents, self._first = contents, first

    def arrivals(self) -> Iterator[Arrived]:
        for n, content in enumerate(self._contents, start=self._first):
            yield {"s": [Message(n * STEP + 1, (n + 1) * STEP, "source", n, content)]}

    def committing(self):
        pass

    def committed(self, upto):
        self.upto = upto

    def label(self, writer):
        return writer

    def lag(self):
        return {}

    def size(self):
        return None

    def faults(self):
        return []

    def close(self):
        pass


class Prefixed(ErasedUsers):
    """Names users so that a test can read them."""

    def name(self, user, time):
        return f"p-{user}"


NOBODY = Pseudonyms(bytes(16))


class Run:
    """A run, and `read(contents)`, which ingests them."""

    def __init__(self, root):
        self.log, self._root = FeedbackLog(root / "log"), root
        self.writer = SourceWriter(self.log, self._set_aside)

    def _set_aside(self, name, seq, payload, reason):
        self.quarantine.add(name, seq, reason=reason, row=payload)

    def read(self, contents, *, decode=decode_tfrec, now=1000.0, **named):
        self.quarantine = Quarantine(self._root / "quarantine.jsonl", keep=True)
        work = Ingest(Messages(contents), self.writer, decode=decode, quarantine=self.quarantine,
                      clock=lambda: now, **{"users": Prefixed(NOBODY, None), **named})
        (part,) = work.run().parts or [None]
        return part

    def rows(self):
        path = self._root / "quarantine.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]] if path.exists() else []


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def json_of(*values):
    return [json.dumps(value).encode() for value in values]


def test_more_records_than_a_message_may_hold_are_set_aside(run):
    part = run.read(json_of([click(n) for n in range(STEP + 2)], click(9)))
    assert (part.outcomes, part.quarantined) == (STEP + 1, 1)
    (row,) = run.rows()
    assert (row["line"], row["reason"]) == (f"0 from record {STEP + 1}",
                                            f"more than {STEP} records in one message; those before this one are in the log")


def test_users_and_times_are_those_that_the_gateway_would_log(run):
    run.read(json_of(click(1, user="ann", time=999), slate(2, user="ann", time=1001)))
    for kind, time in (("outcomes", 999), ("impressions", 1000)):
        rows = run.log.read(kind)
        assert set(zip(rows["user"].to_pylist(), rows["time"].to_pylist(), strict=True)) == {("p-ann", time)}


def test_what_was_set_aside_before_a_kill_is_not_set_aside_twice(run, monkeypatch):
    contents = json_of(click(1), {"no": "record"}, click(2))
    with monkeypatch.context() as patch:
        patch.setattr(run.log.tables["outcomes"], "append_all", lambda parts: (_ for _ in ()).throw(DataError("killed")))
        with pytest.raises(DataError, match="killed"):
            run.read(contents)
    with (run.quarantine.path).open("a") as file:
        file.write('{"file": "sou')  # cut short
    assert run.read(contents).quarantined == 1
    (first, half) = run.quarantine.path.read_text().splitlines()
    assert (json.loads(first)["row"], half) == ({"no": "record"}, '{"file": "sou')
    assert run.log.read("outcomes")["event_id"].to_pylist() == ["e1", "e2"]


def test_a_commit_does_not_wait_when_much_was_read(run, tmp_path):
    long = "x" * 500
    contents, sizes = json_of(*(click(n, user=long, item=long, action=long) for n in range(12_000))), []
    users = ErasedUsers(NOBODY, None, pseudonymous=True)
    work = Ingest(Messages(contents), run.writer, decode=decode_tfrec, commit_seconds=600, users=users,
                  quarantine=Quarantine(tmp_path / "quarantine.jsonl"))
    work.run(on_commit=lambda: sizes.append(run.log.read("outcomes").num_rows))
    assert 9000 < sizes[0] < sizes[1] == 12_000


@pytest.mark.parametrize("decode", [decode_tfrec, decode_ubi])
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(contents=st.lists(st.binary(max_size=20) | st.none() | JSON.map(lambda value: json.dumps(value).encode()), min_size=1,
                         max_size=6))
def test_whatever_a_message_says_the_next_one_is_read(tmp_path_factory, decode, contents):
    run = Run(tmp_path_factory.mktemp("law"))
    part = run.read([*contents, *json_of(click(1))], decode=decode)
    assert part.read == len(contents) + 1
    assert run.writer.position("s") == STEP * (len(contents) + 1)
    assert len(run.rows()) == part.quarantined
    if decode is decode_tfrec:
        assert "e1" in run.log.read("outcomes")["event_id"].to_pylist()


def test_what_is_of_an_erased_user_is_left_out_and_the_rest_is_a_new_persons(run, tmp_path):
    people, erasures = Pseudonyms(bytes(16)), Erasures(str(tmp_path / "log"))
    old = people.of("u")
    erasures.add(people, old, time=500, part=None, in_base=False)
    contents = json_of(click(1, user="u", time=500), click(2, user="u", time=501), click(3, user="v", time=1),
                       slate(4, user="u", time=600, query="red hat"))
    part = run.read(contents, users=ErasedUsers(people, erasures), kept_query=query_keeper("drop", people))
    assert part.left_out == {"erased": 1}  # though it was erased when the ingest was at work already
    assert people.of("u") != old
    assert {row["user"] for row in run.log.read("outcomes").to_pylist()} == {people.of("u"), people.of("v")}
    assert {row["query"] for row in run.log.read("impressions").to_pylist()} == {"\x1a"}

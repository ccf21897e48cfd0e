"""Topics, over real sockets: from where they are read, and what is said when they or their brokers are not as they were."""
import json
import logging
import threading
import time
from collections import Counter

import confluent_kafka
import pytest

from tests.ingest.broker import Broker, Proxy, click, slate
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.source_writer import SourceWriter
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.data.readers.quarantine import Quarantine
from tfrec.errors import DataError, UsageError
from tfrec.ingest.decoding import decode_tfrec
from tfrec.ingest.erased_users import ErasedUsers
from tfrec.ingest.ingest import Ingest
from tfrec.ingest.job import ingest
from tfrec.ingest.kafka import KafkaSource
from tfrec.ingest.kafka_properties import client_properties


def from_the_beginning(writers):
    return dict.fromkeys(writers, 0)


@pytest.fixture(scope="module")
def broker():
    return Broker()


@pytest.fixture
def read(config, broker):
    """`read("clicks")` -> the report of an ingest up to the end of the topics."""
    return lambda *topics, **named: ingest(config, "kafka", topics, **{"servers": broker.address, **named})


class Following:
    """An ingest that follows, in a thread."""

    def __init__(self, run, topic, address, **named):
        self.stopping = threading.Event()
        self.log, self.error = FeedbackLog(run / "log"), None
        self._writer = SourceWriter(self.log, lambda *what: None)
        quarantine = Quarantine(run / "quarantine.jsonl", keep=True)
        self._words = topic, client_properties(None, address, group="tfrec"), quarantine, named
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        topic, properties, quarantine, named = self._words
        try:
            source = KafkaSource([topic], properties, name="kafka", positions=self._writer.positions, follow=True,
                                 stopping=self.stopping, **named)
            users = ErasedUsers(Pseudonyms(bytes(16)), None, pseudonymous=True)
            Ingest(source, self._writer, decode=decode_tfrec, quarantine=quarantine, users=users,
                   commit_seconds=0.05).run(stopping=self.stopping)
            source.close()
        except (DataError, UsageError) as error:
            self.error = error

    def events(self):
        return Counter(self.log.read("outcomes")["event_id"].to_pylist())

    def wait_for(self, events):
        until = time.monotonic() + 20
        while set(self.events()) != set(events):
            assert self.error is None
            assert time.monotonic() < until, self.events()
            time.sleep(0.05)
        assert max(self.events().values()) == 1

    def stop(self):
        self.stopping.set()
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()


def test_each_partition_goes_on_from_where_the_log_is(read, broker, run, logged):
    broker.send("mixed", [slate(1), click(1), [click(2), slate(2), click(3)]])
    broker.send("mixed", [click(4)], partition=1)
    first, second, *_ = read("mixed").parts
    assert (first.part, first.read, first.impressions, first.outcomes, first.lag) == ("mixed[0]", 3, 2, 3, 0)
    assert (second.part, second.read, second.outcomes) == ("mixed[1]", 1, 1)
    assert sum(part.read for part in read("mixed").parts) == 0
    broker.send("mixed", [click(5)])
    assert sum(part.read for part in read("mixed").parts) == 1
    assert logged() == (Counter(["r1", "r2"]), Counter(f"e{n}" for n in range(1, 6)))
    group = confluent_kafka.Consumer({"bootstrap.servers": broker.address, "group.id": "tfrec-kafka"})
    places = [confluent_kafka.TopicPartition("mixed", number) for number in range(2)]
    until, found = time.monotonic() + 20, list[int]()
    while found != [4, 1]:  # for those who watch the lag; nobody waits until a broker has noted it
        found = [place.offset for place in group.committed(places, timeout=10)]
        assert time.monotonic() < until, found
    group.close()
    writers = set(FeedbackLog(run / "log").read("outcomes")["writer"].to_pylist())
    assert writers == {"kafka:mixed:0", "kafka:mixed:1"}


def test_what_is_no_record_is_set_aside_with_its_offset_and_holds_up_nothing(read, broker, run, logged):
    bad = [b"no JSON", b"\xff", {"event_id": "x"}, [click(2), 7], b"[" * 9000]
    broker.send("bad", [None, b"", [], click(1), *bad, click(3)], partition=1)
    part = next(part for part in read("bad").parts if part.part == "bad[1]")
    assert (part.read, part.outcomes, part.quarantined, part.left_out) == (10, 3, 5, {"empty": 2})
    rows = [json.loads(line) for line in (run / "quarantine-ingest.jsonl").read_text().splitlines()]
    assert [(row["file"], row["line"]) for row in rows] == [("bad[1]", n) for n in (4, 5, 6, "7 record 2", 8)]
    assert all(row["reason"] for row in rows)
    assert rows[0]["row"] == "no JSON"
    assert "not JSON" in rows[0]["reason"]
    assert '"user"' in rows[2]["reason"]
    assert logged()[1] == Counter(["e1", "e2", "e3"])


def test_a_huge_message_and_one_of_many_records(read, broker, logged):
    broker.send("huge", [click(0, user="u" * 500, note="x" * 900_000), [click(n) for n in range(1, 9000)]])
    assert read("huge").parts[0].outcomes == 9000
    assert len(logged()[1]) == 9000


def test_users_get_pseudonyms_unless_they_are_some(read, broker, run):
    broker.send("users", [click(1, user="ann")])
    read("users")
    (known,) = FeedbackLog(run / "log").read("outcomes")["user"].to_pylist()
    assert len(known) == 32
    assert known != "ann"
    broker.send("users", [click(2, user="ann")])
    read("users", pseudonymous=True)
    assert set(FeedbackLog(run / "log").read("outcomes")["user"].to_pylist()) == {known, "ann"}


def test_a_clock_that_runs_ahead_counts_as_now(read, broker, run, caplog):
    broker.send("clocks", [click(1, time=5), click(2, time=1 << 39), click(3, time=4)])
    before = int(time.time())
    read("clocks")
    first, ahead, behind = FeedbackLog(run / "log").read("outcomes")["time"].to_pylist()
    assert (first, behind) == (5, 4)
    assert before <= ahead <= time.time()
    assert "1 records claim to be later than now" in caplog.text


def test_an_empty_topic_ends_at_once(read, broker, logged):
    broker.send("empty", [])
    broker.send("empty", [click(1)])
    read("empty")
    started = time.monotonic()
    assert sum(part.read for part in read("empty").parts) == 0
    assert time.monotonic() - started < 5


def test_a_topic_that_does_not_exist_is_named(read, broker):
    broker.send("clicks", [click(1)])
    with pytest.raises(UsageError, match="there is no topic 'clics'.*'clicks'.*create it"):
        read("clics")


def test_a_broker_that_is_not_there_is_named(config):
    with pytest.raises(DataError, match=r"127.0.0.1:9: no broker answered .* in 1 s \(.*refused.*Check the address"):
        KafkaSource(["clicks"], client_properties(None, "127.0.0.1:9", group="g"), name="kafka", positions=from_the_beginning,
                    follow=False, stopping=threading.Event(), wait_seconds=1)
    with pytest.raises(UsageError, match="--servers HOST:PORT"):
        ingest(config, "kafka", ["clicks"])


def test_a_broker_that_goes_away_and_comes_back(run, broker, caplog):
    caplog.set_level(logging.INFO)
    proxy = Proxy(broker)
    broker.send("outage", [click(1)])
    work = Following(run, "outage", proxy.address)
    work.wait_for(["e1"])
    proxy.stop()
    broker.send("outage", [click(2)])
    until = time.monotonic() + 10
    while "no broker can be reached" not in caplog.text and time.monotonic() < until:
        time.sleep(0.05)
    proxy.start()
    work.wait_for(["e1", "e2"])
    work.stop()
    assert caplog.text.count("no broker can be reached") == 1
    assert "brokers answer again" in caplog.text


def test_a_broker_that_stays_away_ends_a_run_that_does_not_follow(broker):
    proxy = Proxy(broker)
    broker.send("gone", [click(n, note="x" * 900_000) for n in range(5)])
    reads_little = {"queued.max.messages.kbytes": 1, "fetch.message.max.bytes": 1000}  # ahead of what is asked for
    source = KafkaSource(["gone"], {**client_properties(None, proxy.address, group="g"), **reads_little}, name="kafka",
                         positions=from_the_beginning, follow=False, stopping=threading.Event(), wait_seconds=1)
    proxy.stop()  # it knows how much there is, and cannot have been sent more than the first of it
    with pytest.raises(DataError, match="no answer for 1 s .*run this again and it goes on from there"):
        list(source.arrivals())
    source.close()


def test_what_retention_deleted_is_counted(read, broker, logged, caplog):
    broker.send("short", [click(1)])
    read("short")
    padding = "x" * 900_000  # this broker keeps 5 MB of a partition
    broker.send("short", [click(n, note=padding) for n in range(2, 14)])
    read("short")
    kept = set(logged()[1]) - {"e1"}
    assert 0 < len(kept) < 12
    assert "e13" in kept
    lost = 12 - len(kept)
    assert f"short[0]: {lost} messages are lost: the topic's retention deleted offsets 1 to {lost}" in caplog.text


def test_retention_may_overtake_a_run(read, broker, logged, monkeypatch, caplog):
    """The position is in the topic when the run begins, and before its beginning when it is read."""
    broker.send("chased", [click(n) for n in range(3)])
    read("chased")
    broker.send("chased", [click(n) for n in range(3, 6)])

    late = [click(n, note="x" * 900_000) for n in range(6, 18)]

    class Overtaken(confluent_kafka.Consumer):
        def incremental_assign(self, *words):
            broker.send("chased", late)
            late.clear()
            super().incremental_assign(*words)

    with monkeypatch.context() as patch:
        patch.setattr("tfrec.ingest.kafka.Consumer", Overtaken)
        read("chased")
    read("chased")
    kept = sorted(int(name[1:]) for name in logged()[1])
    lost = 18 - len(kept)
    assert kept == [0, 1, 2, *range(3 + lost, 18)]
    assert f"chased[0]: {lost} messages are lost: the topic's retention deleted offsets 3 to {lost + 2}" in caplog.text


def test_a_topic_that_was_made_anew_is_not_read_from_the_middle(read, broker, config, logged):
    broker.send("anew", [click(n) for n in range(9)])
    read("anew")
    other = Broker()
    other.send("anew", [click(20)])
    with pytest.raises(UsageError, match=r"anew\[0\]: the log has its messages up to offset 8, .* offset 1: .*name=kafka2"):
        read("anew", servers=other.address)
    config = config.model_copy(update={"ingest": config.ingest.model_copy(update={"name": "kafka2"})})
    assert sum(part.outcomes for part in ingest(config, "kafka", ["anew"], servers=other.address).parts) == 1


def test_partitions_that_are_made_later_are_read_from_their_beginning(run, broker, monkeypatch):
    is_hidden = threading.Event()
    is_hidden.set()

    class Growing(confluent_kafka.Consumer):
        """Does not see partition 1 at first: no broker here can add one."""

        def list_topics(self, *words, **named):
            found = super().list_topics(*words, **named)
            if is_hidden.is_set():
                for topic in found.topics.values():
                    topic.partitions.pop(1, None)
            return found

    monkeypatch.setattr("tfrec.ingest.kafka.Consumer", Growing)
    broker.send("grows", [click(1)])
    broker.send("grows", [click(2)], partition=1)
    work = Following(run, "grows", broker.address, refresh_seconds=0.2)
    work.wait_for(["e1"])
    is_hidden.clear()
    work.wait_for(["e1", "e2"])
    broker.send("grows", [click(3)])
    work.wait_for(["e1", "e2", "e3"])
    work.stop()


def test_two_processes_on_one_partition_are_slower_and_give_nothing_twice(run, broker):
    broker.send("shared", [click(0)])
    both = [Following(run, "shared", broker.address) for _ in range(2)]
    for n in range(1, 30):
        broker.send("shared", [click(n)])
        time.sleep(0.01)
    for work in both:
        work.wait_for([f"e{n}" for n in range(30)])
        work.stop()


def test_the_log_may_fail_for_a_while(run, broker, caplog):
    broker.send("full", [click(1)])
    work = Following(run, "full", broker.address)
    work.wait_for(["e1"])
    table = run / "log" / "outcomes"
    table.rename(run / "aside")
    table.write_text("no directory")
    broker.send("full", [click(2)])
    until = time.monotonic() + 10
    while "the log cannot be written, trying again" not in caplog.text and time.monotonic() < until:
        time.sleep(0.05)
    table.unlink()
    (run / "aside").rename(table)
    work.stop()  # which commits what was read
    assert work.events() == Counter(["e1", "e2"])

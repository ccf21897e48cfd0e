"""Reads Kafka topics, each partition from where the log says that it is.

A partition is a writer of the log, `NAME:TOPIC:PARTITION`. A record's number is made of its message's offset, so the log itself
holds the position; the offsets that are committed to Kafka are for those who watch the lag. Partitions are assigned and not
subscribed to: a process that was killed goes on at once when it is started again, without waiting until a group has noticed.
Two processes that read the same partition are slower, and nothing is there twice.
"""
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Raw

from tfrec.errors import DataError, UsageError
from tfrec.ingest.messages import Arrived, Message
from tfrec.nearest import nearest

_BITS = 16  # of a number, for the records of one message; 47 are left for its offset: 10,000 messages a second for 400 years
MAX_RECORDS = (1 << _BITS) - 1  # in one message
# codes of the client itself, which begin with an underscore
_END, _OUT_OF_RANGE, _TRUNCATED, _ALL_DOWN = (getattr(KafkaError, name) for name in (
    "_PARTITION_EOF", "_AUTO_OFFSET_RESET", "_LOG_TRUNCATION", "_ALL_BROKERS_DOWN"))
_UNREACHABLE = {_ALL_DOWN, *(getattr(KafkaError, name) for name in ("_TRANSPORT", "_RESOLVE", "_AUTHENTICATION", "_SSL"))}
_CONSUME = 5_000  # messages at once
_CONSUME_SECONDS = 0.1
log = logging.getLogger(__name__)

Partition = tuple[str, int]  # topic and number
Positions = Callable[[Sequence[str]], Mapping[str, int]]  # of writers


class KafkaSource:
    """Messages of topics.

    Args:
        topics: their names.
        properties: of the consumer, see `client_properties`.
        name: of the source, the first part of its writers' names.
        positions: how far writers are in the log.
        follow: go on at the end of the topics, until `stopping` is set.
        stopping: ends the reading.
        wait_seconds: for a broker at the start, and for an answer later on unless it follows.
        refresh_seconds: between two looks for new partitions.

    Raises:
        UsageError: a topic does not exist or may not be read, a property is wrong, or the topic holds less than was read of it.
        DataError: no broker answers.
    """

    def __init__(self, topics: Sequence[str], properties: Mapping[str, Any], *, name: str, positions: Positions, follow: bool,
                 stopping: threading.Event, wait_seconds: float = 30.0, refresh_seconds: float = 30.0) -> None:
        self._topics = tuple(dict.fromkeys(topics))
        self._name, self._positions, self._follow, self._stopping = name, positions, follow, stopping
        self._wait_seconds, self._refresh_seconds = wait_seconds, refresh_seconds
        self._servers = properties.get("bootstrap.servers", "the brokers")
        self._is_down, self._fault = False, ""  # whether no broker can be reached, and the last reason of the client
        self._warned: set[str] = set()
        self._next: dict[Partition, int] = {}  # the offset after what was read
        self._began: dict[Partition, int] = {}  # where reading began,
        self._end: dict[Partition, int] = {}  # and where the partition ended then
        self._patience = wait_seconds  # with brokers
        try:
            self._consumer = Consumer({**properties, "error_cb": self._on_error, "on_commit": self._on_commit})
        except (KafkaException, ValueError, TypeError) as error:
            raise UsageError(f"Kafka properties: {_words(error)}. They are named as librdkafka names them.") from error
        try:
            self._add(self._partitions())
        except BaseException:
            self._consumer.close()
            raise
        if follow:
            self._patience = math.inf

    def arrivals(self) -> Iterator[Arrived]:
        """Yield messages by writer. Partitions that are added later are read from their beginning."""
        silent, looked = 0.0, time.monotonic()
        while not self._stopping.is_set() and (self._follow or self._is_behind()):
            found: dict[Partition, list[Message]] = {}
            raws = self._consumer.consume(_CONSUME, timeout=_CONSUME_SECONDS)
            for raw in raws:
                self._take(raw, found)
            silent = 0.0 if raws else silent + _CONSUME_SECONDS
            if raws:
                self._is_up()
            elif not self._follow and silent > self._wait_seconds:
                why = self._fault or "no reason known"
                raise DataError(f"Kafka {self._servers}: no answer for {self._wait_seconds:.0f} s ({why}). What was "
                                "read is in the log: run this again and it goes on from there.")
            if self._follow and time.monotonic() - looked > self._refresh_seconds:
                self._look_for_partitions()
                looked = time.monotonic()
            yield {self._writer(one): messages for one, messages in found.items()}

    def committing(self) -> None:
        """Nothing is to be done before a commit."""

    def committed(self, upto: Mapping[str, int]) -> None:
        """Tell Kafka how far the log is, for those who watch the lag of the group."""
        writers = {self._writer(one): one for one in self._next}
        done = [TopicPartition(*writers[writer], seq >> _BITS) for writer, seq in upto.items() if writer in writers]
        if done:
            try:
                self._consumer.commit(offsets=done, asynchronous=True)
            except KafkaException as error:
                self._warn_once(f"the lag cannot be reported to Kafka ({_words(error)}); the log is right all the same")

    def label(self, writer: str) -> str:
        """Topic and partition, as in `clicks[3]`."""
        return next((_label(one) for one in self._next if self._writer(one) == writer), writer)

    def lag(self) -> dict[str, int]:
        """Messages that were not read yet, by writer."""
        return {self._writer(one): max(0, self._watermarks(one, cached=True)[1] - offset) for one, offset in self._next.items()}

    def size(self) -> tuple[int, int] | None:
        """Messages that were read of those that were there at the start; None when it follows."""
        if self._follow:
            return None
        left = sum(max(0, end - self._next[one]) for one, end in self._end.items())
        total = sum(end - self._began[one] for one, end in self._end.items())
        return total - left, total

    def faults(self) -> list[str]:
        """None: what is wrong with a topic ends the reading."""
        return []

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()

    def _writer(self, one: Partition) -> str:
        return f"{self._name}:{one[0]}:{one[1]}"

    def _partitions(self) -> list[Partition]:
        """All partitions of the topics.

        Raises:
            DataError: no broker answers in time.
            UsageError: a topic does not exist, or may not be read.
        """
        give_up, found = time.monotonic() + self._wait_seconds, list[Partition]()
        for topic in self._topics:
            while True:
                fault = ""
                try:
                    known = self._consumer.list_topics(topic, timeout=min(5.0, self._wait_seconds)).topics[topic]
                    if known.error is None:
                        found += [(topic, number) for number in sorted(known.partitions)]
                        break
                    self._refuse(topic, known.error)
                    fault = known.error.str()  # such as the election of a leader, which ends
                except KafkaException as error:
                    self._consumer.poll(0)  # for the client to say why
                    fault = self._fault or _words(error)
                if time.monotonic() > give_up or self._stopping.wait(0.2):
                    raise DataError(f"Kafka {self._servers}: no broker answered for the topic {topic!r} in "
                                    f"{self._wait_seconds:.0f} s ({fault}). Check the address, the network, and TLS and SASL in "
                                    "the file of ingest.kafka.")
        return found

    def _refuse(self, topic: str, error: KafkaError) -> None:
        """Raise what no waiting would mend."""
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_EXCEPTION):
            others = [name for name in self._consumer.list_topics(timeout=5.0).topics if not name.startswith("__")]
            raise UsageError(f"Kafka {self._servers}: there is no topic {topic!r}{nearest(topic, others)}. Check the name, or "
                             "create it.")
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise UsageError(f"Kafka {self._servers}: the topic {topic!r} may not be read. Allow it to the user of ingest.kafka.")

    def _add(self, partitions: Sequence[Partition]) -> None:
        """Read these partitions too, each from where the log is."""
        positions = self._positions([self._writer(one) for one in partitions])
        for one in partitions:
            start, self._end[one] = self._start(one, positions[self._writer(one)] >> _BITS)
            self._next[one] = self._began[one] = start
        self._consumer.incremental_assign([TopicPartition(*one, self._next[one]) for one in partitions])

    def _start(self, one: Partition, position: int) -> tuple[int, int]:
        """Where to begin, and where the partition ends now.

        Raises:
            UsageError: it ends before the position.
        """
        low, high = self._watermarks(one)
        if position > high:
            raise UsageError(
                f"Kafka {_label(one)}: the log has its messages up to offset {position - 1:,}, but it ends before offset "
                f"{high:,}: the topic was made anew, or the brokers lost messages. To read what it holds now from its "
                f"beginning, give the source another name: --set ingest.name={self._name}2.")
        if 0 < position < low:
            log.warning("Kafka %s: %s messages are lost: the topic's retention deleted offsets %s to %s before they were read. "
                        "Going on at %s", _label(one), f"{low - position:,}", f"{position:,}", f"{low - 1:,}", f"{low:,}")
        return max(position, low), high

    def _watermarks(self, one: Partition, *, cached: bool = False) -> tuple[int, int]:
        """The first offset of a partition, and the one after its last."""
        give_up = time.monotonic() + self._patience
        while True:
            try:
                wait = min(5.0, self._wait_seconds)
                found = self._consumer.get_watermark_offsets(TopicPartition(*one), timeout=wait, cached=cached)
                if found is not None:
                    return found
                fault = "no answer"
            except KafkaException as error:
                fault = self._fault or _words(error)
            if time.monotonic() > give_up or self._stopping.wait(0.2):
                raise DataError(f"Kafka {_label(one)}: its offsets cannot be read ({fault}). What was read is in the log: run "
                                "this again.")

    def _look_for_partitions(self) -> None:
        """Add partitions that were made since."""
        try:
            for topic in self._topics:
                known = self._consumer.list_topics(topic, timeout=2.0).topics[topic]
                new = [(topic, number) for number in sorted(known.partitions) if (topic, number) not in self._next]
                if new:
                    self._add(new)
                    log.info("Kafka %s: %d new partitions", topic, len(new))
        except KafkaException:
            return  # no broker answers: `_on_error` says so
        self._is_up()

    def _is_behind(self) -> bool:
        return any(self._next[one] < end for one, end in self._end.items())

    def _take(self, raw: Raw, found: dict[Partition, list[Message]]) -> None:
        """Note a message, or what the client says instead of one."""
        error, one, offset = raw.error(), (raw.topic() or "", raw.partition() or 0), raw.offset() or 0
        if error is None:
            self._next[one] = offset + 1
            number = offset << _BITS
            found.setdefault(one, []).append(Message(number + 1, number + (1 << _BITS), _label(one), offset, raw.value()))
        elif error.code() == _END and one in self._next:
            self._next[one] = max(self._next[one], offset)  # past what is no message, such as the marks of transactions
            self._end[one] = min(self._end[one], self._next[one])
        elif error.code() in (_OUT_OF_RANGE, _TRUNCATED) and one in self._next:
            self._next[one], _ = self._start(one, self._next[one])
            self._consumer.incremental_unassign([TopicPartition(*one)])  # it cannot seek in this state
            self._consumer.incremental_assign([TopicPartition(*one, self._next[one])])
        elif self._follow:
            self._warn_once(f"{_label(one)}: {error.str()}; trying again")
        else:
            raise DataError(f"Kafka {_label(one)}: {error.str()}. What was read is in the log: run this again when it is mended.")

    def _on_error(self, error: KafkaError) -> None:
        """Called by the client, which goes on trying. It repeats itself, so only the first word of an outage is passed on."""
        if error.code() in _UNREACHABLE:
            if error.code() != _ALL_DOWN:
                self._fault = error.str()
            elif not self._is_down:
                self._is_down = True
                log.warning("Kafka %s: no broker can be reached (%s), trying again", self._servers, self._fault or error.str())
        else:
            self._warn_once(error.str())

    def _is_up(self) -> None:
        if self._is_down:
            log.info("Kafka %s: brokers answer again", self._servers)
            self._warned.clear()
        self._is_down, self._fault = False, ""

    def _on_commit(self, error: KafkaError | None, _: list[TopicPartition]) -> None:
        if error is not None:
            self._warn_once(f"the lag cannot be reported to Kafka ({error.str()}); the log is right all the same")

    def _warn_once(self, words: str) -> None:
        if words not in self._warned:
            self._warned.add(words)
            log.warning("Kafka %s: %s", self._servers, words)


def _label(one: Partition) -> str:
    return f"{one[0]}[{one[1]}]"


def _words(error: BaseException) -> str:
    """What an exception of the client says, without its codes."""
    cause = error.args[0] if error.args else error
    return str(cause.str() if isinstance(cause, KafkaError) else cause)

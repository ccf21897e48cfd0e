"""The work of `tfrec ingest`: read a source, decode and check its messages, and commit their records, each once.

Users get the pseudonyms that the gateway gives them. A record that claims to be later than now counts as now, as in the gateway.
What cannot be used is in the quarantine, on disk, before the position in the log moves past it.
"""
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from pydantic_core import to_json

from tfrec.data.feedback_log.source_writer import SourceBatch, SourceWriter, Written
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.records import Impression, Outcome
from tfrec.errors import DataError
from tfrec.ingest.decoding import Decode, Fault, LeftOut
from tfrec.ingest.erased_users import ErasedUsers
from tfrec.ingest.messages import Message, Source
from tfrec.ingest.report import IngestReport, PartReport

_COMMIT_CHARACTERS = 16 << 20  # of JSON are committed without waiting: 80,000 outcomes, in 0.1 GB of memory
_RETRY_SECONDS = 5.0  # before a log that cannot be written is tried again
logger = logging.getLogger(__name__)


class Ingest:
    """Moves records of a source to the log.

    Args:
        source: what to read.
        writer: of the log.
        decode: of a message, see `decoding`.
        quarantine: for what cannot be used.
        users: names users, and knows who was erased.
        kept_query: what the log keeps of a query; by default all of it.
        commit_seconds: the longest time before what was read is committed.
        clock: seconds since 1970.
    """

    def __init__(self, source: Source, writer: SourceWriter, *, decode: Decode, quarantine: Quarantine,
                 users: ErasedUsers, kept_query: Callable[[str], str] = str, commit_seconds: float = 1.0,
                 clock: Callable[[], float] = time.time) -> None:
        self._source, self._writer, self._decode, self._quarantine = source, writer, decode, quarantine
        self._users, self._kept_query = users, kept_query
        self._commit_seconds, self._clock = commit_seconds, clock
        self._parts: dict[str, _Pending] = {}
        self._began = time.monotonic()
        self._ahead = 0

    def run(self, *, stopping: threading.Event | None = None, on_commit: Callable[[], None] = lambda: None) -> IngestReport:
        """Read until the source ends, and commit.

        Args:
            stopping: set when the source was asked to end; a log that cannot be written is tried again until then. None: it is
                an error at once.
            on_commit: called after each commit.

        Raises:
            DataError: the source or the log fails. What was committed stays; the rest is read again in the next run.
        """
        waits_since: float | None = None
        for arrived in self._source.arrivals():
            now = int(self._clock())
            for name, messages in arrived.items():
                part = self._parts.get(name) or self._parts.setdefault(name, _Pending(PartReport(self._source.label(name))))
                for message in messages:
                    self._take(part, message, now)
            if waits_since is None and any(arrived.values()):
                waits_since = time.monotonic()
            is_due = waits_since is not None and time.monotonic() - waits_since >= self._commit_seconds
            if is_due or sum(part.characters for part in self._parts.values()) >= _COMMIT_CHARACTERS:
                self._commit(stopping)
                waits_since = None
                on_commit()
        self._commit(stopping)
        on_commit()
        return self.report()

    def report(self) -> IngestReport:
        """The counts so far."""
        lags = self._source.lag()
        for name in lags:
            self._parts.setdefault(name, _Pending(PartReport(self._source.label(name))))
        for name, part in self._parts.items():
            part.report.lag = lags.get(name, 0)
        return IngestReport([part.report for part in self._parts.values()], round(time.monotonic() - self._began, 3))

    def _take(self, part: "_Pending", message: Message, now: int) -> None:
        """Decode a message and keep its records for the next commit."""
        part.report.read += 1
        found = (LeftOut("empty"),) if message.content in (None, b"") else self._decode(message.content)
        for index, record in enumerate(found):
            seq = message.seq + index
            if isinstance(record, LeftOut):
                part.left_out[record.reason] += 1
            elif isinstance(record, Fault):
                place = message.line if len(found) == 1 else f"{message.line} record {index + 1}"
                part.set_aside(self._quarantine, message.origin, place, record.reason, record.row)
            elif seq > message.upto:
                reason = f"more than {index:,} records in one message; those before this one are in the log"
                place = f"{message.line} from record {index + 1}"
                part.set_aside(self._quarantine, message.origin, place, reason, message.content)
                break
            else:
                line = self._line(record, now)
                if line is None:
                    part.left_out["erased"] += 1
                else:
                    part.add(record, seq, line)
        part.upto = message.upto

    def _line(self, record: Impression | Outcome, now: int) -> str | None:
        """A record as the log has it; None of a user who was erased since."""
        time = min(record.time, now)
        user = self._users.name(record.user, time)
        if user is None:
            return None
        changes = {"user": user, "time": time}
        self._ahead += record.time > now
        if isinstance(record, Outcome):  # its fields are plain
            return to_json({**record.__dict__, **changes}).decode()
        return record.model_copy(update=changes | {"query": self._kept_query(record.query)}).model_dump_json()

    def _commit(self, stopping: threading.Event | None) -> None:
        """Commit what was read; again and again when `stopping` is there and not set."""
        read = {name: part for name, part in self._parts.items() if part.upto}
        if not read:
            return
        while True:
            try:
                self._leave_out_erased()
                batches = {name: SourceBatch(part.impressions, part.outcomes, part.upto) for name, part in read.items()}
                self._quarantine.sync()
                self._source.committing()
                written = self._writer.commit(batches)
                break
            except (DataError, OSError) as error:
                if stopping is None or stopping.is_set():
                    raise
                logger.warning("the log cannot be written, trying again; nothing is lost: %s", error)
                stopping.wait(_RETRY_SECONDS)
        self._source.committed({name: batch.upto for name, batch in batches.items()})
        for name, done in written.items():
            self._parts[name].committed(done)
        if self._ahead:
            logger.warning("%s records claim to be later than now, and count as now: is a clock wrong?", f"{self._ahead:,}")
            self._ahead = 0


    def _leave_out_erased(self) -> None:
        """Leave out what was read of users who were erased meanwhile."""
        if self._users.refresh():
            for part in self._parts.values():
                before = len(part.impressions) + len(part.outcomes)
                part.impressions, part.outcomes = map(self._users.without_erased, (part.impressions, part.outcomes))
                part.left_out["erased"] += before - len(part.impressions) - len(part.outcomes)


class _Pending:
    """What was read of one part of the source and is not committed yet, and its counts."""

    def __init__(self, report: PartReport) -> None:
        self.report = report
        self.impressions: list[tuple[int, str]] = []
        self.outcomes: list[tuple[int, str]] = []
        self.left_out: Counter[str] = Counter()
        self.quarantined = 0
        self.upto = self.characters = 0  # 0: nothing was read

    def add(self, record: Impression | Outcome, seq: int, line: str) -> None:
        """Keep a record."""
        (self.outcomes if isinstance(record, Outcome) else self.impressions).append((seq, line))
        self.characters += len(line)

    def set_aside(self, quarantine: Quarantine, origin: str, line: int | str, reason: str, row: Any) -> None:
        """Put something into the quarantine."""
        quarantine.add(origin, line, reason=reason, row=row)
        self.quarantined += 1

    def committed(self, done: Written) -> None:
        """Count what was committed, and begin anew."""
        report = self.report
        report.impressions += done.impressions
        report.outcomes += done.outcomes
        report.duplicates += done.duplicates
        report.quarantined += self.quarantined + done.unwritable
        report.left_out += self.left_out
        self.impressions, self.outcomes, self.left_out = [], [], Counter()
        self.quarantined = self.upto = self.characters = 0

"""What `tfrec ingest` does: opens the source, moves its records to the feedback log of the run, and counts them."""
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tfrec.config import Config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.source_writer import SourceWriter
from tfrec.data.people.erasures import Erasures, load_people
from tfrec.data.people.queries import query_keeper
from tfrec.data.readers.quarantine import Quarantine
from tfrec.errors import UsageError
from tfrec.ingest.decoding import Decode, decode_tfrec
from tfrec.ingest.erased_users import ErasedUsers
from tfrec.ingest.ingest import Ingest
from tfrec.ingest.messages import Source
from tfrec.ingest.report import IngestReport
from tfrec.ingest.ubi import decode_ubi
from tfrec.training.progress import bar

Kind = Literal["kafka", "jsonl", "parquet"]
FORMATS: dict[str, Decode] = {"tfrec": decode_tfrec, "ubi": decode_ubi}
_SAY_SECONDS = 60.0  # between two lines about how far it is
logger = logging.getLogger(__name__)


def ingest(config: Config, kind: Kind, sources: Sequence[str], *, form: str = "tfrec", follow: bool = False,
           servers: str | None = None, pseudonymous: bool = False, stopping: threading.Event | None = None) -> IngestReport:
    """Move records of a source to the feedback log, each once.

    Args:
        config: the run, and the section `ingest`.
        kind: of source.
        sources: topics, or files and directories.
        form: of the messages, a key of `FORMATS`.
        follow: go on at the end, until `stopping` is set.
        servers: Kafka's brokers, HOST:PORT separated by commas; they take the place of those of `ingest.kafka`.
        pseudonymous: the ids of users are pseudonyms already.
        stopping: ends the work; everything that was read is committed first.

    Raises:
        UsageError: there is no such source.
        DataError: the source or the log fails.
    """
    if not sources:
        raise UsageError(f"ingest --from {kind} needs {'a topic' if kind == 'kafka' else 'a file or a directory'}, such as "
                         f"{'clicks' if kind == 'kafka' else f'events.{kind}'}.")
    stop = stopping or threading.Event()
    quarantine, people = Quarantine(config.run / "quarantine-ingest.jsonl", keep=True), load_people(config)
    writer = SourceWriter(FeedbackLog(config.log_uri), lambda name, seq, payload, reason:
                          quarantine.add(name, seq, reason=reason, row=payload))
    source = _opened(config, kind, sources, FORMATS[form], writer, follow=follow, servers=servers, stopping=stop)
    try:
        work = Ingest(source, writer, decode=FORMATS[form], quarantine=quarantine,
                      kept_query=query_keeper(config.data.queries, people),
                      users=ErasedUsers(people, Erasures(config.log_uri), pseudonymous=pseudonymous),
                      commit_seconds=config.ingest.commit_seconds)
        with _shown(source, work) as on_commit:
            report = work.run(stopping=stop if follow else None, on_commit=on_commit)
        report.faults = source.faults()
    finally:
        source.close()
    if quarantine.count:
        logger.warning("%s", quarantine.summary())
    return report


def _opened(config: Config, kind: Kind, sources: Sequence[str], decode: Decode, writer: SourceWriter, *, follow: bool,
            servers: str | None, stopping: threading.Event) -> Source:
    if kind == "kafka":
        from tfrec.ingest.kafka import KafkaSource
        from tfrec.ingest.kafka_properties import client_properties

        name = config.ingest.name or "kafka"
        properties = client_properties(config.ingest.kafka, servers, group=f"tfrec-{name}")
        return KafkaSource(sources, properties, name=name, positions=writer.positions, follow=follow, stopping=stopping)
    from tfrec.ingest.files import FileSource

    if servers is not None:
        raise UsageError(f"--servers are Kafka's brokers, and --from is {kind}.")
    log = Path(config.log_uri).resolve()
    for path in map(Path, sources):
        if "://" not in config.log_uri and path.resolve() in (log, *log.parents):
            raise UsageError(f"{path}: it holds the feedback log itself, {log}. Name the files, or a directory without the log.")
    name = f"{config.ingest.name or 'files'}:{kind}"  # a kind has positions of its own
    return FileSource([Path(source) for source in sources], kind, name=name, ledger=config.run / "ingest" / f"{name}.sqlite",
                      writer=writer, decode=decode, follow=follow, stopping=stopping)


@contextmanager
def _shown(source: Source, work: Ingest) -> Iterator[Callable[[], None]]:
    """What to call after each commit: it moves a bar, or says from time to time how far a source without an end is."""
    size = source.size()
    if size is None:
        said = time.monotonic()

        def say() -> None:
            nonlocal said
            if time.monotonic() - said >= _SAY_SECONDS:
                said = time.monotonic()
                parts = work.report().parts
                names = "impressions", "outcomes", "quarantined", "lag"
                logger.info("%s impressions and %s outcomes are in the log, %s rows set aside; lag %s",
                            *(f"{sum(getattr(part, name) for part in parts):,}" for name in names))

        yield say
        return
    with bar("ingesting", total=size[1]) as advance:
        before = size[0]

        def move() -> None:
            nonlocal before
            now = (source.size() or (before, 0))[0]
            advance(now - before)
            before = now

        yield move

"""`tfrec ingest`: records that come from elsewhere than the gateway."""
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, configured
from tfrec.config import Config


@configured
def ingest(
    config: Config,
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Topics, or files and directories.")],
    kind: Annotated[Literal["kafka", "jsonl", "parquet"], typer.Option("--from", help="What the sources are.")],
    form: Annotated[
        Literal["tfrec", "ubi"],
        typer.Option("--format", help="tfrec: impressions and outcomes. ubi: queries and events of UBI 1.0."),
    ] = "tfrec",
    follow: Annotated[bool, typer.Option("--follow", help="At the end, wait for what comes later, until it is stopped.")] = False,
    servers: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Kafka's brokers, instead of those of ingest.kafka.")
    ] = None,
    pseudonymous: Annotated[
        bool, typer.Option("--pseudonymous", help="Users' ids are pseudonyms already. Else they get the gateway's.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Move impressions and outcomes of a Kafka topic or of files to the feedback log, each once.

    It may be killed and run again at any time. Rows that cannot be used go to quarantine-ingest.jsonl in the run directory.
    """
    terminal.writable(config.run)
    from tfrec.ingest.job import ingest

    with _stopped_by_signals() as stopping:
        report = ingest(config, kind, sources, form=form, follow=follow, servers=servers, pseudonymous=pseudonymous,
                        stopping=stopping)
    terminal.show(report, as_json=as_json)
    if report.faults:
        raise typer.Exit(1)


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, the second of which ends the program."""
    stopping, numbers = threading.Event(), (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]

    def restore() -> None:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

    def stop(*_: object) -> None:
        stopping.set()
        restore()

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield stopping
    finally:
        restore()

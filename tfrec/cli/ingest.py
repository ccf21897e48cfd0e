"""`tfrec ingest`: records that come from elsewhere than the gateway."""
import signal
from typing import Annotated, Literal

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, configured, stopped_by
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

    with stopped_by(signal.SIGTERM, signal.SIGINT) as stopping:
        report = ingest(config, kind, sources, form=form, follow=follow, servers=servers, pseudonymous=pseudonymous,
                        stopping=stopping)
    terminal.show(report, as_json=as_json)
    if report.faults:
        raise typer.Exit(1)

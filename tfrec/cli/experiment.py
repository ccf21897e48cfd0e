"""`tfrec experiment start|stop|status`: comparisons on live users."""
import time
from typing import Annotated

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, SkipBadRows, bad_rows, configured
from tfrec.config import Config

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of an experiment in experiment.trials.")]

experiment = typer.Typer(no_args_is_help=True, help="Compare two ways of answering on live users, and look as often as you like.")


@configured
def start(config: Config, name: Name, as_json: AsJson = False) -> None:
    """Start an experiment. Gateways of the run directory take it up within two seconds, without a restart."""
    terminal.writable(config.run)
    from tfrec.experiments.report import described
    from tfrec.rollout.control import start

    terminal.show(described(start(config, name, now=int(time.time()))), as_json=as_json)


@configured
def stop(config: Config, name: Name, as_json: AsJson = False) -> None:
    """Stop an experiment. Everybody gets what is configured again; what the log says of it stays."""
    from tfrec.experiments.report import described
    from tfrec.rollout.control import stop

    terminal.show(described(stop(config, name, now=int(time.time()))), as_json=as_json)


@configured
def status(
    config: Config,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="An experiment; default: all that run.")] = None,
    skip_bad_rows: SkipBadRows = False,
    as_json: AsJson = False,
) -> None:
    """Show users, requests and reward of each arm, the difference with its interval, the check of shares, and a verdict.

    The intervals hold however often you look. Only requests whose labels have matured count.
    """
    from tfrec.experiments.overview import overview

    with bad_rows(config, "experiment", skip=skip_bad_rows) as quarantine:
        terminal.show(overview(config, name, now=int(time.time()), quarantine=quarantine), as_json=as_json)


for command in (start, stop, status):
    experiment.command()(command)

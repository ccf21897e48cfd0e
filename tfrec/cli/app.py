"""The `tfrec` program. Each command parses its options, calls the function of its name in the package, and prints the result."""
import sys
from typing import Annotated

import typer

from tfrec import __version__, terminal
from tfrec.cli.demo import demo
from tfrec.cli.evaluate import evaluate
from tfrec.cli.experiment import experiment
from tfrec.cli.export import export
from tfrec.cli.forget import forget
from tfrec.cli.ingest import ingest
from tfrec.cli.join import join
from tfrec.cli.monitor import exposure, monitor
from tfrec.cli.ope import ope
from tfrec.cli.publish import publish, rollback, status
from tfrec.cli.pull import pull
from tfrec.cli.retrain import retrain
from tfrec.cli.review import review
from tfrec.cli.rules import rules
from tfrec.cli.serve import gateway, serve, ssl_config
from tfrec.cli.sweep import sweep
from tfrec.cli.text_encoder import pretrain, tune
from tfrec.cli.train import train

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def tfrec(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Search and recommendation that learns from its own feedback.

    Results go to standard output. Progress and log lines go to standard error.
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 rejected: the gate refused the retrained model, and the old one still serves.
    """
    terminal.log_to_standard_error()


for command in (demo, pretrain, tune, train, evaluate, sweep, export, retrain, ingest, join):
    app.command()(command)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(serve)
for command in (ssl_config, gateway, publish, pull, rollback, status, ope, rules, monitor, exposure, forget):
    app.command()(command)
app.add_typer(experiment, name="experiment")
app.add_typer(review, name="review")


def main() -> None:
    """Run the program and exit with its code."""
    sys.exit(terminal.end(app))

"""The command line: one function a command, which parses, calls one verb and prints its result.

Verbs are imported inside the functions: `tfrec --help` answers at once, and a command loads only what it uses. The functions
of the package have the same names and do the same work.
"""
import sys
from pathlib import Path
from typing import Annotated

import typer

from tfrec import __version__, terminal

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE.toml", help="Settings; the rest keep their defaults.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as training.batch_size=64. May be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def tfrec(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Search and recommendation that learns from its own feedback.

    Results go to standard output, progress and log lines to standard error.
    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 held: the retrained model was refused and the old one still serves.
    """
    terminal.log_to_standard_error()


def main() -> None:
    """The `tfrec` program."""
    sys.exit(terminal.end(app))

"""`tfrec pull`: copies of the versions that are in an object store, for a model server that reads a disk."""
import os
import time
from typing import Annotated

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, configured
from tfrec.config import Config


@configured
def pull(
    config: Config,
    every: Annotated[
        float | None,
        typer.Option(metavar="TIME", parser=terminal.duration, help="Look again and again at this interval, such as 10s."),
    ] = None,
    parent: Annotated[int | None, typer.Option(hidden=True, help="End when this process has ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the newest published versions from serving.models to the run directory, from which a model server reads them.

    tfrec serve and tfrec gateway do so themselves. A server that tfrec did not start needs this beside it.
    """
    terminal.writable(config.run)
    from tfrec.release.follow import fetch, follow

    def wait() -> bool:
        time.sleep(every or 0)
        return parent is not None and os.getppid() != parent

    if parent is None:
        terminal.show({"versions": fetch(config)}, as_json=as_json)
    if every is not None:
        follow(config, wait)

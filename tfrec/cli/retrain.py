"""`tfrec retrain`: one run of the retrain job, or one at each interval."""
import logging
import time
from typing import Annotated

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, configured, load_tensorflow
from tfrec.config import Config
from tfrec.errors import TfrecError, UsageError

log = logging.getLogger(__name__)


@configured
def retrain(
    config: Config,
    every: Annotated[
        float | None,
        typer.Option(metavar="TIME", parser=terminal.duration, help="Run again and again at this interval, such as 5m."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Learn what the log gained since the live version, and publish the result if it passes the gate.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 rejected by the gate.
    """
    load_tensorflow()
    from tfrec.retrain import REJECTED, retrain

    if every is None:
        result = retrain(config, now=int(time.time()))
        terminal.show(result, as_json=as_json)
        raise typer.Exit(3 if result.outcome == REJECTED else 0)
    while True:
        began = time.time()
        try:
            terminal.show(retrain(config, now=int(began)), as_json=as_json)
        except UsageError:
            raise
        except TfrecError as error:  # the next run learns what this one did not
            log.error("%s", error)
        time.sleep(max(0.0, began + every - time.time()))

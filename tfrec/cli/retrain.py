"""`tfrec retrain`: one run of the retrain job, or one at each interval."""
import logging
import signal
import time
from typing import TYPE_CHECKING, Annotated

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, configured, load_tensorflow, stopped_by
from tfrec.config import Config
from tfrec.errors import TfrecError, UsageError

if TYPE_CHECKING:
    from tfrec.retrain import Retrained, Session

log = logging.getLogger(__name__)


@configured
def retrain(
    config: Config,
    every: Annotated[
        float | None,
        typer.Option(metavar="TIME", parser=terminal.duration, help="Run again and again at this interval, such as 10s or 5m."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Learn what the log gained since the live version, and publish the result if it passes the gate.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 rejected by the gate. With --every, a line tells how each run ended, an error
    ends that run alone, and SIGTERM ends the process between two steps of a run, which the next process takes up.
    """
    load_tensorflow()
    from tfrec.retrain import REJECTED, retrain

    if every is None:
        result = retrain(config, now=int(time.time()))
        terminal.show(result, as_json=as_json)
        raise typer.Exit(3 if result.outcome == REJECTED else 0)
    _run_on(config, every, as_json=as_json)


def _run_on(config: Config, every: float, *, as_json: bool) -> None:
    """Run at each beat, until SIGTERM."""
    from tfrec.retrain import Session
    from tfrec.retrain.beats import beats

    runs = logging.getLogger("tfrec.retrain")
    level = runs.level
    with Session() as session, stopped_by(signal.SIGTERM, stopping=session.stopping):
        runs.setLevel(logging.WARNING)  # what they tell at the end is in the line below
        try:
            for missed in beats(every, session.stopping):
                _run(config, session, missed, as_json=as_json)
        finally:
            runs.setLevel(level)


def _run(config: Config, session: "Session", missed: int, *, as_json: bool) -> None:
    """One run; an error ends nothing but it, and the next run learns what this one did not."""
    from tfrec.retrain import Stopped, retrain

    try:
        result = retrain(config, now=int(time.time()), session=session)
        print(terminal.to_json(result, indent=None) if as_json else _line(result, missed), flush=True)
    except UsageError:
        raise
    except Stopped:
        log.info("stopped between two steps; the next run takes this one up")
    except Exception as error:
        log.error("%s", error, exc_info=None if isinstance(error, TfrecError) else error)
        session.forget()


def _line(result: "Retrained", missed: int) -> str:
    """A run in one line."""
    steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in result.seconds.items())
    took = f"{sum(result.seconds.values()):.1f} s ({steps})" + (f", {missed} beats missed before it" if missed else "")
    return (f"{time.strftime('%H:%M:%S')} {result.outcome}: version {result.version}, {result.events} new events, "
            f"{result.learnt} learnt, {took}. {result.reason}")

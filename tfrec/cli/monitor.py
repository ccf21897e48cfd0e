"""`tfrec monitor` and `tfrec exposure`: what people are shown, what comes of it, and whether that changes."""
import logging
import signal
import time
from typing import Annotated, Any

import typer

from tfrec import terminal
from tfrec.cli.options import AsJson, configured, stopped_by
from tfrec.config import Config
from tfrec.errors import DataError, TfrecError, UsageError

log = logging.getLogger(__name__)



@configured
def exposure(
    config: Config,
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="The beginning of the tags that are groups, such as brand: .")],
    days: Annotated[float, typer.Option(min=0.01, help="Of the log, so many days until now.")] = 7.0,
    as_json: AsJson = False,
) -> None:
    """Measure the exposure of groups of items: their share of the positions that were shown, discounted as in DCG.

    Beside it stands the share of the items that may be shown, by the newest version's catalogue.
    """
    from tfrec.data.feedback_log.log import FeedbackLog
    from tfrec.data.items.item_table import read_items
    from tfrec.evaluation.exposure import GroupedItems
    from tfrec.evaluation.exposure import exposure as measured
    from tfrec.release.manifest import CATALOGUE
    from tfrec.release.publish import newest_dir

    version_dir = newest_dir(config.models_dir)
    if version_dir is None:
        raise UsageError(f"{config.models_dir}: no version is published whose catalogue could say what group an item is in.")
    table = read_items(version_dir / CATALOGUE)
    available = table["available"].fill_null(True).to_numpy()
    items = GroupedItems.of(table["id"].combine_chunks(), table["tags"].combine_chunks(), available, prefix=prefix)
    if not items.names:
        raise UsageError(f"exposure: no tag of version {version_dir.name} begins with {prefix!r}.")
    shown = FeedbackLog(config.log_uri).shown_since(int(time.time() - 86_400 * days))
    if not shown.num_rows:
        raise DataError(f"{config.log_uri}: nothing was shown in the last {days:g} days. Take more: --days.")
    terminal.show({"version": int(version_dir.name), "days": days} | measured(shown, items), as_json=as_json)


@configured
def monitor(
    config: Config,
    every: Annotated[
        float | None,
        typer.Option(metavar="TIME", parser=terminal.duration, help="Look again and again at this interval, such as 10m."),
    ] = None,
    replay: Annotated[
        bool | None,
        typer.Option("--replay/--no-replay", help="Ask logged requests again, which loads a model."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the newest window of the log with those before it, and keep what is found for the gateway's metrics and its page.

    Exit codes: 0 no alarm, 1 failed, 2 wrong usage, 3 an alarm. With --every, a line tells of each look, an error ends that look
    alone, and SIGTERM ends the process.
    """
    terminal.writable(config.run)
    from tfrec.monitors.latest import alarms
    from tfrec.monitors.look import look

    if every is None:
        found = look(config, now=int(time.time()), replay=replay)
        terminal.show(found if as_json else _table(found), as_json=as_json)
        raise typer.Exit(3 if alarms(found) else 0)
    from tfrec.retrain.beats import beats

    with stopped_by(signal.SIGTERM) as stopping:
        for _ in beats(every, stopping):
            try:
                found = look(config, now=int(time.time()), replay=replay)
                told = f"{time.strftime('%H:%M:%S')} {', '.join(alarms(found)) or 'no alarm'}, {found['seconds']:.1f} s"
                print(terminal.to_json(found, indent=None) if as_json else told, flush=True)
            except TfrecError as error:
                log.error("%s", error)


def _table(found: dict[str, Any]) -> dict[str, Any]:
    """What is told in a terminal: alarms, then figures, then what is not known and why."""
    of = {state: {name: one for name, one in found["monitors"].items() if one["state"] == state}
          for state in ("alarm", "ok", "unknown")}
    return {
        "alarms": {name: one["why"] for name, one in of["alarm"].items()} or "none",
        "monitors": [{"monitor": name, "state": one["state"], "now": one["value"], "usual": one["usual"], "change": one["change"],
                      "low": one["low"], "high": one["high"], "bound": one["bound"]}
                     for name, one in (of["alarm"] | of["ok"]).items()],
        "unknown": {name: one["why"] for name, one in of["unknown"].items()} or "none",
        "seconds": found["seconds"],
    }

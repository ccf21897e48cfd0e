"""Programs that went silent, and programs whose clock is wrong. They are found first, and all other monitors leave them out: an
app whose clicks are lost would lower the click rate, change the mix of actions and raise every other alarm.
"""
from collections.abc import Callable

import numpy as np

from tfrec.config import MonitorsConfig
from tfrec.monitors.counted import Cells, Counted
from tfrec.monitors.estimates import MonitorFinding, compared, difference, ratio_change, worst

_LOST = 2 / 3  # of the share of requests with an outcome: what no change of taste takes away within a window
_UNTIMELY = 0.1  # of the outcomes, beyond what is usual
_MOST = 20  # sources that are looked at, the largest


def silent_sources(counts: Counted, config: MonitorsConfig) -> tuple[MonitorFinding, list[str]]:
    """Whether outcomes of a program ceased though its requests go on; and the names of such programs.

    Outcomes of any delay count, for those of a wrong clock are not lost.
    """
    def silent(cells: Cells, level: float, called: str) -> MonitorFinding:
        sums = cells.sums("told", "requests")
        return compared(ratio_change, sums, counts=sums[..., 1].sum(axis=0), least=_least(config), margin=_LOST, level=level,
                        side="fall", of=f"requests with an outcome, of {called}")

    return _each_source(counts.requests(), config, silent)


def wrong_clocks(counts: Counted, config: MonitorsConfig, silent: list[str]) -> tuple[MonitorFinding, list[str]]:
    """Whether more outcomes of a program than usual claim a time before their request, or after the horizon; and their names."""
    def wrong(cells: Cells, level: float, called: str) -> MonitorFinding:
        sums = cells.sums("untimely", "n")
        return compared(difference, sums, counts=sums[..., 1].sum(axis=0), least=_least(config) / 5, margin=_UNTIMELY,
                        level=level, side="rise", unit="outcomes", of=f"outcomes outside the horizon, of {called}")

    return _each_source(counts.delays().without(silent), config, wrong)


def _each_source(cells: Cells, config: MonitorsConfig,
                 look: Callable[[Cells, float, str], MonitorFinding]) -> tuple[MonitorFinding, list[str]]:
    """The worst of what is found of each source, and the names of those that an alarm is for."""
    names, size = np.unique(cells.table["source"].to_numpy(), return_counts=True)
    chosen = names[np.argsort(-size, kind="stable")[:_MOST]].tolist()
    called = {name: f"{config.source} {name!r}" if name else f"requests without {config.source!r}" for name in chosen}
    found = {name: look(cells.only("source", name), config.level / len(chosen), called[name]) for name in chosen}
    return worst(list(found.values()), none="the log has nothing of these windows"), [
        name for name, one in found.items() if one.state == "alarm"]


def _least(config: MonitorsConfig) -> float:
    """Requests of a source in a window: a small one is worth a look too."""
    return max(50.0, config.min_requests / 5)

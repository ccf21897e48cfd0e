"""What people do with what they are shown: reward, rate of action, their delay and mix, and who asks."""
import math
from functools import partial
from typing import Any

import numpy as np

from tfrec.config import Config
from tfrec.monitors.counted import Cells, Counted
from tfrec.monitors.estimates import MonitorFinding, compared, difference, jackknife, psi, ratio_change, unknown, worst

_DOUBLED = 1.0  # doublings of the delay
_HALF = 0.5  # of the share of new items, of the items shown
_MOST = 50  # parts that are told apart
_SHOWN_PARTS = 20
_PARTS = ("position", "version", "policy")


def live_findings(counts: Counted, config: Config, left_out: list[str]) -> dict[str, MonitorFinding]:
    """The findings by monitor, without some sources."""
    wish = config.monitors
    least, level, margin = wish.min_requests, wish.level, wish.margin
    requests, delays = counts.requests().without(left_out), counts.delays().without(left_out)
    n = requests.sums("requests")[..., 0].sum(axis=0)
    mean = partial(compared, counts=n, least=least, level=level)
    reward = requests.sums("reward", "requests")
    novelty, newcomers = counts.novelty().without(left_out), counts.newcomers().without(left_out)
    distinct, alone = counts.coverage(left_out)
    timely = delays.sums("doublings", "timely")
    return {
        "reward": mean(ratio_change, reward, margin=margin, of="reward of a request"),
        "action_rate": mean(ratio_change, requests.sums("acted", "requests"), margin=margin, of="requests with an outcome"),
        "slices": _slices(counts, config, left_out, reward),
        "label_delay": compared(difference, timely, counts=timely[..., 1].sum(axis=0), least=least / 10, level=level,
                                margin=_DOUBLED, unit="outcomes", of="log2 of 1 + the seconds from an impression to its outcome"),
        "outcomes": _mix(counts.actions().without(left_out), least=least / 10, config=config, of="actions", unit="outcomes"),
        "context": _context(counts, config, left_out),
        "coverage": mean(ratio_change, np.stack([alone, np.zeros_like(alone)], axis=-1), margin=_HALF, side="fall",
                         totals=np.stack([distinct, np.ones_like(distinct)], axis=-1), of="items that were shown"),
        "novelty": mean(ratio_change, novelty.sums("bits", "n"), margin=margin, of="bits of the popularity of what was shown"),
        "new_items": _new_items(newcomers, n, config),
        "calibration": _calibration(counts, config, left_out, n),
    }


def parts(counts: Counted, config: Config, left_out: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Reward and rate of action of the newest window by position, version, policy and slice, ready for JSON.

    `low` and `high` are 95% intervals of the reward; one person alone has none.
    """
    found = {}
    for of in (*_PARTS, *config.monitors.slices):
        cells = (counts.positions() if of == "position" else counts.parts(of)).without(left_out)
        names, _ = cells.by_part(most=_SHOWN_PARTS)
        rows = []
        for name in sorted(names, key=lambda one: (not one.isdigit(), int(one) if one.isdigit() else 0, one)):
            sums = cells.only("part", name).sums("reward", "requests", "acted")[:, -1]
            if (n := sums[:, 1].sum()) > 0:
                mean, error = jackknife(difference, sums[:, :2], np.zeros_like(sums[:, :2]))
                low, high = (round(mean + side * error, 5) if math.isfinite(error) else None for side in (-1.96, 1.96))
                rows.append({"part": name, "n": int(n), "reward": round(mean, 5), "low": low, "high": high,
                             "action_rate": round(float(sums[:, 2].sum() / n), 5)})
        found[of] = rows
    return found


def _slices(counts: Counted, config: Config, left_out: list[str], reward: np.ndarray) -> MonitorFinding:
    """The slice whose reward changed most, beyond what changed for all."""
    wish, found = config.monitors, []
    looked = [(name, counts.parts(name).without(left_out)) for name in wish.slices]
    chosen = [(name, value, cells) for name, cells in looked for value in cells.by_part(most=_SHOWN_PARTS)[0] if value]
    for name, value, cells in chosen:
        own = cells.only("part", value).sums("reward", "requests")
        both = np.concatenate([own, reward], axis=-1)
        found.append(compared(_beyond, both, counts=own[..., 1].sum(axis=0), least=wish.min_requests / 5,
                              level=wish.level / len(chosen), margin=wish.margin,
                              of=f"reward of {name} {value!r}, over that of all"))
    return worst(found, none="no requests of a slice; name them in monitors.slices")


def _beyond(newest: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """The change of a slice's mean minus that of all; `[..., 4]` has the sums of both."""
    return np.asarray(ratio_change(newest[..., :2], earlier[..., :2]) - ratio_change(newest[..., 2:], earlier[..., 2:]))


def _mix(cells: Cells, *, least: float, config: Config, of: str, level: float | None = None,
         unit: str = "requests") -> MonitorFinding:
    """The drift of the shares of parts."""
    _, sums = cells.by_part(most=_MOST)
    return compared(psi, sums, counts=sums.sum(axis=(0, 2)), least=least, level=level or config.monitors.level,
                    margin=config.monitors.psi, side="rise", of=of, unit=unit)


def _context(counts: Counted, config: Config, left_out: list[str]) -> MonitorFinding:
    """The name of the context whose values drifted most."""
    kinds = dict.fromkeys(("place", "device", *config.monitors.slices), "category") | dict(config.features.named)
    kinds.pop(config.monitors.source, None)
    found = []
    for name, kind in kinds.items():
        cells = counts.context(name, number=kind == "number").without(left_out)
        if any(cells.values("part")):
            found.append(_mix(cells, least=config.monitors.min_requests, config=config, of=f"values of {name!r}",
                              level=config.monitors.level / len(kinds)))
    return worst(found, none="no request says anything of person and moment")


def _new_items(cells: Cells, n: np.ndarray, config: Config) -> MonitorFinding:
    """The share of what is shown that the window before did not show."""
    sums = cells.sums("new", "n")[:, 1:]
    if not sums[:, :-1, 0].sum():
        return unknown("no window before it showed an item that the one before that did not")
    return compared(ratio_change, sums, counts=n[1:], least=config.monitors.min_requests, level=config.monitors.level,
                    margin=_HALF, side="fall", of="shown items that the window before did not show")


def _calibration(counts: Counted, config: Config, left_out: list[str], n: np.ndarray) -> MonitorFinding:
    """What the second stage expected of its first item, over what it earned: as far from usual as it is now."""
    if not config.ranker.heads:
        return unknown("scores are probabilities only with ranker.heads")
    sums = counts.calibration().without(left_out).sums("earned", "expected")
    if not (sums[:, -1].sum(axis=0) > 0).all():
        return unknown("no answer of the second stage was earned from in the newest window")
    return compared(ratio_change, sums, counts=n, least=config.monitors.min_requests, level=config.monitors.level,
                    margin=config.monitors.margin, of="earned over expected, of the first item")

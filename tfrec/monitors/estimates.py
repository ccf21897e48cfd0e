"""How much the newest window differs from those before it, and whether that is more than chance and more than usual.

Users are put into 64 groups by hash, and everything is counted by group and window. A statistic of two windows is estimated as
often as there are groups, each time without one (the delete-a-group jackknife; Kott 2001, "The delete-a-group jackknife", Journal
of Official Statistics 17), which gives its error: what one person does hangs together, so events are no unit. The same estimates
correct the bias, without which an index of a few events is large by chance alone.

A bare interval would raise an alarm at every weekend. So each earlier window is compared with the others too, and an alarm needs
an interval that lies wholly beyond the second largest of these changes, and beyond the configured margin. The second largest, for
a single bad day in the past must not hide the next one.
"""
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

GROUPS = 64
Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats, Floats], Floats]  # of the newest [..., K] and of earlier sums [..., K]: [...]
State = Literal["ok", "alarm", "unknown"]
Side = Literal["rise", "fall", "both"]


@dataclass(frozen=True)
class MonitorFinding:
    """What a monitor found.

    Attributes:
        state: `unknown` where too little was counted.
        why: In words: what `change` is of, or why nothing is known.
        value: Of the newest window.
        usual: The same of the windows before it.
        change: Between the two, with `low` and `high`, its interval.
        bound: The least change that an alarm is raised for.
    """

    state: State
    why: str = ""
    value: float | None = None
    usual: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None

    def rounded(self) -> dict[str, Any]:
        """As JSON holds it, which has no infinity."""
        return {name: _rounded(value) if isinstance(value, float) else value for name, value in asdict(self).items()}


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def unknown(why: str) -> MonitorFinding:
    """Of a monitor that cannot say anything, and why."""
    return MonitorFinding("unknown", why)


def ratio_change(newest: Floats, earlier: Floats) -> Floats:
    """The relative change of a / b; `[..., 2]` has the sums a and b, of which b is above 0."""
    usual = earlier[..., 0] / np.maximum(earlier[..., 1], 1e-300)
    now = newest[..., 0] / np.maximum(newest[..., 1], 1e-300)
    return np.divide(now - usual, np.abs(usual), out=np.zeros_like(now), where=usual != 0)


def difference(newest: Floats, earlier: Floats) -> Floats:
    """A / b now, minus a / b before; `[..., 2]` has the sums a and b, of which b is above 0."""
    return np.asarray(newest[..., 0] / np.maximum(newest[..., 1], 1e-300) - earlier[..., 0] / np.maximum(earlier[..., 1], 1e-300))


def psi(newest: Floats, earlier: Floats) -> Floats:
    """The population stability index of counts by category `[..., K]`: the sum of (p - q) ln(p / q).

    Half a count is added to each category, so one that was empty counts what is known of it.
    """
    p, q = ((counts + 0.5) / (counts + 0.5).sum(axis=-1, keepdims=True) for counts in (newest, earlier))
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


def jackknife(statistic: Statistic, newest: Floats, earlier: Floats, *, totals: tuple[Floats, Floats] | None = None,
              ) -> tuple[float, float]:
    """A statistic without its bias, and its standard error.

    Args:
        statistic: Of sums.
        newest: `[groups, K]` sums.
        earlier: `[groups, K]` sums.
        totals: `[K]` of the newest and of the earlier ones; by default the sums over groups.
    """
    total, before = totals or (newest.sum(axis=0), earlier.sum(axis=0))
    filled = np.flatnonzero((newest != 0).any(axis=1) | (earlier != 0).any(axis=1))
    whole, n = float(statistic(total, before)), len(filled)
    if n < 2:
        return whole, math.inf
    without = statistic(total - newest[filled], before - earlier[filled])
    mean = float(without.mean())
    return n * whole - (n - 1) * mean, math.sqrt((n - 1) / n * float(np.square(without - mean).sum()))


def compared(statistic: Statistic, sums: Floats, *, counts: Floats, least: float, margin: float, level: float,
             side: Side = "both", totals: Floats | None = None, of: str = "", unit: str = "requests") -> MonitorFinding:
    """Compare the newest window with the earlier ones.

    Args:
        statistic: `ratio_change`, `psi`, or one alike.
        sums: `[groups, windows, K]`, the newest window last.
        counts: `[windows]`, how many requests each window has.
        least: A window with fewer requests says nothing.
        margin: The least change that an alarm is raised for.
        level: The probability of an alarm by chance.
        side: Of the changes that matter.
        totals: `[windows, K]`; by default the sums over groups.
        of: What is compared, in words.
        unit: What `counts` has.
    """
    earlier = np.flatnonzero(counts[:-1] >= least)
    if counts[-1] < least or len(earlier) < 3:
        return unknown(f"{of + ': ' if of else ''}needs {least:g} {unit} in the newest window and in three before it, has "
                       f"{counts[-1]:g}, and {len(earlier)} such windows before it")
    whole = sums.sum(axis=0) if totals is None else totals

    def change(window: int, others: npt.NDArray[np.intp]) -> tuple[float, float]:
        return jackknife(statistic, sums[:, window], sums[:, others].sum(axis=1),
                         totals=(whole[window], whole[others].sum(axis=0)))

    swings = sorted(abs(change(int(one), earlier[earlier != one])[0]) for one in earlier)
    found, error = change(-1, earlier)
    bound = max(margin, swings[-2])
    width = error * float(stats.t.ppf(1 - level / 2, GROUPS - 1))
    low, high = found - width, found + width
    alarm = (side != "fall" and low > bound) or (side != "rise" and high < -bound)
    has_mean = statistic is not psi
    return MonitorFinding("alarm" if alarm else "ok", of, value=_mean(whole[-1]) if has_mean else None,
                   usual=_mean(whole[earlier].sum(axis=0)) if has_mean else None, change=found, low=low, high=high, bound=bound)


def _mean(sums: Floats) -> float | None:
    """The first sum for each of the second."""
    return float(sums[0] / sums[1]) if sums[1] > 0 else None


def worst(findings: list[MonitorFinding], *, none: str) -> MonitorFinding:
    """The one that speaks for all: an alarm before others, and then the largest change over its bound."""
    told = [one for one in findings if one.state != "unknown"]
    if not told:
        return findings[0] if findings else unknown(none)
    return max(told, key=lambda one: (one.state == "alarm", abs(one.change or 0.0) / (one.bound or 1.0)))

"""The gate's rule: may the challenger replace the champion?

It compares point estimates with margins, so that the same figures always give the same decision and a person can check it by
hand; the paired intervals are reported beside it. A comparison alone is blind when both models fall together, as on a log that no
longer says anything, so there is a floor as well. `gate_figures.py` measures, `gate_words.py` puts a decision into words.
"""
from dataclasses import dataclass
from enum import Enum, auto

from scipy.special import bdtr

from tfrec.evaluation.gate_figures import CHAMPION, Comparison, Figures, Floor, SearchRanks
from tfrec.evaluation.policy_value import PolicyValue
from tfrec.evaluation.search_ranks import is_above_chance

CERTAIN = 0.01  # probability of so few hits at a true rate of the floor, below which the floor is not reached


class Reason(Enum):
    """Why the gate decides as it does. Where several reasons hold against a challenger, the first of this list is given."""

    NO_EVENT = auto()
    BELOW_CHAMPION = auto()
    BELOW_BASELINE = auto()
    BELOW_FLOOR = auto()
    DEAD_SEARCH = auto()
    WORSE_SEARCH = auto()
    LOWER_VALUE = auto()
    FORGETS = auto()
    PROMOTED = auto()


@dataclass(frozen=True)
class Margins:
    """How far a challenger may fall below the champion and still be promoted."""

    hit_rate: float  # HR@10 on the newest events, below a baseline as well
    search: float = 1.0  # HR@10 on searches
    value: float = 1.0  # share of the logged reward, at the lower bound of the gain
    earlier: float = 1.0  # HR@10 on earlier events


@dataclass(frozen=True)
class Decision:
    """The reason, and what it follows from."""

    reason: Reason
    figures: Figures
    margins: Margins

    @property
    def promote(self) -> bool:
        """Whether the challenger replaces the champion."""
        return self.reason is Reason.PROMOTED


def decide(figures: Figures, margins: Margins) -> Decision:
    """Promote the challenger, unless a `Reason` holds against it.

    - It is more than the margin below the champion, or below a baseline without being better than the champion. A model that
      improves is not kept out by a count that is better than both.
    - It is below the floor beyond doubt.
    - Its searches find nothing, or less than the champion's by more than the margin.
    - The lower bound of its policy's gain is more than the margin below zero. A log that cannot tell has no say.
    - It lost more than the margin on earlier events.
    """
    newest = figures.newest
    if newest is None:
        return Decision(Reason.NO_EVENT, figures, margins)
    holds = {
        Reason.BELOW_CHAMPION: CHAMPION in newest.below(margins.hit_rate),
        Reason.BELOW_BASELINE: _is_below_a_baseline(newest, margins.hit_rate),
        Reason.BELOW_FLOOR: figures.floor is not None and _is_below_floor(newest, figures.floor, margins.hit_rate),
        Reason.DEAD_SEARCH: figures.searches is not None and _is_dead(figures.searches),
        Reason.WORSE_SEARCH: figures.search is not None and bool(figures.search.below(margins.search)),
        Reason.LOWER_VALUE: figures.value is not None and _may_earn_less(figures.value, margins.value),
        Reason.FORGETS: figures.earlier is not None and bool(figures.earlier.below(margins.earlier)),
    }
    return Decision(next((reason for reason, held in holds.items() if held), Reason.PROMOTED), figures, margins)


def _is_below_a_baseline(newest: Comparison, margin: float) -> bool:
    improves = CHAMPION in newest.gap and newest.gap[CHAMPION].mean > 0
    return bool(newest.below(margin)) and not improves


def _is_below_floor(newest: Comparison, floor: Floor, margin: float) -> bool:
    """Whether so few hits would be as good as impossible at the floor, or within the margin of the floor's whole rate.

    By the binomial distribution's lower tail. Events of one user are alike, so `CERTAIN` is strict.
    """
    rate = min(floor.share * floor.rate, floor.rate - margin)
    return rate > 0 and newest.hits < rate * newest.events and bool(bdtr(newest.hits, newest.events, rate) < CERTAIN)


def _is_dead(searches: SearchRanks) -> bool:
    """Whether the challenger finds items no better than chance where the champion does better."""
    alive = is_above_chance(searches.champion, searches.n_items, deviations=2.0)
    return alive and not is_above_chance(searches.challenger, searches.n_items, deviations=1.0)


def _may_earn_less(value: PolicyValue, margin: float) -> bool:
    return value.gain is not None and value.gain.low < -margin * abs(value.logged)

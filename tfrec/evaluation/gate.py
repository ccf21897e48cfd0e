"""The gate's rule: may the challenger replace the champion?

It compares point estimates with margins, so that the same figures always give the same decision and a person can check it by
hand; the paired intervals are reported beside it. A comparison alone is blind when both models fall together, as on a log that no
longer says anything, so there is a floor as well. `gate_figures.py` measures, `gate_words.py` puts a decision into words.
"""
from dataclasses import dataclass
from enum import Enum, auto

from scipy.special import bdtr

from tfrec.evaluation.gate_figures import CHAMPION, Comparison, Figures, Floor, SearchRanks
from tfrec.evaluation.intervals import Interval
from tfrec.evaluation.policy_value import PolicyValue
from tfrec.evaluation.search_ranks import is_above_chance

CERTAIN = 0.01  # probability of so few hits at a true rate of the floor, below which the floor is not reached


class Reason(Enum):
    """Why the gate decides as it does. Where several reasons hold against a challenger, the first of this list is given."""

    NO_EVENT = auto()
    BELOW_CHAMPION = auto()
    BELOW_BASELINE = auto()
    MISORDERS = auto()
    MOVES_TOO_FAR = auto()
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
    pairs: float = 1.0  # share of pairs in slates
    keep: float = 0.0  # where slates judge, the share of the champion's HR@10 on the newest events that must be kept
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
      improves is not kept out by a count that is better than both. Where slates judge, only events that came from none count.
    - It is less often right than the champion about what people chose in slates, by more than the margin and beyond chance.
    - Slates judge, and beyond doubt it finds less than a share of what the champion finds. Within what the champion chose, the
      errors of another model are others, so a worse one may look better: one run may go so far and no further.
    - It is below the floor beyond doubt.
    - Its searches find nothing, or less than the champion's by more than the margin.
    - Its policy earns less, by more than the margin: beyond chance where slates judge, and else at the lower bound of its gain. A
      log that cannot tell has no say.
    - It lost more than the margin on earlier events.
    """
    newest, asked = figures.newest, figures.asked
    if newest is None:
        return Decision(Reason.NO_EVENT, figures, margins)
    holds = {
        Reason.BELOW_CHAMPION: asked is not None and CHAMPION in asked.below(margins.hit_rate),
        Reason.BELOW_BASELINE: asked is not None and _is_below_a_baseline(asked, margins.hit_rate),
        Reason.MISORDERS: figures.pairs is not None and _is_surely_worse(figures.pairs.gap, margins.pairs),
        Reason.MOVES_TOO_FAR: figures.slates_judge and _moves_too_far(newest, margins.keep),
        Reason.BELOW_FLOOR: figures.floor is not None and _is_below_floor(newest, figures.floor, margins.hit_rate),
        Reason.DEAD_SEARCH: figures.searches is not None and _is_dead(figures.searches),
        Reason.WORSE_SEARCH: figures.search is not None and bool(figures.search.below(margins.search)),
        Reason.LOWER_VALUE: figures.value is not None and _earns_less(figures.value, margins.value, surely=figures.slates_judge),
        Reason.FORGETS: figures.earlier is not None and bool(figures.earlier.below(margins.earlier)),
    }
    return Decision(next((reason for reason, held in holds.items() if held), Reason.PROMOTED), figures, margins)


def _is_below_a_baseline(asked: Comparison, margin: float) -> bool:
    improves = CHAMPION in asked.gap and asked.gap[CHAMPION].mean > 0
    return bool(asked.below(margin)) and not improves


def _is_surely_worse(gap: Interval | None, margin: float) -> bool:
    return gap is not None and gap.mean < -margin and gap.high < 0


def _is_below_floor(newest: Comparison, floor: Floor, margin: float) -> bool:
    """Whether it is surely below the floor, and below the floor's whole rate by more than the margin."""
    return _is_surely_below(newest, min(floor.share * floor.rate, floor.rate - margin))


def _moves_too_far(newest: Comparison, share: float) -> bool:
    return CHAMPION in newest.hit_rate and _is_surely_below(newest, share * newest.hit_rate[CHAMPION])


def _is_surely_below(newest: Comparison, rate: float) -> bool:
    """Whether so few hits would be as good as impossible at this HR@10.

    By the binomial distribution's lower tail. Events of one user are alike, so `CERTAIN` is strict.
    """
    return rate > 0 and newest.hits < rate * newest.events and bool(bdtr(newest.hits, newest.events, rate) < CERTAIN)


def _is_dead(searches: SearchRanks) -> bool:
    """Whether the challenger finds items no better than chance where the champion does better."""
    alive = is_above_chance(searches.champion, searches.n_items, deviations=2.0)
    return alive and not is_above_chance(searches.challenger, searches.n_items, deviations=1.0)


def _earns_less(value: PolicyValue, margin: float, *, surely: bool) -> bool:
    """Whether it does, or without other judges whether it may. A large step has a wide interval, also when it is right."""
    lost = margin * abs(value.logged)
    return _is_surely_worse(value.gain, lost) if surely else value.gain is not None and value.gain.low < -lost

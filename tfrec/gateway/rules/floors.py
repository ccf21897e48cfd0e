"""The factors that hold the floors of boost rules: a file that the retrain job writes, and gateways read.

A guarantee such as "two of the first ten" would choose items by those above them, and such slates have no propensities. A boost
has them. So a floor is a boost whose factor is adapted, step by step, until the share of the exposure is what was asked for.
"""
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from tfrec.gateway.rules.rule import RuleBook

FLOORS = Path("rules", "floors.json")  # in the run directory
MAX_FACTOR = 1e6
_AIM = 1.05  # times the floor, so that chance seldom goes below it
_PART = 0.7  # of the step that would do if no other item moved
_LONGEST = 1.5  # of a step, in logits


class KeptFloor(BaseModel):
    """How a floor is held.

    Attributes:
        factor: of the boost, at least 1.
        since: seconds since 1970, from which it holds.
        share: of the exposure that was measured last, with the factor of then.
        requests: that it was measured on.
    """

    factor: float = Field(1.0, ge=1, le=MAX_FACTOR)
    since: int = 0
    share: float | None = None
    requests: int = 0


def read_factors(path: Path | None) -> dict[str, KeptFloor]:
    """The floors of a file, by the name of their rule; none where it is not there or damaged, as it is made anew."""
    if path is None:
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        return {name: KeptFloor.model_validate(one) for name, one in found.items()}
    except (OSError, ValueError, AttributeError, ValidationError):
        return {}


def with_factors(book: RuleBook, kept: dict[str, KeptFloor]) -> RuleBook:
    """The rules with the factors that hold their floors."""
    return replace(book, rules=tuple(
        rule.model_copy(update={"factor": kept[rule.name].factor}) if rule.floor is not None and rule.name in kept else rule
        for rule in book.rules))


def next_factor(factor: float, share: float, floor: float) -> float:
    """The factor that brings a share of the exposure nearer to a floor; 1 once the share is above it without a boost.

    In a choice by softmax, a boost moves the logit of the share of a group by as much as it adds to its scores, at temperature 1.
    """
    step = _PART * (_logit(min(_AIM * floor, 1 - 1e-3)) - _logit(share))
    added = math.log(factor) + max(-_LONGEST, min(_LONGEST, step))
    return min(MAX_FACTOR, math.exp(max(0.0, added)))


def _logit(share: float) -> float:
    within = min(max(share, 1e-4), 1 - 1e-4)
    return math.log(within / (1 - within))

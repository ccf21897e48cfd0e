"""What the figures of an experiment say, in a word for the job and in words for people."""
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from tfrec.experiments.confidence_sequence import Estimate

OFF = 0.001  # of the check of shares: the log of a large shop is looked at for months


class Verdict(StrEnum):
    """Of an arm, beside the control."""

    BETTER = "better"
    HARMLESS = "no worse"  # by as much as matters
    WORSE = "worse"
    OPEN = "open"
    BROKEN = "broken"  # the shares are not those that were promised


class Judged(NamedTuple):
    """An arm beside the control."""

    verdict: Verdict
    words: str


def judge(difference: Estimate, *, usual: float, effect: float, sample_ratio_p: float) -> Judged:
    """Judge an arm.

    Args:
        difference: of its reward per request from the control's.
        usual: the control's reward per request.
        effect: the share of it that matters.
        sample_ratio_p: of the check of shares.
    """
    if sample_ratio_p < OFF:
        return Judged(Verdict.BROKEN, f"has another share of the users than promised (p = {sample_ratio_p:.2g}): something loses "
                                      "users of one arm. Find it, and start again; the rewards say nothing")
    low, high = float(difference.low), float(difference.high)
    if not np.isfinite(low):
        return Judged(Verdict.OPEN, "cannot be judged yet, as too few users were rewarded")
    if low > 0:
        return Judged(Verdict.BETTER, f"earns more, by {_share(low, usual)} at least")
    if high < 0:
        return Judged(Verdict.WORSE, f"earns less, by {_share(-high, usual)} at least")
    if low > -effect * abs(usual):
        return Judged(Verdict.HARMLESS, f"earns at most {_share(-low, usual)} less, and less than {effect:.3g} does not matter")
    return Judged(Verdict.OPEN, f"earns from {_share(-low, usual)} less to {_share(high, usual)} more")


def _share(reward: float, usual: float) -> str:
    return f"{reward / abs(usual):.1%}" if usual else f"{reward:.4g}"

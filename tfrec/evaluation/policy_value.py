"""What a challenger's policy would earn beyond the champion's, estimated from the same logged slates.

Each position of a slate is weighed by itself: what stood above it stays as logged, and the policy draws that one position. With
weights w' of the challenger and w of the champion, a request's gain is the sum over its positions of (w' - w) (r - b), where b is
the position's mean reward. This is the first-order gain of one policy over another (Kakade & Langford 2002, "Approximately
optimal approximate reinforcement learning"): its sign is that of the first step from the one to the other. Over whole slates the
weights would multiply and leave a few rows that count, and the first position alone leaves one row of a slate. Weights average 1,
so b changes nothing but the width of the interval.

Both policies are estimated on the same rows, so what they agree on cancels, and a challenger that moved little is known well from
few slates. When the log does not support one of the policies, the result is a reason and no number.
"""
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec.errors import DataError
from tfrec.evaluation.intervals import Interval, UserBootstrap
from tfrec.evaluation.off_policy import Logged, diagnose, ips


@dataclass(frozen=True)
class PolicyValue:
    """Reward per request."""

    slates: int
    logged: float  # by the policy that logged
    gain: Interval | None  # of the challenger over the champion; None when the log cannot tell
    reason: str = ""  # why not

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"slates": self.slates, "logged": self.logged, "gain": None if self.gain is None else self.gain._asdict(),
                "reason": self.reason}


def compare_policies(reward: NDArray[np.floating], propensity: NDArray[np.floating], *, champion: NDArray[np.floating],
                     challenger: NDArray[np.floating], shown: NDArray[np.bool_], users: ArrayLike) -> PolicyValue:
    """The gain of one policy over another, each given as the probabilities `[n, K]` of what was shown.

    Args:
        reward: `[n, K]`, of the item at each position.
        propensity: `[n, K]`, its logged probability given the positions above it.
        champion: `[n, K]`, the probability of the same item under the champion, given the same positions above it.
        challenger: `[n, K]`, the same under the challenger.
        shown: `[n, K]`, where there is an item: slates may have any length.
        users: `[n]`, who are redrawn for the interval.
    """
    slates = len(reward)
    if not shown.any():
        return PolicyValue(0, 0.0, None, "no slate was drawn with propensities")
    rewards = np.where(shown, reward, 0.0).astype(np.float64)
    mean = float(rewards.sum() / slates)
    above_mean = rewards - rewards.sum(axis=0) / np.maximum(shown.sum(axis=0), 1)
    terms = []
    for name, target in (("champion", champion), ("challenger", challenger)):
        try:
            logged = Logged(reward=above_mean[shown], propensity=np.asarray(propensity[shown], np.float64),
                            target=np.asarray(target[shown], np.float64))
        except DataError as e:
            return PolicyValue(slates, mean, None, str(e))
        if (refusal := diagnose(logged).refusal) is not None:
            return PolicyValue(slates, mean, None, f"{name}: {refusal}")
        terms.append(ips(logged))
    row = np.broadcast_to(np.arange(slates)[:, None], shown.shape)[shown]
    gain = np.bincount(row, weights=terms[1].plain - terms[0].plain, minlength=slates)
    return PolicyValue(slates, mean, UserBootstrap(np.asarray(users)).interval(gain))

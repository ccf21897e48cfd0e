"""What a challenger's policy would earn beyond the champion's, estimated from the same logged slates.

Only the first position of a slate is weighed: over whole slates the weights multiply, and the effective sample is small. Both
policies are estimated by IPS on the same rows, so what they agree on cancels, and a challenger that moved little is known well
from few slates. When the log does not support one of the policies, the result is a reason and no number.
"""
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfrec.errors import DataError
from tfrec.evaluation.intervals import Interval
from tfrec.evaluation.off_policy import Logged, diagnose, estimate, ips


@dataclass(frozen=True)
class PolicyValue:
    """Reward per request, at the first position."""

    slates: int
    logged: float  # by the policy that logged
    gain: Interval | None  # of the challenger over the champion; None when the log cannot tell
    reason: str = ""  # why not

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"slates": self.slates, "logged": self.logged, "gain": None if self.gain is None else self.gain._asdict(),
                "reason": self.reason}


def compare_policies(
    reward: ArrayLike, propensity: ArrayLike, *, champion: ArrayLike, challenger: ArrayLike, users: ArrayLike
) -> PolicyValue:
    """The gain of one policy over another, each given as probabilities `[n]` of the item that was shown first.

    Args:
        reward: `[n]`, of that item.
        propensity: `[n]`, its logged probability.
        champion: `[n]`, the probability of the same item under the champion.
        challenger: `[n]`, the same under the challenger.
        users: `[n]`, who are redrawn for the interval.
    """
    rewards = np.asarray(reward, np.float64)
    if not len(rewards):
        return PolicyValue(0, 0.0, None, "no slate was drawn with propensities")
    mean = float(rewards.mean())
    terms = []
    for name, target in (("champion", champion), ("challenger", challenger)):
        try:
            logged = Logged(reward=rewards, propensity=np.asarray(propensity), target=np.asarray(target))
        except DataError as e:
            return PolicyValue(len(rewards), mean, None, str(e))
        if (refusal := diagnose(logged).refusal) is not None:
            return PolicyValue(len(rewards), mean, None, f"{name}: {refusal}")
        terms.append(ips(logged))
    gain = estimate(terms[1]._replace(plain=terms[1].plain - terms[0].plain), users=users)
    return PolicyValue(len(rewards), mean, gain)

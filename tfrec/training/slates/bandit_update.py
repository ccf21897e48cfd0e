"""The bandits' update: the posterior of their weights after a window of slates, in closed form.

    reward at position k = m_k (gain <w, phi> + intercept) + noise,    noise ~ N(0, sd^2)        (`position_bias.py`)
    precision' = d precision + (1 - d) prior + sum  (m_k gain / sd)^2  phi phi'
    mean'      = precision'^-1 (d precision mean + (1 - d) prior 1 + sum  m_k gain / sd^2 phi (reward - m_k intercept))

This is Bayesian linear regression on the part of the reward that the position does not explain. The decay d fades old evidence
towards the prior (w = 1, the model's own score): after a drift the bandit is unsure again, and its precision never exceeds
1 / (1 - d) windows' worth. It is never below (1 - d) of the prior's, so its Cholesky factor exists after any number of windows.
All of it is in float64.
"""
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tfrec.errors import DataError
from tfrec.models.bayesian_head import PRIOR_SD, BayesianHead
from tfrec.training.slates.position_bias import PositionBiasModel

Part = tuple[npt.NDArray[np.floating], npt.NDArray[np.floating], npt.NDArray[np.bool_]]


def update_head(head: BayesianHead, parts: Iterable[Part], bias: PositionBiasModel, *, bandit_decay: float) -> None:
    """Replace the head's posterior by the one after a window, whose features need not be in memory at once.

    Args:
        head: The bandits' weights.
        parts: Of the window: features phi of shown items `[n, K, dim + 1]`, rewards `[n, K]` and where there is an item `[n, K]`.
        bias: Position bias of the same slates.
        bandit_decay: d, above 0 and at most 1; 1 keeps all evidence.

    Raises:
        DataError: A feature or reward is not finite; nothing is changed.
    """
    factor = np.asarray(head.factor.numpy(), np.float64)
    precision, prior = factor @ factor.T, np.eye(len(factor)) / PRIOR_SD**2
    evidence = precision @ np.asarray(head.mean.numpy(), np.float64)
    precision = bandit_decay * precision + (1 - bandit_decay) * prior
    evidence = bandit_decay * evidence + (1 - bandit_decay) * prior.sum(1)
    broken = np.zeros(2, np.int64)
    for phi, reward, shown in parts:
        x, r = np.asarray(phi[shown], np.float64), np.asarray(reward[shown], np.float64)
        broken += (~np.isfinite(x)).any(1).sum(), (~np.isfinite(r)).sum()
        m = np.broadcast_to(bias.position_weights.astype(np.float64), shown.shape)[shown]
        scaled = x * (m * bias.gain / bias.noise)[:, None]
        precision += scaled.T @ scaled
        evidence += scaled.T @ ((r - m * bias.intercept) / bias.noise)
    if broken.any():
        raise DataError(f"head: expected finite features and rewards, got {broken[0]} and {broken[1]} rows that are not. Mend "
                        "the reward rule, or the model that gave them.")
    lower = np.linalg.cholesky(precision)
    head.factor.assign(lower)
    head.mean.assign(np.linalg.solve(lower.T, np.linalg.solve(lower, evidence)))

"""Whether as many users came to each arm as their shares promise, checked after each user.

A ratio that is off means that something loses users of one arm: answers that time out, a log that misses an app version. The
comparison of rewards is then worth nothing. The test is the multinomial mixture of Lindon and Malek (2022): the Bayes factor of
any shares, with a Dirichlet prior around those that are promised, against the promised ones. While these hold, it ever exceeds
1 / level with probability `level` at most, so that looking after each user raises no more false alarms than that.
"""
import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

_PRIOR = 1000.0  # users that the prior counts for: shares that are off by a few hundredths are found soonest


def log_bayes_factor(users: npt.ArrayLike, shares: npt.ArrayLike, *, prior: float = _PRIOR) -> npt.NDArray[np.float64]:
    """How much more likely other shares make the counts than the promised ones, as a logarithm.

    Args:
        users: `[..., arms]`, how many came to each arm.
        shares: `[arms]`, promised; their sum need not be 1.
        prior: users that the prior counts for.

    Returns:
        `[...]`.
    """
    counts, promised = np.asarray(users, np.float64), np.asarray(shares, np.float64)
    promised = promised / promised.sum()
    parameters = prior * promised
    marginal = (gammaln(prior) - gammaln(prior + counts.sum(-1))
                + (gammaln(parameters + counts) - gammaln(parameters)).sum(-1))
    return np.asarray(marginal - (counts * np.log(promised)).sum(-1))


def sample_ratio_p(users: npt.ArrayLike, shares: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The p value of the counts, valid at every look: at most 1, and small where the shares cannot be those promised."""
    return np.minimum(1.0, np.exp(-log_bayes_factor(users, shares)))

"""Streams of requests as a shop sees them: users who come back, who are unlike each other, and who seldom earn anything."""
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tfrec.experiments.user_moments import FloatArray, running_moments, user_rows


class Stream(NamedTuple):
    """`user` `[n]` of each request, in order of time, its `reward` `[n]`, and of each user the arm, 0 or 1, and the past."""

    user: npt.NDArray[np.int64]
    reward: FloatArray
    arm: npt.NDArray[np.int64]
    past_requests: FloatArray
    past_reward: FloatArray


def stream(rng: np.random.Generator, *, requests: int, users: int, share: float = 0.5, lift: float = 0.0,
           likeness: float = 1.0, value_spread: float = 1.0, mean: float = 0.1, newcomers: float = 0.3,
           past: float = 1.0) -> Stream:
    """A stream of requests.

    Args:
        rng: of everything.
        requests: how many.
        users: how many there are; those who come more often come sooner, and new ones come all the time.
        share: of the users, in arm 1.
        lift: the change of reward in arm 1, as a share of it.
        likeness: how far users differ in the chance that they are pleased: the deviation of its logarithm.
        value_spread: the deviation of the logarithm of what a pleased user is worth.
        mean: the chance that a user is pleased, on average.
        newcomers: share of users without a past.
        past: how many requests there were before, of all users, as a share of `requests`.
    """
    activity = rng.gamma(0.7, size=users) + 0.02
    chance = np.minimum(1.0, mean * np.exp(rng.normal(0, likeness, users) - likeness**2 / 2))
    arm = (rng.random(users) < share).astype(np.int64)
    user = rng.choice(users, requests, p=activity / activity.sum())
    is_new, usual = rng.random(users) < newcomers, activity * past * requests / activity.sum()
    past_requests = np.where(is_new, 0, rng.poisson(usual)).astype(float)
    worth = np.exp(rng.normal(0, value_spread, requests) - value_spread**2 / 2)
    reward = (rng.random(requests) < chance[user] * np.where(arm[user] == 1, 1 + lift, 1.0)) * worth
    pleased = rng.binomial(past_requests.astype(int), chance)
    past_reward = pleased * np.exp(rng.normal(0, value_spread / 2, users) - value_spread**2 / 8)
    return Stream(user, reward, arm, past_requests, past_reward)


def rows_of_each_request(one: Stream) -> tuple[FloatArray, FloatArray]:
    """The row `[n, 6]` of the user of each request, before and after it."""
    order = np.argsort(one.user, kind="stable")
    first = np.r_[True, np.diff(one.user[order]) > 0]
    start = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    total = np.cumsum(one.reward[order])
    count, earned = np.empty(len(order)), np.empty(len(order))
    count[order] = np.arange(len(order)) - start + 1
    earned[order] = total - (total - one.reward[order])[start]
    usual = one.past_reward.sum() / max(one.past_requests.sum(), 1.0)
    past, gained = one.past_requests[one.user], one.past_reward[one.user]
    after = user_rows(count, earned, past, gained, usual=usual)
    return user_rows(count - 1, earned - one.reward, past, gained, usual=usual), after


def arms_after_each_request(one: Stream) -> tuple[FloatArray, FloatArray]:
    """The moments `[n, 6, 6]` of both arms after each request."""
    before, after = rows_of_each_request(one)
    in_arm = one.arm[one.user] == 1
    plain, changed = (running_moments(np.where(mine[:, None], before, 0), np.where(mine[:, None], after, 0))
                      for mine in (~in_arm, in_arm))
    return plain, changed

"""Second moments over the users of an arm: all that the comparison of arms needs, and cheap to keep up to date.

A user is one row (1, requests, reward, past reward, has a past, was rewarded), and an arm is the sum of the outer products of
its rows, `[..., 6, 6]`. Users are the unit because they are what is assigned by chance, and because the rewards of one user are
alike: intervals that count requests as independent are too narrow. One more request changes one row, so the moments after each
request of a stream are a running sum.

The past is the reward before the experiment minus what as many requests earn on average, so it is 0 for an average user, and
for one without a past, whom the next column tells apart.
"""
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

ONE, REQUESTS, REWARD, PAST, HAS_PAST, WAS_REWARDED = range(6)


def user_rows(requests: npt.ArrayLike, reward: npt.ArrayLike, past_requests: npt.ArrayLike | None = None,
              past_reward: npt.ArrayLike | None = None, *, usual: float = 0.0) -> FloatArray:
    """The rows of users.

    Args:
        requests: `[...]`, of each user in the experiment, at least 1; 0 makes a row of zeros, for a user who has not come yet.
        reward: `[...]`, the sum over these requests.
        past_requests: `[...]`, of each user before the experiment began; none by default.
        past_reward: `[...]`, the sum over those.
        usual: the mean reward of a request before the experiment began, over all users.

    Returns:
        `[..., 6]`.
    """
    requests, reward = np.asarray(requests, np.float64), np.asarray(reward, np.float64)
    before = np.zeros_like(requests) if past_requests is None else np.asarray(past_requests, np.float64)
    earned = np.zeros_like(requests) if past_reward is None else np.asarray(past_reward, np.float64)
    rows = np.stack([np.ones_like(requests), requests, reward, earned - usual * before, before > 0, reward != 0], axis=-1)
    return np.where(requests[..., None] > 0, rows, 0.0)


def user_moments(rows: FloatArray) -> FloatArray:
    """The moments `[6, 6]` of the users `[n, 6]` of an arm."""
    return rows.T @ rows


def running_moments(before: FloatArray, after: FloatArray) -> FloatArray:
    """The moments after each step of a stream in which a user's row changes.

    Args:
        before: `[n, 6]`, the row of the user whom a step is about, before it; zeros for a new user.
        after: `[n, 6]`, the same row after it. A step of another arm leaves both alike.

    Returns:
        `[n, 6, 6]`.
    """
    change = after[:, :, None] * after[:, None, :] - before[:, :, None] * before[:, None, :]
    return np.cumsum(change, axis=0)

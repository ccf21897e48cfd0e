"""What an outcome is worth: the reward rule of the configuration, as the relation that `join.sql` reads and as numbers.

    gain(outcome) = weights[action] * (value if the action is valued else 1), 0 for actions without a weight
    reward(example) = min(sum of the gains of its outcomes, cap)
"""
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tfrec.config import RewardConfig


def reward_table(config: RewardConfig) -> pa.Table:
    """A row per action that has a weight."""
    return pa.table(
        {
            "action": pa.array(config.weights.keys(), pa.string()),
            "weight": pa.array(config.weights.values(), pa.float64()),
            "valued": pa.array((action in config.valued for action in config.weights), pa.bool_()),
        }
    )


def ceiling(config: RewardConfig) -> float:
    """The reward from which a label is final before its attribution window closes, because nothing better can follow.

    With counted acts only, that is the best act (a purchase after a click, not a second click); where values add up, the cap.
    """
    if set(config.valued) & config.weights.keys():
        return config.cap
    return min(config.cap, max(config.weights.values(), default=config.cap))


def gains(
    config: RewardConfig, *, actions: Sequence[str], action: npt.NDArray[np.int16], value: npt.ArrayLike
) -> npt.NDArray[np.float32]:
    """Gain of each event; `action` holds codes into `actions`."""
    weight = np.array([config.weights.get(name, 0.0) for name in actions], dtype=np.float64)
    valued = np.array([name in config.valued for name in actions], dtype=bool)
    gain = weight[action] * np.where(valued[action], np.asarray(value, dtype=np.float64), 1.0)
    return np.minimum(gain, config.cap).astype(np.float32)

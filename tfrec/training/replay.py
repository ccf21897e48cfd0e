"""What a retrain learns: the new events and a sample of the old ones, so that the new do not wash out what was known.

Events in, a mask of targets out; a function of the seed, so a run that is repeated learns the same.
"""
import numpy as np
import numpy.typing as npt


def with_replay(new: npt.NDArray[np.bool_], *, ratio: float, seed: int) -> npt.NDArray[np.bool_]:
    """`new` and, for each of them, `ratio` old events drawn uniformly without repeats (all when there are fewer)."""
    old = np.flatnonzero(~new)
    wanted = min(len(old), round(ratio * int(new.sum())))
    chosen = new.copy()
    chosen[np.random.default_rng(seed).choice(old, wanted, replace=False)] = True
    return chosen

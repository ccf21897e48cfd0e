"""What a retrain learns: the new events and a sample of the old ones, so that the new do not wash out what was known.

Old events are drawn as whole windows (`sequences.windows`): a window costs the same whether one or all of its places are learnt.
Events in, a mask of targets out; a function of the seed, so a run that is repeated learns the same.
"""
import numpy as np
import numpy.typing as npt

from tfrec.data.interactions import Interactions


def with_replay(
    inter: Interactions, new: npt.NDArray[np.bool_], *, ratio: float, length: int, seed: int
) -> npt.NDArray[np.bool_]:
    """`new` and the old events of randomly drawn windows, until there are about `ratio` of them for each new one.

    Args:
        inter: events in protocol order.
        new: `[len(inter)]`.
        ratio: old events for each new one.
        length: events of a window.
        seed: of the draw.
    """
    order = np.argsort(inter.user, kind="stable")
    count = np.bincount(inter.user, minlength=len(inter.users))
    begin = np.cumsum(count) - count
    behind = np.empty(len(inter), np.int64)  # events of the same user that come after this one
    behind[order] = (begin + count)[inter.user[order]] - 1 - np.arange(len(inter))
    window = inter.user.astype(np.int64) * (len(inter) // length + 1) + behind // length
    names, number = np.unique(window, return_inverse=True)
    old = np.bincount(number, weights=~new, minlength=len(names))  # old events in each window
    drawn = np.random.default_rng(seed).permutation(len(names))
    enough = np.cumsum(old[drawn]) - old[drawn] < ratio * new.sum()
    chosen = np.zeros(len(names), bool)
    chosen[drawn[enough]] = True
    return np.asarray(new | chosen[number])

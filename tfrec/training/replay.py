"""What a retrain learns: the new events and a sample of the old ones, so that the new do not wash out what was known.

Old events are drawn as whole windows (`sequences.windows`): a window costs the same whether one or all of its places are learnt.
Events in, a mask of targets out; a function of the seed, so a run that is repeated learns the same.
"""
import numpy as np
import numpy.typing as npt

from tfrec.data.interactions import Interactions
from tfrec.data.sequences import windows


def with_replay(
    inter: Interactions, new: npt.NDArray[np.bool_], *, ratio: float, length: int, seed: int
) -> npt.NDArray[np.bool_]:
    """`new` and the old events of randomly drawn windows, until there are about `ratio` of them for each new one.

    Args:
        inter: events in protocol order, no others than those that are trained on: other events cut other windows.
        new: `[len(inter)]`.
        ratio: old events for each new one.
        length: events of a window.
        seed: of the draw.
    """
    found = windows(inter, length=length)
    learnt = found.weight > 0
    old = (learnt & ~new[found.event]).sum(1)  # in each window
    drawn = np.random.default_rng(seed).permutation(len(found))
    enough = np.cumsum(old[drawn]) - old[drawn] < ratio * new.sum()
    rows = drawn[enough]
    chosen = new.copy()
    chosen[found.event[rows][learnt[rows]]] = True
    return chosen

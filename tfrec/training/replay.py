"""What a retrain learns: the new events and a sample of the old ones, so that the new do not wash out what was known.

Events are drawn as whole windows (`sequences.windows`): a window costs the same whether one or all of its places are learnt.
Drawn evenly, a long quiet past, rare items and people who do little are not crowded out by what there is most of. Events in, a
mask of targets out; a function of the seed, so a run that is repeated learns the same.
"""
import numpy as np
import numpy.typing as npt

from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.sequences import Windows, windows

PERIODS = 10  # of equal length, from the first to the last event
BANDS = 4  # of how often: below 10 times, below 100, below 1,000, more

Ints = npt.NDArray[np.int64]


def with_replay(
    inter: Interactions, new: npt.NDArray[np.bool_], *, ratio: float, length: int, seed: int, evenness: float = 0.0,
    max_new: int | None = None,
) -> npt.NDArray[np.bool_]:
    """`new`, or a sample of them, and a sample of the old events.

    Args:
        inter, length, seed, evenness: those of `sample`.
        new: `[len(inter)]`.
        ratio: old events for each new one that is learnt, about.
        max_new: new events, about; of more, a sample is learnt.
    """
    learnt = new
    if max_new is not None and new.sum() > max_new:
        learnt = sample(inter, new, most=max_new, length=length, seed=seed, evenness=evenness)
    return learnt | sample(inter, ~new, most=ratio * float(learnt.sum()), length=length, seed=seed, evenness=evenness)


def sample(
    inter: Interactions, events: npt.NDArray[np.bool_], *, most: float, length: int, seed: int, evenness: float = 0.0
) -> npt.NDArray[np.bool_]:
    """About `most` of `events`, those of randomly drawn windows.

    Args:
        inter: events in protocol order, no others than those that are trained on: other events cut other windows.
        events: `[len(inter)]`, which may be drawn.
        most: how many; the last window drawn may exceed it.
        length: events of a window.
        seed: of the draw.
        evenness: of the sample over slices (`slices`): 0 draws each window with the same chance, so a slice has the share of the
            sample that it has of `events`; 1 gives every slice the same share, as long as it has events.
    """
    found = windows(inter, length=length)
    counts = (found.weight > 0) & events[found.event]
    each = counts.sum(1)  # in each window
    drawn = reservoir(slice_weights(slices(inter, found, counts), each, evenness=evenness), seed=seed)
    rows = drawn[np.cumsum(each[drawn]) - each[drawn] < most]
    chosen = np.zeros(len(inter), bool)
    chosen[found.event[rows][counts[rows]]] = True
    return chosen


def slices(inter: Interactions, found: Windows, counts: npt.NDArray[np.bool_]) -> Ints:
    """`[windows]`: the slice of each window, a number: its period, how popular its items are, how active its user is.

    Args:
        inter: the events that `found` are the windows of.
        found: windows.
        counts: `[windows, length]`, the places that say what a window is about: its items by their mean, its time by its newest.
    """
    at = np.where(counts, found.event, 0)
    newest = np.where(counts, inter.time[at], 0).max(1, initial=0)
    start, end = (int(inter.time[0]), int(inter.time[-1]) + 1) if len(inter) else (0, 1)
    period = np.clip((newest - start) * PERIODS // (end - start), 0, PERIODS - 1)
    item_count, user_count = np.bincount(inter.item, minlength=1), np.bincount(inter.user, minlength=1)
    orders = np.where(counts, np.log10(np.maximum(item_count, 1))[inter.item[at]], 0).sum(1) / np.maximum(counts.sum(1), 1)
    popular = np.clip(orders.astype(np.int64), 0, BANDS - 1)
    first = found.event[np.arange(len(found)), np.argmax(counts, axis=1)]
    active = np.clip(np.log10(np.maximum(user_count[inter.user[first]], 1)).astype(np.int64), 0, BANDS - 1)
    return np.asarray((period * BANDS + popular) * BANDS + active, np.int64)


def slice_weights(slice_of: Ints, events: Ints, *, evenness: float) -> npt.NDArray[np.float64]:
    """`[windows]`: n_s ** -evenness for a window of slice s with n_s events, 0 for a window without an event."""
    size = np.bincount(slice_of, weights=events, minlength=1)[slice_of] if len(slice_of) else np.zeros(0)
    return np.asarray(np.where(events > 0, np.maximum(size, 1.0) ** -evenness, 0.0), np.float64)


def reservoir(weight: npt.NDArray[np.float64], *, seed: int) -> Ints:
    """All places in the order in which a weighted draw without replacement takes them; those without weight are the last.

    A-ES (Efraimidis & Spirakis 2006, doi:10.1016/j.ipl.2005.11.003): the largest u ** (1 / weight) first, u uniform on (0, 1).
    The first k are a sample of k, for every k.
    """
    u = 1.0 - np.random.default_rng(seed).random(len(weight))  # in (0, 1]
    with np.errstate(divide="ignore"):
        key = np.where(weight > 0, np.log(u) / weight, -np.inf)  # in the order of u ** (1 / weight), which would underflow
    return np.argsort(-key, kind="stable")

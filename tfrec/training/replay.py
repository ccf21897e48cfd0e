"""Replay: a retrain learns a sample of the old events beside the new ones, so that it does not forget what was known.

Whole windows are drawn (`sequences.windows`), since a window costs the same whether one or all of its positions are learnt. With
`evenness`, a long quiet past, rare items and users who do little are not crowded out by what there is most of. The sample is a
function of the seed, so a run that is repeated learns the same.
"""
import numpy as np
import numpy.typing as npt

from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.sequences import Windows, windows

PERIODS = 10  # of equal length, from the first to the last event
BANDS = 4  # of counts: below 10, below 100, below 1,000, and more

Ints = npt.NDArray[np.int64]


def with_replay(
    inter: Interactions, new: npt.NDArray[np.bool_], *, ratio: float, length: int, seed: int, evenness: float = 0.0,
    max_new: int | None = None, pool: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.bool_]:
    """Return the mask `[len(inter)]` of the events to learn: `new` or a sample of them, and a sample of the old events.

    Args:
        inter: events in protocol order.
        new: `[len(inter)]`, whether each event is new.
        ratio: about how many old events are learnt for each new one.
        length: events in a window.
        seed: of the draws.
        evenness: of the samples, as for `sample`.
        max_new: about how many new events are learnt; None learns all.
        pool: `[len(inter)]`, whether each old event may be drawn; None for all. Of a long past, `inter` has a sample of users and
            all of those who act now; only the sample stands for the past.
    """
    learnt = new
    if max_new is not None and new.sum() > max_new:
        learnt = sample(inter, new, most=max_new, length=length, seed=seed, evenness=evenness)
    old = ~new if pool is None else ~new & pool
    return learnt | sample(inter, old, most=ratio * float(learnt.sum()), length=length, seed=seed, evenness=evenness)


def sample(
    inter: Interactions, events: npt.NDArray[np.bool_], *, most: float, length: int, seed: int, evenness: float = 0.0
) -> npt.NDArray[np.bool_]:
    """Return a mask `[len(inter)]` of about `most` of `events`, those in randomly drawn windows.

    Args:
        inter: the events that are trained on, in protocol order; other events would cut other windows.
        events: `[len(inter)]`, whether each event may be drawn.
        most: number of events; the last window drawn may exceed it.
        length: events in a window.
        seed: of the draw.
        evenness: of the sample over `slices`. With 0, each window is as likely as any other, so a slice has the share of the
            sample that it has of `events`. With 1, every slice has the same share, as long as it has events.
    """
    found = windows(inter, length=length)
    counts = (found.weight > 0) & events[found.event]
    per_window = counts.sum(1)
    drawn = reservoir(slice_weights(slices(inter, found, counts), per_window, evenness=evenness), seed=seed)
    rows = drawn[np.cumsum(per_window[drawn]) - per_window[drawn] < most]
    chosen = np.zeros(len(inter), bool)
    chosen[found.event[rows][counts[rows]]] = True
    return chosen


def slices(inter: Interactions, found: Windows, counts: npt.NDArray[np.bool_]) -> Ints:
    """Return the number of each window's slice, `[windows]`: its period, how popular its items are, and how active its user is.

    Args:
        inter: the events in the windows.
        found: the windows.
        counts: `[windows, length]`, the positions that describe a window: their mean popularity, and the newest time.
    """
    event = np.where(counts, found.event, 0)
    newest = np.where(counts, inter.time[event], 0).max(1, initial=0)
    start, end = (int(inter.time[0]), int(inter.time[-1]) + 1) if len(inter) else (0, 1)
    period = np.clip((newest - start) * PERIODS // (end - start), 0, PERIODS - 1)
    item_count, user_count = np.bincount(inter.item, minlength=1), np.bincount(inter.user, minlength=1)
    orders = np.where(counts, np.log10(np.maximum(item_count, 1))[inter.item[event]], 0).sum(1) / np.maximum(counts.sum(1), 1)
    popular = np.clip(orders.astype(np.int64), 0, BANDS - 1)
    first = found.event[np.arange(len(found)), np.argmax(counts, axis=1)]
    active = np.clip(np.log10(np.maximum(user_count[inter.user[first]], 1)).astype(np.int64), 0, BANDS - 1)
    return np.asarray((period * BANDS + popular) * BANDS + active, np.int64)


def slice_weights(slice_of: Ints, events: Ints, *, evenness: float) -> npt.NDArray[np.float64]:
    """Return the weight of each window in the draw, `[windows]`.

    It is n_s ** -evenness for a window of a slice s with n_s events, and 0 for a window without an event.
    """
    size = np.bincount(slice_of, weights=events, minlength=1)[slice_of] if len(slice_of) else np.zeros(0)
    return np.asarray(np.where(events > 0, np.maximum(size, 1.0) ** -evenness, 0.0), np.float64)


def reservoir(weight: npt.NDArray[np.float64], *, seed: int) -> Ints:
    """Return all indices in the order in which a weighted draw without replacement takes them; those of weight 0 come last.

    A-ES (Efraimidis & Spirakis 2006, doi:10.1016/j.ipl.2005.11.003): the largest u ** (1 / weight) comes first, for u uniform on
    (0, 1). The first k are a sample of k, for every k.
    """
    u = 1.0 - np.random.default_rng(seed).random(len(weight))  # in (0, 1]
    with np.errstate(divide="ignore"):
        key = np.where(weight > 0, np.log(u) / weight, -np.inf)  # the logarithm of u ** (1 / weight), which would underflow
    return np.argsort(-key, kind="stable")

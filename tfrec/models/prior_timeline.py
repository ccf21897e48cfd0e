# mypy: warn-return-any, disallow-subclassing-any, disallow-untyped-decorators, enable-error-code=name-defined
"""The popularity prior over time: what it was at moments of the past, and its state of now.

Training on an event of the past reads what serving would have read then. A version carries the timeline, so a retrain goes on
from it: it counts the new events alone, in one pass, and never those that its parents have counted.
"""
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec.data import durable_files
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.newcomers import by_newcomers
from tfrec.errors import ModelError
from tfrec.models.popularity_prior import DEFAULT_WEIGHTS, PopularityPrior

NEVER = np.iinfo(np.int64).max
MAX_FLOATS = 1 << 26  # of all moments while training, 256 MB: a catalogue of a million items gets 64
KEPT_FLOATS = 1 << 24  # of those that a version carries, 32 MB as half floats
RECENT = 48  # hours: of each, one moment is kept, as labels of slates mature for a day or two
PER_DOUBLING = 32  # moments that are kept for each doubling of the age beyond that

Bools = NDArray[np.bool_]


class PriorTimeline:
    """The prior at `S` moments, and its state after everything that it has counted.

    Attributes:
        prior: The state of now.
        times: `[S]`, seconds since 1970, ascending. A moment holds from its second on, and has counted what was before it.
        log_p: `[S, V]`, log p of every item at each moment.
        touched: `[2, V]`, the second of the first and of the last event of each item; `NEVER` and 0 without one.
        upto: The number of the last part of the settled examples that it has counted; 0 when none.
    """

    def __init__(self, prior: PopularityPrior, times: NDArray[np.int64], log_p: NDArray[np.float32],
                 touched: NDArray[np.int64], upto: int = 0) -> None:
        self.prior, self.times, self.log_p, self.touched, self.upto = prior, times, log_p, touched, upto

    @classmethod
    def empty(cls, n_items: int, *, weights: ArrayLike = DEFAULT_WEIGHTS) -> "PriorTimeline":
        """Of a log without events."""
        prior = PopularityPrior(n_items, weights=weights)
        touched = np.stack([np.full(n_items, NEVER), np.zeros(n_items, np.int64)])
        return cls(prior, np.zeros(1, np.int64), prior.log_p()[None], touched)

    @classmethod
    def of(cls, inter: Interactions, *, weights: ArrayLike, most: int = 1024) -> "PriorTimeline":
        """Of a whole log, as a version carries it."""
        return cls.empty(len(inter.items), weights=weights).advanced(inter, np.ones(len(inter), bool), most=most).thinned()

    def __len__(self) -> int:
        return len(self.times)

    def advanced(self, inter: Interactions, arrived: Bools, *, most: int, upto: int = 0) -> "PriorTimeline":
        """The timeline after some events of `inter`, with up to `most` new moments, spread evenly over them.

        Args:
            inter: Events in the order of time, by the same catalogue.
            arrived: `[len(inter)]`, which of them are counted: those that this timeline has not.
            most: Fewer are taken of a large catalogue (`MAX_FLOATS`).
            upto: The last part of the settled examples that they are of.
        """
        item, time, newcomer = inter.item[arrived], inter.time[arrived], by_newcomers(inter)[arrived]
        if not len(item):
            return PriorTimeline(self.prior, self.times, self.log_p, self.touched, upto)
        prior, touched = self.prior.copy(), self.touched.copy()
        begins = prior.clock + 1 if touched[1].any() else int(time[0])
        np.minimum.at(touched[0], item, time)
        np.maximum.at(touched[1], item, time)
        done = int(np.searchsorted(time, begins))  # what came late counts as if it had come in time
        prior.update(item[:done], time[:done], newcomer=newcomer[:done])
        count = min(most, max(1, MAX_FLOATS // len(prior)), len(time) - done)
        edges = done + np.linspace(0, len(time) - done, count, endpoint=False).astype(np.int64)
        moments = np.unique(np.concatenate([[begins], time[edges], [max(prior.clock, int(time[-1])) + 1]]))  # the last is now
        log_p = np.empty((len(moments), len(prior)), np.float32)
        for row, moment in zip(log_p, moments, strict=True):
            before, done = done, max(done, int(np.searchsorted(time, moment)))
            prior.update(item[before:done], time[before:done], newcomer=newcomer[before:done])
            row[:] = prior.log_p()
        older = self.times < begins
        return PriorTimeline(prior, np.concatenate([self.times[older], moments]), np.concatenate([self.log_p[older], log_p]),
                             touched, upto)

    def since(self, second: int) -> "PriorTimeline":
        """The same without the moments that no event from `second` on reads."""
        first = int(self.at(np.array([second]))[0])
        return PriorTimeline(self.prior, self.times[first:], self.log_p[first:], self.touched, self.upto)

    def thinned(self) -> "PriorTimeline":
        """The same with few moments: one an hour of the newest `RECENT` hours, and ever fewer of what is older."""
        hours = np.maximum(self.prior.clock - self.times, 0) // 3600
        older = RECENT + np.floor(PER_DOUBLING * np.log2(np.maximum(hours, RECENT) / RECENT)).astype(np.int64)
        cell = np.where(hours < RECENT, hours, older)
        kept = np.flatnonzero(np.append(cell[1:] != cell[:-1], True)[: len(cell)])  # the newest of each
        most = max(2, KEPT_FLOATS // max(1, len(self.prior)))
        if len(kept) > most:
            kept = kept[np.linspace(0, len(kept) - 1, most).astype(np.int64)]
        return PriorTimeline(self.prior, self.times[kept], self.log_p[kept], self.touched, self.upto)

    def at(self, times: NDArray[np.int64]) -> NDArray[np.int32]:
        """`[n]`: the newest moment of each second; the first one for what was before it."""
        return np.asarray(np.maximum(np.searchsorted(self.times, times, side="right") - 1, 0), np.int32)

    @property
    def first_touch(self) -> NDArray[np.int32]:
        """`[V]`: the first moment by which an event had touched the item; `S` for never."""
        return np.asarray(np.searchsorted(self.times, self.touched[0], side="right"), np.int32)

    def grow(self, n_items: int) -> None:
        """Make room for new items at the end, which have had no event; in the past they were as unlikely as any."""
        new = n_items - len(self.prior)
        self.prior.grow(n_items)
        least = self.log_p.min(axis=1, keepdims=True, initial=0.0)
        self.log_p = np.concatenate([self.log_p, np.repeat(least, new, axis=1)], axis=1)
        self.touched = np.concatenate([self.touched, np.stack([np.full(new, NEVER), np.zeros(new, np.int64)])], axis=1)

    def save(self, path: Path) -> None:
        """Write it as .npz without pickle, log p as half floats: .008 of it is lost at -16."""
        with durable_files.replacing(path) as file:
            np.savez(file, allow_pickle=False, times=self.times, log_p=self.log_p.astype(np.float16), touched=self.touched,
                     upto=np.array(self.upto), **self.prior.state())

    @classmethod
    def load(cls, path: Path) -> "PriorTimeline":
        """Read what `save` wrote.

        Raises:
            ModelError: That cannot be done; the message names the file.
        """
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                prior = PopularityPrior.from_state(dict(file))
                times, log_p, touched = file["times"], file["log_p"].astype(np.float32), file["touched"]
                upto = int(file["upto"])
        except (OSError, ValueError, EOFError, TypeError, KeyError, zipfile.BadZipFile, ModelError) as error:
            raise ModelError(f"{path}: expected the popularity of a checkpoint over time: {error}") from error
        if log_p.shape != (len(times), len(prior)) or touched.shape != (2, len(prior)):
            raise ModelError(f"{path}: expected log p for {len(times)} moments and {len(prior)} items, got {log_p.shape}.")
        return cls(prior, times, log_p, touched, upto)

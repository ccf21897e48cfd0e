# mypy: warn-return-any, disallow-subclassing-any, disallow-untyped-decorators, enable-error-code=name-defined
"""The streaming popularity prior: how likely each item is to be the next one, before anything is known about the person.

It reads events (item, second) and gives log p of every item. p is a mixture of counts that fade at several speeds, because some
logs live by the hour and some by the year. The towers learn what the prior leaves over, so it is kept with the checkpoint,
carried across retrains, and goes on counting while a version is served. It needs no TensorFlow, since a gateway loads it too; so
the line above takes back what mypy excuses in the rest of this room.
"""
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec.data import durable_files
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.newcomers import bounded_counts, by_newcomers
from tfrec.errors import DataError, ModelError

Floats = NDArray[np.float64]

HALF_LIVES = (0.5, 2.0, 7.0, 30.0, 180.0, float("inf"))  # days
COMPONENTS = (*(f"{days:g} days" for days in HALF_LIVES), "uniform", "never touched")  # what the weights are of, in order
# rounded between the fits on two logs of films, one of a service that lives by the day and one by the year
DEFAULT_WEIGHTS = (0.1, 0.05, 0.1, 0.05, 0.25, 0.35, 0.03, 0.07)

_SECONDS = np.array(HALF_LIVES) * 86_400
_HEADROOM = 512  # half lives after which counts are rescaled: they stay below 2^512 x events, far from overflow at 2^1024
_TINY = 1e-290  # below this a float loses digits; such a count weighs nothing
_BACKING = 50.0  # a, in events. On two logs of films 0 to 50 are alike in likelihood and HR@10, 200 costs .001 on one


class Override(NamedTuple):
    """Items and their log p of now, which replaces the exported one. Its contents must not be changed."""

    ids: list[str]
    log_p: NDArray[np.float32]  # [len(ids)]


class PopularityPrior:
    """Counts of events an item at several half lives h_k, and the mixture of them that is p.

        c_k(i) = sum over events e of i of 2^(-(clock - t_e) / h_k),   N_k = sum_i c_k(i)
        p_k(i) = (c_k(i) + a p_k+1(i)) / (N_k + a),   p_uniform(i) = 1 / V after the slowest k
        p(i) = sum_k w_k p_k(i) + w_uniform / V + w_new [i never touched] / #never touched

    A half life that holds few events leans on the next slower one. Otherwise the first event after a long silence would be all
    that the fast ones know, and one click would top every list. When everything was touched, "never touched" is uniform, so p
    always sums to 1. `clock` is the newest second seen. It never goes back, and an event older than it counts as much as if it
    had come in time. Silence alone changes nothing; the event that ends it does.

    Newcomers' events are counted apart; of each item only so many of them are in c as `newcomers.agreed` says.

    Counts are held in units that grow: an event weighs 2^((t_e - origin_k) / h_k), so news costs O(events), not O(V).

    Args:
        n_items: Items of the catalogue, V.
        start: Second at which the clock stands.
        weights: `[len(COMPONENTS)]`, w.
    """

    def __init__(self, n_items: int, *, start: int = 0, weights: ArrayLike = DEFAULT_WEIGHTS) -> None:
        self.clock = start
        self.weights = weights
        self._counts = np.zeros((2, len(HALF_LIVES), n_items))  # of people with a history, of newcomers
        self._totals = np.zeros((2, len(HALF_LIVES)))
        self._origins = np.full(len(HALF_LIVES), float(start))
        self._untouched = n_items

    @classmethod
    def counted(cls, inter: Interactions, stop: int | None = None, *, weights: ArrayLike) -> "PopularityPrior":
        """A prior that has counted the first `stop` events, all by default; their order makes no difference."""
        prior = cls(len(inter.items), weights=weights)
        prior.update(inter.item[:stop], inter.time[:stop], newcomer=by_newcomers(inter)[:stop])
        return prior

    @property
    def weights(self) -> Floats:
        """The share of each component, `[len(COMPONENTS)]`; they sum to 1, and that of uniform is never 0."""
        return self._weights

    @weights.setter
    def weights(self, weights: ArrayLike) -> None:
        new: Floats = np.array(weights, np.float64)
        if new.shape != (len(COMPONENTS),) or not (new >= 0).all() or abs(new.sum() - 1) > 1e-6 or new[-2] <= 0:
            raise ModelError(
                f"PopularityPrior: expected {len(COMPONENTS)} weights ({', '.join(COMPONENTS)}), none negative, uniform above 0, "
                f"sum 1, got {new.tolist()}. Fit them with fit_weights."
            )
        self._weights: Floats = new / new.sum()

    def __len__(self) -> int:
        return self._counts.shape[-1]

    def update(self, items: ArrayLike, times: ArrayLike, *, newcomer: ArrayLike | None = None) -> None:
        """Add events, in any order.

        Args:
            items: `[n]`, item codes.
            times: `[n]`, seconds.
            newcomer: `[n]`, whether a newcomer did it; None for nobody.

        Raises:
            DataError: The arrays differ in length, or an item is not known.
        """
        items, times = np.atleast_1d(np.asarray(items, np.int64)), np.atleast_1d(np.asarray(times, np.int64))
        if items.ndim != 1 or items.shape != times.shape:
            raise DataError(f"PopularityPrior.update: expected as many times as items, got {times.shape} and {items.shape}.")
        if not len(items):
            return
        if items.min() < 0 or items.max() >= len(self):
            wrong = items.min() if items.min() < 0 else items.max()
            raise DataError(f"PopularityPrior.update: expected items from 0 to {len(self) - 1}, got {wrong}. Call grow first.")
        self._advance(int(times.max()))
        new = np.unique(items)
        self._untouched -= int(self.untouched[new].sum())
        group = np.zeros(len(items), np.int64) if newcomer is None else np.asarray(newcomer).astype(np.int64)
        for k, seconds in enumerate(_SECONDS):
            weight = np.exp2((times - self._origins[k]) / seconds)
            np.add.at(self._counts[:, k], (group, items), weight)
            self._totals[:, k] += np.bincount(group, weight, minlength=2)

    def roll(self, inter: Interactions, done: int, event: int, newcomer: NDArray[np.bool_]) -> int:
        """Add the events of `inter` from `done` to the last one strictly before the second of `event`.

        Args:
            inter: Events in the order of time.
            done: Number of events that are counted already.
            event: Index into `inter`; `len(inter)` is the end of the log.
            newcomer: `[len(inter)]`, whether a newcomer did it.

        Returns:
            The number of events that are counted now.
        """
        end = int(np.searchsorted(inter.time, inter.time[event])) if event < len(inter) else len(inter)
        if end > done:
            self.update(inter.item[done:end], inter.time[done:end], newcomer=newcomer[done:end])
        return max(done, end)

    def components(self, items: ArrayLike | slice = slice(None)) -> Floats:
        """The p of each of `items` (all by default) by each component alone, `[len(COMPONENTS), n]`."""
        picked = items if isinstance(items, slice) else np.atleast_1d(np.asarray(items, np.int64))
        fading = self._fading()
        counts, totals = self._weighing(fading)
        counts = counts[:, picked]
        parts = np.full((len(COMPONENTS), counts.shape[1]), 1 / len(self))
        slower = parts[-2]
        for k in reversed(range(len(HALF_LIVES))):
            slower = parts[k] = (counts[k] + _BACKING * slower) / (totals[k] + _BACKING)
        if self._untouched:
            parts[-1] = self.untouched[picked] / self._untouched
        return parts

    def log_p(self) -> NDArray[np.float32]:
        """The log of p of every item after the events so far, `[V]`."""
        counts, totals = self._weighing(self._fading())
        shares, left = np.empty(len(HALF_LIVES)), 0.0
        for k, total in enumerate(totals):  # what a half life leaves over falls to the next slower one
            left += self._weights[k]
            shares[k] = left / (total + _BACKING)
            left *= _BACKING / (total + _BACKING)
        p = shares @ counts
        uniform, new = self._weights[-2:]
        p += (left + uniform + (0.0 if self._untouched else new)) / len(self)
        if self._untouched:
            p[self.untouched] += new / self._untouched
        return np.asarray(np.log(p), np.float32)

    def set_aside(self) -> Floats:
        """Newcomers' events of each item that do not count for want of agreement, at the slowest half life, `[V]`."""
        own = self._counts[:, -1] * self._fading()[-1]
        return np.asarray(own[1] - (self._weighing(self._fading())[0][-1] - own[0]))

    @property
    def untouched(self) -> NDArray[np.bool_]:
        """Which items have had no event so far, bool `[V]`."""
        return np.asarray((self._counts[:, -1] == 0).all(0))

    def grow(self, n_items: int) -> None:
        """Make room for new items at the end, which have had no event."""
        new = n_items - len(self)
        if new < 0:
            raise DataError(f"PopularityPrior.grow: expected at least the {len(self)} items it has, got {n_items}.")
        self._counts = np.pad(self._counts, ((0, 0), (0, 0), (0, new)))
        self._untouched += new

    def copy(self) -> "PopularityPrior":
        """An independent prior in the same state."""
        return self.from_state(self.state())

    def state(self) -> dict[str, NDArray[Any]]:
        """The whole state, as copies of its arrays."""
        return {
            "half_lives": np.array(HALF_LIVES),
            "weights": self._weights.copy(),
            "clock": np.array(self.clock, np.int64),
            "counts": self._counts.copy(),
            "totals": self._totals.copy(),
            "origins": self._origins.copy(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> "PopularityPrior":
        """The prior whose `state()` this is.

        Raises:
            ModelError: It is no such state, or one of another version.
        """
        try:
            names = ("half_lives", "weights", "counts", "totals", "origins")
            arrays = {name: np.array(state[name], np.float64) for name in names}
            clock = int(state["clock"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"PopularityPrior: this is no state of one ({error!r}). Export the model again.") from error
        k = len(HALF_LIVES)
        shapes = [arrays["totals"].shape, arrays["origins"].shape, arrays["counts"].shape[:-1]]
        if not np.array_equal(arrays["half_lives"], HALF_LIVES) or shapes != [(2, k), (k,), (2, k)]:
            raise ModelError(
                f"PopularityPrior: expected counts for half lives of {HALF_LIVES} days, got {arrays['counts'].shape} for "
                f"{tuple(arrays['half_lives'].tolist())}. It is of another version of tfrec: fit it again."
            )
        prior = cls(0, start=clock, weights=arrays["weights"])
        prior._counts, prior._totals, prior._origins = arrays["counts"], arrays["totals"], arrays["origins"]
        prior._untouched = int(prior.untouched.sum())
        return prior

    def save(self, path: str | Path) -> None:
        """Write the state as .npz without pickle, by a rename: a reader sees the old or the new file."""
        with durable_files.replacing(Path(path)) as file:
            np.savez(file, allow_pickle=False, **self.state())

    @classmethod
    def load(cls, path: str | Path) -> "PopularityPrior":
        """Read what `save` wrote.

        Raises:
            ModelError: That cannot be done; the message names the file.
        """
        try:
            with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:  # np.load leaves a damaged path open
                return cls.from_state(dict(file))
        except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, ModelError) as error:
            raise ModelError(f"{path}: expected the state of a popularity prior: {error}") from error

    def _fading(self) -> Floats:
        """What a count in units of its origin is worth at the clock, in events, `[K]`."""
        return np.asarray(np.exp2((self._origins - self.clock) / _SECONDS), np.float64)

    def _weighing(self, fading: Floats) -> tuple[Floats, Floats]:
        """Counts that weigh, in events at the clock: `[K, V]`, and their sums `[K]`."""
        if not self._totals[1].any():
            return self._counts[0] * fading[:, None], self._totals[0] * fading
        old, new = self._counts * fading[:, None]
        chosen = int(np.count_nonzero(self._counts[0, -1]))
        counts = old + bounded_counts(old, new, totals=self._totals * fading, chosen=chosen)
        return counts, counts.sum(1)

    def _advance(self, newest: int) -> None:
        """Move the clock on, and the origins after it before weights overflow."""
        self.clock = max(self.clock, newest)
        ages = (self.clock - self._origins) / _SECONDS
        for k in np.flatnonzero(ages > _HEADROOM):
            counts = self._counts[:, k]
            counts *= np.exp2(-ages[k])
            counts[counts < _TINY] = 0  # denormal floats are slow
            self._totals[:, k] = counts.sum(1)
            self._origins[k] = self.clock

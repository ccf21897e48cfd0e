"""How often each item was acted on when it was shown: what the second stage knows of items besides their vectors.

Shows and actions are counted at two half lives, so that the counts say what holds for months and what holds now:

    n_k(i) = sum over shows e of i of  c_e 2^(-(clock - t_e) / h_k),     a_k(i) likewise over those that brought the action
    rate_k(i) = (a_k(i) + m rate_k+1(i)) / (n_k(i) + m),                 after the slowest k the rate of all items

c_e is the chance that the position was looked at. A column is the log odds of a rate less those of all items, so it is 0 for an
item that was never shown. Training reads of each slate what was counted before it, as serving does: with an item's own outcome in
its rate, the rate would seem to know everything.
"""
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec.errors import DataError, ModelError

HALF_LIVES = (3.0, 60.0)  # days, ascending
_SECONDS = np.array(HALF_LIVES) * 86_400
_BACKING = 20.0  # m, in shows that were looked at
_MOST_LOG = 10.0  # ln(1 + n) is divided by it: columns are about as large as 1
_LEAST = 1e-6  # a rate is between this and 1 - this

Floats = NDArray[np.float64]


class ItemRates:
    """Counts of shows and actions.

    Args:
        n_items: Items of the catalogue.
        actions: Names of the heads.

    Attributes:
        actions: As given.
        clock: The newest second that was counted.
        slates: How many slates were counted.
    """

    def __init__(self, n_items: int, actions: Sequence[str]) -> None:
        self.actions = tuple(actions)
        self.clock = self.slates = 0
        self._counts = np.zeros((len(HALF_LIVES), 1 + len(self.actions), n_items))  # shows, then each action

    def __len__(self) -> int:
        return self._counts.shape[-1]

    @property
    def width(self) -> int:
        """Columns of an item."""
        return columns_of(len(self.actions))

    def copy(self) -> "ItemRates":
        """An equal one, which changes on its own."""
        made = ItemRates(len(self), self.actions)
        made.clock, made.slates, made._counts = self.clock, self.slates, self._counts.copy()
        return made

    def grow(self, n_items: int) -> None:
        """Know `n_items` items; the new ones were never shown."""
        if n_items < len(self):
            raise DataError(f"ItemRates.grow: expected {len(self)} items or more, got {n_items}.")
        self._counts = np.pad(self._counts, [(0, 0), (0, 0), (0, n_items - len(self))])

    def update(self, items: ArrayLike, times: ArrayLike, acted: NDArray[np.bool_], *, looked_at: ArrayLike, slates: int) -> None:
        """Count shows.

        Args:
            items: `[n]`, positions in the catalogue.
            times: `[n]`, seconds since 1970, in any order.
            acted: `[n, actions]`, what came of each.
            looked_at: `[n]`, the chance that each was looked at.
            slates: How many slates they are of.
        """
        items, times, chance = np.asarray(items, np.int64), np.asarray(times, np.int64), np.asarray(looked_at, np.float64)
        self.slates += slates
        if not len(items):
            return
        clock = max(self.clock, int(times.max()))
        self._counts *= np.exp2(-(clock - self.clock) / _SECONDS)[:, None, None] if self.clock else 1.0
        self.clock = clock
        for k, seconds in enumerate(_SECONDS):
            weight = np.exp2(-(clock - times) / seconds)
            for column, one in enumerate([chance, *acted.T]):
                self._counts[k, column] += np.bincount(items, weight * one, minlength=len(self))

    def columns(self, items: ArrayLike | slice = slice(None)) -> NDArray[np.float32]:
        """What is known of `items` (all by default), `[n, width]`: of each half life ln(1 + shows), and log odds of actions."""
        counts = self._counts[:, :, items if isinstance(items, slice) else np.asarray(items, np.int64)]
        total = self._counts.sum(-1)
        everywhere = np.clip(total[:, 1:] / np.maximum(total[:, :1], _LEAST), _LEAST, 1 - _LEAST)  # [k, actions]
        found, slower = [], np.broadcast_to(everywhere[-1][:, None], counts[0, 1:].shape)
        for k in reversed(range(len(HALF_LIVES))):
            shows = counts[k, 0]
            slower = np.clip((counts[k, 1:] + _BACKING * slower) / (shows + _BACKING), _LEAST, 1 - _LEAST)
            found.append(np.concatenate([np.log1p(shows)[None] / _MOST_LOG, _logit(slower) - _logit(everywhere[-1])[:, None]]))
        return np.concatenate(found).T.astype(np.float32)

    def save(self, path: Path) -> None:
        """Write to `path`, an .npz file."""
        np.savez(path, counts=self._counts, clock=self.clock, slates=self.slates, actions=np.array(self.actions, np.str_))

    @classmethod
    def load(cls, path: Path) -> "ItemRates":
        """Read what `save` wrote.

        Raises:
            ModelError: the file is damaged.
        """
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as arrays:
                made = cls(arrays["counts"].shape[-1], arrays["actions"].tolist())
                counts = np.asarray(arrays["counts"], np.float64)
                made.clock, made.slates = int(arrays["clock"]), int(arrays["slates"])
        except (OSError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as e:
            raise ModelError(f"{path}: expected the rates of a checkpoint: {e}. Train again, or take another checkpoint.") from e
        if counts.shape != made._counts.shape or not (np.isfinite(counts) & (counts >= 0)).all():
            raise ModelError(f"{path}: expected finite counts from 0 on, {made._counts.shape}, got {counts.shape}. Train again, "
                             "or take another checkpoint.")
        made._counts = counts
        return made


def columns_of(actions: int) -> int:
    """Columns of an item, for a number of actions."""
    return len(HALF_LIVES) * (1 + actions)


def _logit(p: Floats) -> Floats:
    found: Floats = np.log(p) - np.log1p(-p)
    return found

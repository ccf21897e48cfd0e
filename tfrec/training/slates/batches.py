"""Batches of slates, all of one shape, in an order that is a function of (seed, epoch).

The last batch of an epoch is filled up with requests of weight 0, so no request is dropped and one shape is compiled once.
"""
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.data.examples.slate_arrays import SlateArrays
from tfrec.training.dataset_from_function import dataset_from_function

STATE = ("history", "action", "gap", "query", "context")  # of a request, before anything is shown
_CHOICE = ("log_p", "shortlist", "shortlist_log_p")  # of `Candidates`, that scores are made of
_LABELS = ("item", "log_propensity", "reward", "converted", "elapsed")


class Candidates(NamedTuple):
    """What `n` requests chose among; items are given by catalogue position."""

    # popularity at that time and, of a search, what its words added to a score, as much popularity as would have added the same
    log_p: npt.NDArray[np.float32]  # [n, K] of the shown items
    mass: npt.NDArray[np.float32]  # [n, K] of the shown items in the part that is left to chance; 0 where a slate is shorter
    total_mass: npt.NDArray[np.float32]  # [n] of all items that could come
    shortlist: npt.NDArray[np.int32]  # [n, S] the best that could come, best first; PAD where there are fewer
    shortlist_log_p: npt.NDArray[np.float32]  # [n, S] the same of the shortlist
    # what rules added to scores. The policy has it in its logits; it says nothing of what people like
    boost: npt.NDArray[np.float32]  # [n, K] of the shown items
    shortlist_boost: npt.NDArray[np.float32]  # [n, S]


class SlateBatches:
    """Batches of dictionaries: arrays of `SlateArrays` and `Candidates`, `weight` `[rows]`, and the next request's as `next_*`.

    Args:
        slates: What is learnt from.
        candidates: Of these slates; replace the attribute when the weights have moved.
        rows: Requests a batch, over all replicas.
        with_next: Whether each request comes with the same user's next one; `has_next` `[rows]` is False where there is none.

    Attributes:
        steps: Batches that hold each request once.
    """

    def __init__(self, slates: SlateArrays, candidates: Candidates, *, rows: int, with_next: bool) -> None:
        self._slates, self.candidates, self._rows = slates, candidates, rows
        self._drawn = slates.drawn
        self._following = slates.following if with_next else None
        self.steps = -(-len(slates) // rows)

    def epoch(self, seed: int, epoch: int, *, steps: int) -> tf.data.Dataset:
        """`steps` batches; with more than there are, the requests come again in another order."""
        first = self.batch(np.arange(1))
        signature = {name: tf.TensorSpec([self._rows, *array.shape[1:]], array.dtype) for name, array in first.items()}

        @lru_cache(maxsize=1)
        def order(time: int) -> np.ndarray:
            return np.random.default_rng([seed, epoch, time]).permutation(len(self._slates))

        def batch(step: int) -> dict[str, np.ndarray]:
            time, at = divmod(step, self.steps)
            return self.batch(order(time)[at * self._rows : (at + 1) * self._rows])

        return dataset_from_function(batch, signature, steps=steps)

    def batch(self, requests: npt.NDArray[np.integer]) -> dict[str, np.ndarray]:
        """One batch of the `requests` with these numbers, at most `rows`; the rest of it has weight 0."""
        rows = np.resize(requests, self._rows)
        batch = self._scored(rows) | {name: getattr(self._slates, name)[rows] for name in _LABELS}
        batch |= {name: getattr(self.candidates, name)[rows] for name in ("mass", "total_mass", "boost", "shortlist_boost")}
        batch["weight"] = (np.arange(self._rows) < len(requests)).astype(np.float32)
        batch["drawn"] = self._drawn[rows]
        if self._following is not None:
            following = self._following[rows]
            batch |= {f"next_{name}": array for name, array in self._scored(np.maximum(following, 0)).items()}
            batch["has_next"] = following >= 0
        return batch

    def _scored(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What scores are made of."""
        found = {name: getattr(self._slates, name)[rows] for name in (*STATE, "item")}
        return found | {name: getattr(self.candidates, name)[rows] for name in _CHOICE}

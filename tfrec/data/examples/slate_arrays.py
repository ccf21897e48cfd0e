"""Slates as arrays of numbers: catalogue positions, action codes and snapshots of popularity. Training on slates reads these.

The items shown are `[requests, K]`, with `PAD` where a slate is shorter, an item has left the catalogue, or a rule pinned it;
unknown propensities are NaN. Lists whose length a caller chooses (excluded items, live popularity) are ragged, so one long list
costs its own length and does not widen an array for all requests. `slate_encoder.py` makes these arrays from slates of the log.
"""
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrec.data.examples.ragged import Ragged
from tfrec.data.examples.sequences import PAD
from tfrec.data.items.boosted_items import BoostedItems
from tfrec.data.items.numeric_columns import BoundFilters
from tfrec.data.items.tag_filters import TagFilters
from tfrec.errors import DataError

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SlateArrays:
    """`n` requests in the order of time: `L` events of history, `K` positions of a slate, `W` text width, `F` features of
    person and moment.

    Raises:
        DataError: a reward is not finite, a log propensity is above 0, or the arrays differ in length.
    """

    user: Ints  # [n], any numbering
    time: npt.NDArray[np.int64]  # [n] seconds since 1970
    history: Ints  # [n, L] catalogue positions, oldest first, PAD behind
    action: Ints  # [n, L] the model's action codes
    gap: npt.NDArray[np.int64]  # [n, L] seconds until the next event, of the newest one until the request; -1 unknown
    searched: npt.NDArray[np.object_]  # [n] text of the query; "" without one
    query: Floats  # [n, W] text vector; zero without a query
    context: Floats  # [n, F] positions of `RequestFeatures`; NaN unknown
    excluded: Ragged  # [n] catalogue positions that must not be shown
    tags: TagFilters  # [n]
    bounds: BoundFilters  # [n]
    boosts: BoostedItems  # [n] what rules added to scores
    head_weights: Floats  # [n, A] weights of the second stage that the request named; NaN: as configured
    live_item: Ragged  # [n] catalogue positions whose popularity was sent along,
    live_log_p: Ragged  # [n] and their log p
    item: Ints  # [n, K] as shown; PAD where a slate is shorter, an item is not in the catalogue any more, or was pinned
    log_propensity: Floats  # [n, K] given the earlier positions; NaN unknown
    reward: Floats  # [n, K]
    converted: npt.NDArray[np.bool_]  # [n, K]
    acted: npt.NDArray[np.bool_]  # [n, K, A] which of the actions that the second stage predicts came of it
    delay: Floats  # [n, K] seconds until the outcome that counts most; 0 without one
    elapsed: Floats  # [n] seconds that labels have waited
    snapshot: Ints  # [n] the newest popularity before the request

    def __post_init__(self) -> None:
        lengths = {f.name: len(getattr(self, f.name)) for f in fields(self)}
        if len(set(lengths.values())) > 1:
            raise DataError(f"slates: expected arrays of one length, got {lengths}.")
        wrong = np.argwhere(self.shown & ~np.isfinite(self.reward))
        if len(wrong):
            request, k = wrong[0]
            raise DataError(f"slates: reward[{request}, {k}] must be a finite number, got {self.reward[request, k]} "
                            f"({len(wrong)} are not). Correct the reward rule or the values of the outcomes.")
        wrong = np.argwhere(self.shown & (self.log_propensity > 0))
        if len(wrong):
            request, k = wrong[0]
            raise DataError(f"slates: log_propensity[{request}, {k}] must be at most 0, the log of a probability, got "
                            f"{self.log_propensity[request, k]} ({len(wrong)} are not). Log ln P, or null if unknown.")

    def __len__(self) -> int:
        return len(self.item)

    @property
    def shown(self) -> npt.NDArray[np.bool_]:
        """`[n, K]`: where there is an item."""
        return np.asarray(self.item != PAD)

    @property
    def drawn(self) -> npt.NDArray[np.bool_]:
        """`[n]`: slates that were drawn by chance and whose propensities are all known, so they can be weighted."""
        is_unknown = (self.shown & np.isnan(self.log_propensity)).any(1)
        by_chance = (self.shown & (self.log_propensity < 0)).any(1)  # NaN is not below 0
        return np.asarray(~is_unknown & by_chance)

    @property
    def following(self) -> Ints:
        """`[n]`: the row of the same user's next request, `PAD` after the last. It is what an action leads to."""
        order = np.lexsort((np.arange(len(self)), self.user))
        follows = np.full(len(self), PAD, np.int32)
        same = self.user[order[1:]] == self.user[order[:-1]]
        follows[order[:-1][same]] = order[1:][same]
        return follows

    def take(self, rows: npt.NDArray[Any]) -> "SlateArrays":
        """The requests numbered `rows`, or those where a mask `[n]` holds."""
        return SlateArrays(*(getattr(self, f.name)[rows] for f in fields(self)))

    def may_come(self, n_items: int) -> npt.NDArray[np.bool_]:
        """`[n, n_items]`: whether each item of the catalogue may be shown, by the request's exclusions, tags and bounds."""
        may = self.tags.passes(n_items)
        self.bounds.narrow(may)
        may[self.excluded.row, self.excluded.values] = False
        return may

"""Slates as arrays of fixed width, for who learns from them: requests with what was shown in, `[requests, places]` out.

Everything is by number: catalogue positions, action codes, snapshots of popularity. Absent places hold `PAD`, unknown
propensities NaN. A request knows the next one of the same user, which is what an action leads to.
"""
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrec.data.sequences import PAD
from tfrec.errors import DataError

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SlateArrays:
    """`n` requests in the order of time; `L` events of history, `K` places, `E` items that could not come, `W` text width.

    Raises:
        DataError: a reward is not finite, a log propensity above 0, or an array of another length.
    """

    user: Ints  # [n], any numbering
    time: npt.NDArray[np.int64]  # [n] seconds since 1970
    history: Ints  # [n, L] catalogue positions, oldest first, PAD behind
    action: Ints  # [n, L] the model's action codes
    gap: npt.NDArray[np.int64]  # [n, L] seconds until the next event, of the newest one until the request; -1 unknown
    query: Floats  # [n, W] text vector; zero without a query
    hidden: Ints  # [n, E] PAD where there are fewer
    item: Ints  # [n, K] as shown, PAD behind
    log_propensity: Floats  # [n, K] given the earlier places; NaN unknown
    reward: Floats  # [n, K]
    converted: npt.NDArray[np.bool_]  # [n, K]
    delay: Floats  # [n, K] seconds until the outcome that counts most; 0 without one
    elapsed: Floats  # [n] seconds that labels have waited
    snapshot: Ints  # [n] the newest popularity before the request

    def __post_init__(self) -> None:
        lengths = {f.name: len(getattr(self, f.name)) for f in fields(self)}
        if len(set(lengths.values())) > 1:
            raise DataError(f"slates: expected arrays of one length, got {lengths}.")
        shown = self.item != PAD
        wrong = np.argwhere(shown & ~np.isfinite(self.reward))
        if len(wrong):
            request, place = wrong[0]
            raise DataError(f"slates: reward[{request}, {place}] must be a finite number, got {self.reward[request, place]} "
                            f"({len(wrong)} are not). Mend the reward rule or the values that outcomes carry.")
        wrong = np.argwhere(shown & (self.log_propensity > 0))
        if len(wrong):
            request, place = wrong[0]
            raise DataError(f"slates: log_propensity[{request}, {place}] must be at most 0, the log of a probability, got "
                            f"{self.log_propensity[request, place]} ({len(wrong)} are not). Log ln P, or null if unknown.")

    def __len__(self) -> int:
        return len(self.item)

    @property
    def shown(self) -> npt.NDArray[np.bool_]:
        """`[n, K]`: where there is an item."""
        return np.asarray(self.item != PAD)

    @property
    def drawn(self) -> npt.NDArray[np.bool_]:
        """`[n]`: slates all of whose propensities are known, and that chance had a part in: these can be weighed."""
        shown = self.shown
        known = ~np.isnan(np.where(shown, self.log_propensity, 0)).any(1)
        by_chance = (np.where(shown & ~np.isnan(self.log_propensity), self.log_propensity, 0) < 0).any(1)
        return np.asarray(known & by_chance)

    @property
    def following(self) -> Ints:
        """`[n]`: the row of the same user's next request, PAD after the last."""
        order = np.lexsort((np.arange(len(self)), self.user))
        follows = np.full(len(self), PAD, np.int32)
        same = self.user[order[1:]] == self.user[order[:-1]]
        follows[order[:-1][same]] = order[1:][same]
        return follows

    def take(self, rows: npt.NDArray[Any]) -> "SlateArrays":
        """The requests numbered `rows` (or where a mask holds)."""
        return SlateArrays(*(getattr(self, f.name)[rows] for f in fields(self)))

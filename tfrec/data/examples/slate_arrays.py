"""Slates by number, for who learns from them: what was asked, what was shown, and what came of it.

Everything is by number: catalogue positions, action codes, snapshots of popularity. What is shown is `[requests, K]`, `PAD` where
a slate is shorter or where an item has left the catalogue; unknown propensities are NaN. What is as long as a caller likes (the
items that a request excludes, the live popularity that was sent along) is ragged: one long list costs its own length and no more.
A request knows the next one of the same user, which is what an action leads to.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrec.data.examples.ragged import Ragged
from tfrec.data.examples.sequences import PAD
from tfrec.data.examples.slates import Place, Slate
from tfrec.data.items.tag_filters import TagFilters
from tfrec.errors import DataError

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SlateArrays:
    """`n` requests in the order of time; `L` events of history, `K` positions of a slate, `W` text width.

    Raises:
        DataError: a reward is not finite, a log propensity above 0, or an array of another length.
    """

    user: Ints  # [n], any numbering
    time: npt.NDArray[np.int64]  # [n] seconds since 1970
    history: Ints  # [n, L] catalogue positions, oldest first, PAD behind
    action: Ints  # [n, L] the model's action codes
    gap: npt.NDArray[np.int64]  # [n, L] seconds until the next event, of the newest one until the request; -1 unknown
    query: Floats  # [n, W] text vector; zero without a query
    excluded: Ragged  # [n] catalogue positions that could not come
    tags: TagFilters  # [n]
    live_item: Ragged  # [n] catalogue positions whose popularity was sent along,
    live_log_p: Ragged  # [n] and their log p
    item: Ints  # [n, K] as shown; PAD where a slate is shorter, or an item is not in the catalogue any more
    log_propensity: Floats  # [n, K] given the earlier positions; NaN unknown
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

    def may_come(self, n_items: int) -> npt.NDArray[np.bool_]:
        """`[n, n_items]`: whether each item of the catalogue could come, by what the request excludes and by its tags."""
        may = self.tags.passes(n_items)
        may[self.excluded.row, self.excluded.values] = False
        return may


def slate_arrays(
    slates: Sequence[Slate], *, position: Mapping[str, int], tagged: Mapping[str, Ints], codes: Mapping[str, int], other: int,
    length: int, queries: Mapping[str, Floats], width: int, snapshot_times: Ints, now: int, attribution: int,
) -> SlateArrays:
    """Slates as read from the log, by number.

    Args:
        slates: in the order of time. Items that are not in the catalogue any more leave a hole in a slate, and nothing elsewhere.
        position: catalogue position of an item.
        tagged: catalogue positions of the items of each tag.
        codes: the model's code of an action; those that it does not know get `other`.
        length: events of a history that are read, the newest.
        queries: the text vector of each query that is not empty.
        width: of these vectors.
        snapshot_times: `[S]` seconds since 1970 from which each popularity holds, ascending.
        now: seconds since 1970, until which labels have waited,
        attribution: but no longer than so many seconds.
    """
    n, places = len(slates), max((len(slate.places) for slate in slates), default=1)
    history, action = np.full((n, length), PAD, np.int32), np.zeros((n, length), np.int32)
    gap, query = np.full((n, length), -1, np.int64), np.zeros((n, width), np.float32)
    item, log_propensity = np.full((n, places), PAD, np.int32), np.full((n, places), np.nan, np.float32)
    reward, converted = np.zeros((n, places), np.float32), np.zeros((n, places), np.bool_)
    delay = np.zeros((n, places), np.float32)
    users: dict[str, int] = {}
    for row, (request, shown) in enumerate(slates):
        for place, event in enumerate(_events(request, position)[-length:]):
            history[row, place], action[row, place], gap[row, place] = event[0], codes.get(event[1], other), event[2]
        if request["query"]:
            query[row] = queries[request["query"]]
        for k, place_of in enumerate(shown):
            if place_of.item in position:
                item[row, k], log_propensity[row, k] = position[place_of.item], _known(place_of)
                reward[row, k], converted[row, k], delay[row, k] = place_of.reward, place_of.converted, place_of.delay
    time = np.array([slate.request["time"] for slate in slates], np.int64)
    excluded = [sorted({position[name] for name in slate.request["exclude"] if name in position}) for slate in slates]
    live_item, live_log_p = _live(slates, position)
    return SlateArrays(
        user=np.array([users.setdefault(slate.request["user"], len(users)) for slate in slates], np.int32), time=time,
        history=history, action=action, gap=gap, query=query, excluded=Ragged.of(excluded),
        tags=TagFilters.of([(slate.request["allow_tags"], slate.request["deny_tags"]) for slate in slates], tagged),
        live_item=live_item, live_log_p=live_log_p, item=item, log_propensity=log_propensity,
        reward=reward, converted=converted, delay=delay, elapsed=np.minimum(now - time, attribution).astype(np.float32),
        snapshot=np.maximum(np.searchsorted(snapshot_times, time, side="right") - 1, 0).astype(np.int32),
    )


def _known(place: Place) -> float:
    return np.nan if place.log_propensity is None else place.log_propensity


def _live(slates: Sequence[Slate], position: Mapping[str, int]) -> tuple[Ragged, Ragged]:
    """The popularity that was sent along with each request, by catalogue position; of an item named twice the last counts."""
    items, values = [], []
    at: dict[int, Ints] = {}  # positions of the names that many requests share
    for slate in slates:
        sent = slate.request["live"]
        if id(sent.names) not in at:
            at[id(sent.names)] = np.array([position.get(name, PAD) for name in sent.names], np.int32)
        found = at[id(sent.names)][sent.code][::-1]
        _, last = np.unique(found, return_index=True)
        last = last[found[last] != PAD]
        items.append(found[last])
        values.append(sent.log_p[::-1][last])
    return Ragged.of(items), Ragged.of(values, np.float32)


def _events(request: Mapping[str, Any], position: Mapping[str, int]) -> list[tuple[int, str, int]]:
    """(catalogue position, action, seconds until the next event or, of the newest, the request; -1 unknown), oldest first."""
    items = request["history"]
    actions = request["history_action"] or [""] * len(items)
    times = [None if t < 0 else t for t in request["history_time"]] or [None] * len(items)
    known = [(position[i], a, t) for i, a, t in zip(items, actions, times, strict=True) if i in position]
    following = [*(t for _, _, t in known), request["time"]][1:]
    return [(i, a, -1 if t is None or then is None else max(0, then - t))
            for (i, a, t), then in zip(known, following, strict=True)]

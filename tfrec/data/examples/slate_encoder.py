"""Turns slates of the log into `SlateArrays`: names become the numbers by which a model knows items, actions and queries."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tfrec.data.examples.ragged import Ragged
from tfrec.data.examples.sequences import PAD
from tfrec.data.examples.slate_arrays import Floats, Ints, SlateArrays
from tfrec.data.examples.slates import Slate
from tfrec.data.items.tag_filters import TagFilters


class _HistoryEvent(NamedTuple):
    item: int  # catalogue position
    action: str
    gap: int  # seconds until the next event or, of the newest, until the request; -1 unknown


@dataclass(frozen=True, eq=False)
class SlateEncoder:
    """The numbers of one model, and the clock of one window.

    Args:
        item_positions: catalogue position of each item.
        items_by_tag: catalogue positions of the items of each tag.
        action_codes: the model's code of each action that it knows.
        other_action: the code of all other actions.
        history_length: read so many events of a history, the newest.
        query_vectors: the text vector `[query_width]` of each query that is not empty.
        query_width: length of these vectors.
        snapshot_times: `[S]` seconds since 1970 from which each snapshot of popularity holds, ascending.
        now: seconds since 1970, until which labels have waited,
        attribution_seconds: but no longer than this.
    """

    item_positions: Mapping[str, int]
    items_by_tag: Mapping[str, Ints]
    action_codes: Mapping[str, int]
    other_action: int
    history_length: int
    query_vectors: Mapping[str, Floats]
    query_width: int
    snapshot_times: npt.NDArray[np.int64]
    now: int
    attribution_seconds: int

    def encode(self, slates: Sequence[Slate]) -> SlateArrays:
        """Encode slates, which are in the order of time.

        An item that has left the catalogue is `PAD` in a slate, and is dropped from histories and lists.
        """
        requests = [slate.request for slate in slates]
        users = {user: n for n, user in enumerate(dict.fromkeys(request["user"] for request in requests))}
        time = np.array([request["time"] for request in requests], np.int64)
        snapshot = np.searchsorted(self.snapshot_times, time, side="right") - 1
        return SlateArrays(
            user=np.array([users[request["user"]] for request in requests], np.int32),
            time=time,
            query=self._queries(requests),
            excluded=Ragged.of([sorted({self.item_positions[name] for name in request["exclude"] if name in self.item_positions})
                                for request in requests]),
            tags=TagFilters.of([(request["allow_tags"], request["deny_tags"]) for request in requests], self.items_by_tag),
            elapsed=np.minimum(self.now - time, self.attribution_seconds).astype(np.float32),
            snapshot=np.maximum(snapshot, 0).astype(np.int32),
            **self._histories(requests),
            **self._live_popularity(requests),
            **self._positions(slates),
        )

    def _queries(self, requests: Sequence[Mapping[str, Any]]) -> Floats:
        vectors = np.zeros((len(requests), self.query_width), np.float32)
        for vector, request in zip(vectors, requests, strict=True):
            if request["query"]:
                vector[:] = self.query_vectors[request["query"]]
        return vectors

    def _histories(self, requests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        length = self.history_length
        events = [self._events(request)[-length:] for request in requests]
        codes = [[self.action_codes.get(event.action, self.other_action) for event in row] for row in events]
        return {
            "history": _padded([[event.item for event in row] for row in events], length, PAD, np.int32),
            "action": _padded(codes, length, 0, np.int32),
            "gap": _padded([[event.gap for event in row] for row in events], length, -1, np.int64),
        }

    def _events(self, request: Mapping[str, Any]) -> list[_HistoryEvent]:
        """The events of a history that are of the catalogue, oldest first."""
        items = request["history"]
        actions = request["history_action"] or [""] * len(items)
        times = [None if time < 0 else time for time in request["history_time"]] or [None] * len(items)
        known = [(self.item_positions[item], action, time) for item, action, time in zip(items, actions, times, strict=True)
                 if item in self.item_positions]
        following = [*(time for _, _, time in known), request["time"]][1:]
        return [_HistoryEvent(item, action, -1 if time is None or then is None else max(0, then - time))
                for (item, action, time), then in zip(known, following, strict=True)]

    def _positions(self, slates: Sequence[Slate]) -> dict[str, Any]:
        shown = [slate.positions for slate in slates]
        width = max(map(len, shown), default=1)
        item = _padded([[self.item_positions.get(one.item, PAD) for one in row] for row in shown], width, PAD, np.int32)

        def of_known(values: list[list[Any]], fill: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
            found = _padded(values, width, fill, dtype)
            found[item == PAD] = fill
            return found

        propensities = [[np.nan if one.log_propensity is None else one.log_propensity for one in row] for row in shown]
        return {
            "item": item,
            "log_propensity": of_known(propensities, np.nan, np.float32),
            "reward": of_known([[one.reward for one in row] for row in shown], 0, np.float32),
            "converted": of_known([[one.converted for one in row] for row in shown], False, np.bool_),
            "delay": of_known([[one.delay for one in row] for row in shown], 0, np.float32),
        }

    def _live_popularity(self, requests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The popularity that was sent along with each request, by catalogue position. Of an item named twice the last counts."""
        items, values = [], []
        position_of: dict[int, Ints] = {}  # catalogue positions of the names that many requests share
        for request in requests:
            sent = request["live"]
            if id(sent.names) not in position_of:
                position_of[id(sent.names)] = np.array([self.item_positions.get(name, PAD) for name in sent.names], np.int32)
            newest_first = position_of[id(sent.names)][sent.code][::-1]
            _, last = np.unique(newest_first, return_index=True)
            last = last[newest_first[last] != PAD]
            items.append(newest_first[last])
            values.append(sent.log_p[::-1][last])
        return {"live_item": Ragged.of(items), "live_log_p": Ragged.of(values, np.float32)}


def _padded(rows: Sequence[Sequence[Any]], width: int, fill: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """`[rows, width]`: each row from the left, with `fill` after its end."""
    found = np.full((len(rows), width), fill, dtype)
    for row, values in zip(found, rows, strict=True):
        row[: len(values)] = values
    return found

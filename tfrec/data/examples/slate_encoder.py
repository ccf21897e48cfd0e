"""Turns slates of the log into `SlateArrays`: names become the numbers by which a model knows items, actions and queries."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.examples.ragged import Ragged
from tfrec.data.examples.sequences import PAD
from tfrec.data.examples.slate_arrays import Floats, Ints, SlateArrays
from tfrec.data.examples.slates import flat, pinned
from tfrec.data.items.boosted_items import BoostedItems
from tfrec.data.items.numeric_columns import BoundFilters
from tfrec.data.items.positions import positions
from tfrec.data.items.tag_filters import TagFilters
from tfrec.data.records import boosts_of, bounds_of, head_weights_of
from tfrec.errors import DataError

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SlateEncoder:
    """The numbers of one model, and the clock of one window.

    Args:
        items: ids of the catalogue, in order.
        items_by_tag: catalogue positions of the items of each tag.
        numbers: `[n_items]` values of each numeric column, `numeric_columns.MISSING` where an item has none.
        action_codes: the model's code of each action that it knows.
        other_action: the code of all other actions.
        history_length: read so many events of a history, the newest.
        query_vectors: the text vector `[query_width]` of each query that is not empty.
        query_width: length of these vectors.
        snapshot_times: `[S]` seconds since 1970 from which each snapshot of popularity holds, ascending.
        now: seconds since 1970, until which labels have waited,
        attribution_seconds: but no longer than this.
        heads: actions that the second stage predicts.
    """

    items: Sequence[str]
    items_by_tag: Mapping[str, Ints]
    numbers: Mapping[str, npt.NDArray[np.float64]]
    action_codes: Mapping[str, int]
    other_action: int
    history_length: int
    query_vectors: Mapping[str, Floats]
    query_width: int
    snapshot_times: npt.NDArray[np.int64]
    now: int
    attribution_seconds: int
    heads: Sequence[str] = ()

    def encode(self, slates: pa.Table, *, context: Floats, acted: npt.NDArray[np.bool_]) -> SlateArrays:
        """Encode a table of `slates.SLATES`, in the order of time.

        Args:
            slates: the table.
            context: `[n, features]`, what is known of each request.
            acted: `[n, K, actions]`, which actions came of each shown item.

        An item that has left the catalogue is `PAD` in a slate, and is dropped from histories and lists. One that a rule
        pinned is `PAD` in its slate: no policy chose it or its position, and neither says what is better.

        Raises:
            DataError: lists that belong together have different lengths.
        """
        time = slates["time"].to_numpy().astype(np.int64)
        snapshot = np.searchsorted(self.snapshot_times, time, side="right") - 1
        return SlateArrays(
            user=_codes(slates["user"]),
            time=time,
            searched=np.array(pc.fill_null(slates["query"], "").to_pylist(), object),
            query=self._queries(slates["query"]),
            context=context,
            excluded=self._excluded(slates),
            tags=self._tags(slates),
            bounds=BoundFilters.of([bounds_of(text) for text in slates["context"].to_pylist()], self.numbers),
            boosts=BoostedItems.of([boosts_of(text) for text in slates["context"].to_pylist()], self.items, self.items_by_tag,
                                   self.numbers),
            elapsed=np.minimum(self.now - time, self.attribution_seconds).astype(np.float32),
            snapshot=np.maximum(snapshot, 0).astype(np.int32),
            **self._histories(slates, time),
            **self._live_popularity(slates),
            head_weights=self._head_weights(slates),
            acted=acted,
            **self._positions(slates),
        )

    def _head_weights(self, slates: pa.Table) -> Floats:
        found = np.full((len(slates), len(self.heads)), np.nan, np.float32)
        for row, text in enumerate(slates["context"].to_pylist()):
            if (named := head_weights_of(text)) is not None:
                found[row] = [named.get(head, 0.0) for head in self.heads]
        return found

    def _queries(self, texts: pa.ChunkedArray) -> Floats:
        encoded = pc.fill_null(texts, "").combine_chunks().dictionary_encode()
        nothing = np.zeros(self.query_width, np.float32)
        known = [self.query_vectors[text] if text else nothing for text in encoded.dictionary.to_pylist()]
        vectors = np.array([*known, nothing], np.float32)
        return np.asarray(vectors[encoded.indices.to_numpy(zero_copy_only=False)])

    def _excluded(self, slates: pa.Table) -> Ragged:
        row, names = flat(slates, "exclude")
        item = positions(names, self.items)
        kept = item != PAD
        pair = np.unique(row[kept] * len(self.items) + item[kept])
        return _ragged(pair // max(1, len(self.items)), (pair % max(1, len(self.items))).astype(np.int32), slates.num_rows)

    def _tags(self, slates: pa.Table) -> TagFilters:
        wanted = [pc.fill_null(slates[name].combine_chunks(), []).to_pylist() if slates.num_rows else []
                  for name in ("allow_tags", "deny_tags")]
        return TagFilters.of(list(zip(*wanted, strict=True)), self.items_by_tag)

    def _histories(self, slates: pa.Table, asked: npt.NDArray[np.int64]) -> dict[str, Any]:
        """The events of the catalogue, oldest first; `gap` is the time until the next one or, of the newest, the request."""
        row, names = flat(slates, "history")
        item, action, time = positions(names, self.items), self._actions(slates, row), self._times(slates, row)
        kept = item != PAD
        row, item, action, time = row[kept], item[kept], action[kept], time[kept]
        is_newest = np.append(row[1:] != row[:-1], True)[: len(row)]
        following = np.where(is_newest, asked[row], np.append(time[1:], -1)[: len(row)])
        gap = np.where((time < 0) | (following < 0), -1, np.maximum(following - time, 0))
        size = np.bincount(row, minlength=slates.num_rows)
        place = np.arange(len(row)) - (np.cumsum(size) - size)[row] - np.maximum(size - self.history_length, 0)[row]
        shape = (slates.num_rows, self.history_length)
        return {"history": _table(row, place, item, shape, PAD, np.int32),
                "action": _table(row, place, action, shape, 0, np.int32),
                "gap": _table(row, place, gap, shape, -1, np.int64)}

    def _actions(self, slates: pa.Table, row: Rows) -> npt.NDArray[np.int64]:
        """The code of the action of each event in a history; an event without one is read as when serving."""
        of, names = flat(slates, "history_action")
        encoded = pc.fill_null(names, "").dictionary_encode()
        codes = np.array([*(self.action_codes.get(name, self.other_action) for name in encoded.dictionary.to_pylist()), 0])
        return _beside(row, of, codes[encoded.indices.to_numpy(zero_copy_only=False)],
                       self.action_codes.get("", self.other_action), "history_action")

    def _times(self, slates: pa.Table, row: Rows) -> npt.NDArray[np.int64]:
        """The second of each event in a history, -1 unknown."""
        of, times = flat(slates, "history_time")
        return _beside(row, of, pc.fill_null(times, -1).to_numpy(zero_copy_only=False), -1, "history_time")

    def _positions(self, slates: pa.Table) -> dict[str, Any]:
        row, names = flat(slates, "item")
        item = np.where(pinned(slates), PAD, positions(names, self.items))
        size = np.bincount(row, minlength=slates.num_rows)
        place = np.arange(len(row)) - (np.cumsum(size) - size)[row]
        shape = (slates.num_rows, max(1, int(size.max(initial=0))))

        def of_known(column: str, fill: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
            values = flat(slates, column)[1]
            array = values.to_numpy(zero_copy_only=False)  # nulls become NaN
            return _table(row, place, np.where(item == PAD, fill, array), shape, fill, dtype)

        return {
            "item": _table(row, place, item, shape, PAD, np.int32),
            "log_propensity": of_known("log_propensity", np.nan, np.float32),
            "reward": of_known("reward", 0, np.float32),
            "converted": of_known("converted", False, np.bool_),
            "delay": of_known("delay", 0, np.float32),
        }

    def _live_popularity(self, slates: pa.Table) -> dict[str, Any]:
        """The popularity that was sent along with each request, by catalogue position. Of an item named twice the last counts."""
        row, names = flat(slates, "prior_items")
        of, values = flat(slates, "prior_log_p")
        if not np.array_equal(row, of):
            raise DataError("impressions: expected prior_log_p and prior_items to have the same length in each row.")
        item = positions(names, self.items)
        pair = row * len(self.items) + item
        _, last = np.unique(pair[::-1], return_index=True)
        last = len(pair) - 1 - last
        last = last[item[last] != PAD]
        log_p = values.to_numpy(zero_copy_only=False).astype(np.float32)
        return {"live_item": _ragged(row[last], item[last].astype(np.int32), slates.num_rows),
                "live_log_p": _ragged(row[last], log_p[last], slates.num_rows)}


def _codes(names: pa.ChunkedArray) -> Ints:
    """Numbers of names by first appearance."""
    encoded = names.combine_chunks().dictionary_encode()
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int32) if len(names) else np.zeros(0, np.int32)


def _ragged(row: Rows, values: npt.NDArray[Any], n: int) -> Ragged:
    """`n` rows of the values, whose rows ascend."""
    return Ragged(values, np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))]).astype(np.int64))


def _table(row: Rows, place: Rows, values: npt.NDArray[Any], shape: tuple[int, int], fill: Any,
           dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """`shape`: the values at their rows and places, and `fill` elsewhere; values whose place is negative are left out."""
    found = np.full(shape, fill, dtype)
    kept = place >= 0
    found[row[kept], place[kept]] = values[kept]
    return found


def _beside(row: Rows, of: Rows, values: npt.NDArray[Any], nothing: int, column: str) -> npt.NDArray[np.int64]:
    """`[len(row)]`: the values of a list that is as long as its row's history or empty, and `nothing` where it is empty."""
    found = np.full(len(row), nothing, np.int64)
    filled = np.isin(row, of)
    if int(filled.sum()) != len(of) or not np.array_equal(row[filled], of):
        raise DataError(f"impressions: expected {column} to be empty or as long as history in each row.")
    found[filled] = values
    return found

"""Who did what when, as numpy columns: integer codes and their vocabularies, in the order of the quality protocol.

There is one event per user and item, the earliest, and events are ordered by (time, sha1("user|item|time")). Every comparison of
models is made by these rules, so they hold from the moment data is read.
"""
import hashlib
import logging
import time as clock
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tfrec.data.items.catalogue import Catalogue
from tfrec.data.items.positions import positions
from tfrec.data.items.unknown_ids import LOOKED_AT
from tfrec.data.readers.event_files import DEFAULT_ACTION
from tfrec.errors import DataError

log = logging.getLogger(__name__)
Ints = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Interactions:
    """Events in protocol order; `user`, `item` and `action` are codes into the vocabularies beside them."""

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    time: npt.NDArray[np.int64]  # seconds since 1970 UTC
    action: npt.NDArray[np.int16]
    weight: npt.NDArray[np.float32]
    users: tuple[str, ...]
    items: tuple[str, ...]
    actions: tuple[str, ...]
    unknown_items: int = 0  # events dropped because their item is not in the catalogue
    unknown_ids: tuple[str, ...] = ()  # some of these items, the most frequent first

    @classmethod
    def from_columns(
        cls,
        user: Sequence[str] | pa.Array,
        item: Sequence[str] | pa.Array,
        time: Sequence[int] | npt.ArrayLike,
        *,
        items: Sequence[str] | None = None,
        action: Sequence[str] | pa.Array | None = None,
        weight: npt.ArrayLike | None = None,
        now: int | None = None,
    ) -> "Interactions":
        """Order and number events, which may come in any order; of several of a user and an item the earliest is kept.

        With the catalogue's `items`, an event's item code is its position there, and events of other items are dropped and
        counted; without, items are numbered as they appear. By default events are views of weight 1. No event is later than
        `now`, in seconds since 1970 and by default of the clock (`no_later_than_now`).

        Raises:
            DataError: the columns differ in length, a weight is not finite, or there are more actions than codes.
        """
        user_code, users = _codes(user)
        item_code, names = _codes(item)
        n = len(user_code)
        when = no_later_than_now(np.asarray(time, dtype=np.int64), now, where="Interactions")
        action_code, actions = _codes(action) if action is not None else (np.zeros(n, np.int64), [DEFAULT_ACTION])
        gain = np.ones(n, np.float32) if weight is None else np.asarray(weight, dtype=np.float32)
        lengths = (n, len(item_code), len(when), len(action_code), len(gain))
        if len(set(lengths)) > 1:
            raise DataError(f"Interactions: user, item, time, action and weight must have one length, got {lengths}.")
        if len(actions) > np.iinfo(np.int16).max:
            raise DataError(f"Interactions: {len(actions)} different actions, e.g. {actions[:3]}. Is `action` the right column?")
        if (bad := np.flatnonzero(~np.isfinite(gain))).size:
            raise DataError(f"Interactions: weights must be finite, got {gain[bad[0]]} for {users[user_code[bad[0]]]!r} and "
                            f"{names[item_code[bad[0]]]!r}, and {len(bad) - 1} others. Correct their values, or reward.weights.")
        position = np.arange(len(names)) if items is None else _positions(names, items)
        is_known = position[item_code] >= 0
        kept = np.flatnonzero(is_known)
        kept = kept[_protocol_order(user_code[kept], item_code[kept], when[kept], users, names)]
        user_code, users = _as_they_appear(user_code[kept], users)
        unknown = [names[code] for code, _ in Counter(item_code[~is_known].tolist()).most_common(LOOKED_AT)]
        if items is None:
            item_code, names = _as_they_appear(item_code[kept], names)
        else:
            item_code, names = position[item_code[kept]], list(items)
        return cls(
            user=user_code.astype(np.int32),
            item=item_code.astype(np.int32),
            time=when[kept],
            action=action_code[kept].astype(np.int16),
            weight=gain[kept],
            users=tuple(users),
            items=tuple(names),
            actions=tuple(actions),
            unknown_items=n - int(is_known.sum()),
            unknown_ids=tuple(unknown),
        )

    def __len__(self) -> int:
        return len(self.time)

    def slice(self, start: int, stop: int) -> "Interactions":
        """The events start <= i < stop, with the same codes and vocabularies. The arrays are views, not copies."""
        return self._of(slice(start, stop))

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Interactions":
        """The events where `chosen` `[n]` holds, with the same codes and vocabularies."""
        return self._of(chosen)

    def among(self, users: pa.ChunkedArray | pa.Array, items: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.bool_]:
        """`[n]`: which events are of one of these pairs, a user and an item beside each other."""
        user, item = positions(users, self.users), positions(items, self.items)
        known = (user >= 0) & (item >= 0)
        return np.isin(self.user.astype(np.int64) * len(self.items) + self.item, user[known] * len(self.items) + item[known])

    def _of(self, events: Any) -> "Interactions":
        return replace(self, user=self.user[events], item=self.item[events], time=self.time[events],
                       action=self.action[events], weight=self.weight[events])

    def to_table(self) -> pa.Table:
        """The events as columns `user`, `item`, `time`, `action` and `reward`, as a file of interactions has them."""
        coded = (("user", self.user, self.users), ("item", self.item, self.items), ("action", self.action, self.actions))
        found = {name: pa.array(names, pa.string()).take(pa.array(codes)) for name, codes, names in coded}
        return pa.table({"user": found["user"], "item": found["item"], "time": pa.array(self.time, pa.int64()),
                         "action": found["action"], "reward": pa.array(self.weight.astype(np.float64))})

    def coded_by(self, catalogue: Catalogue) -> "Interactions":
        """The same events with items numbered by their position in `catalogue`, which must have all of them."""
        if unknown := [item for item in self.items if item not in catalogue.index]:
            raise DataError(f"coded_by: expected a catalogue with every item of the events, got one without {unknown[:3]}.")
        position = np.array([catalogue.index[item] for item in self.items], np.int32)
        return replace(self, item=position[self.item], items=tuple(catalogue.ids.tolist()))

    def split(self, share: float) -> int:
        """floor(share * n): the events before this index are the training set."""
        if not 0 <= share <= 1:
            raise DataError(f"split: share must be between 0 and 1, got {share}.")
        return int(share * len(self))


def no_later_than_now(time: npt.NDArray[np.int64], now: int | None, *, where: str) -> npt.NDArray[np.int64]:
    """Correct times that cannot be: what claims to be later than `now` counts as of the newest event that does not.

    One wrong clock would otherwise make everything before it seem long past, and all that fades with time would be gone. `now` is
    in seconds since 1970, by default of the clock; `where` names the source in the warning.
    """
    now = int(clock.time()) if now is None else now
    ahead = time > now
    if not ahead.any():
        return time
    newest = int(time[~ahead].max()) if not ahead.all() else now
    log.warning("%s: %d events claim to be later than now, up to %d (seconds since 1970): they count as of %d", where,
                int(ahead.sum()), int(time.max()), newest)
    return np.where(ahead, newest, time)


def event_sha1(user: str, item: str, time: int) -> str:
    """The protocol's tie-break and sampling key of an event."""
    return hashlib.sha1(f"{user}|{item}|{time}".encode(), usedforsecurity=False).hexdigest()


def event_sha1s(user: Ints, item: Ints, time: Ints, users: Sequence[str], items: Sequence[str]) -> npt.NDArray[np.uint8]:
    """`[n, 20]`: `event_sha1` of many events as bytes, whose order is that of its digits. A million take a second."""
    codes = zip(user.tolist(), item.tolist(), time.tolist(), strict=True)  # numbers of numpy are slow to write out
    sha1 = hashlib.sha1
    found = b"".join([sha1(f"{users[u]}|{items[i]}|{t}".encode(), usedforsecurity=False).digest() for u, i, t in codes])
    return np.frombuffer(found, np.uint8).reshape(-1, 20)


def first_64_bits(sha1s: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """`[n]`: the first 64 bits of each of `event_sha1s`."""
    return np.ascontiguousarray(sha1s[:, :8]).view(">u8")[:, 0].astype(np.uint64)


def _codes(values: Sequence[str] | pa.Array) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Number strings by first appearance."""
    array = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, pa.string())
    encoded = (array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array).dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def _as_they_appear(codes: npt.NDArray[np.int64], names: list[str]) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Renumber codes by first appearance, without the names that do not occur."""
    used, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[inverse], [names[code] for code in used[order]]


def _positions(names: Sequence[str], items: Sequence[str]) -> npt.NDArray[np.int64]:
    """The position in `items` of each name, -1 where there is none."""
    position = {name: k for k, name in enumerate(items)}
    return np.array([position.get(name, -1) for name in names], dtype=np.int64)


def _protocol_order(user: Ints, item: Ints, time: Ints, users: list[str], items: list[str]) -> npt.NDArray[np.int64]:
    """The earliest event of each user and item, as indices in the order of (time, sha1)."""
    order = np.lexsort((_tie_break(user, item, time, users, items), time))
    _, earliest = np.unique(user[order] * len(items) + item[order], return_index=True)
    return np.asarray(order[np.sort(earliest)])


def _tie_break(user: Ints, item: Ints, time: Ints, users: list[str], items: list[str]) -> npt.NDArray[np.uint64]:
    """The first 64 bits of an event's sha1 where its second holds several events, else 0: no tie has to be broken."""
    key = np.zeros(len(time), np.uint64)
    _, inverse, count = np.unique(time, return_inverse=True, return_counts=True)
    tied = np.flatnonzero(count[inverse] > 1)
    key[tied] = first_64_bits(event_sha1s(user[tied], item[tied], time[tied], users, items))
    return key

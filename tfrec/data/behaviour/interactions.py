"""Who did what when, as numpy columns in the order of the quality protocol.

A behaviour log in, integer codes and their vocabularies out. One event per (user, item), the earliest, ordered by
(time, sha1("user|item|time")): the rules by which every comparison is made, so they hold from the moment data is read.
"""
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import RewardConfig
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.items.unknown_ids import LOOKED_AT, explain_unknown
from tfrec.data.labels.action_names import warn_of_actions
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.repeated_actions import acts_of, behaviour, merged, no_later_than_now
from tfrec.data.readers.event_files import DEFAULT_ACTION, read_events
from tfrec.data.readers.rows import Quarantine
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
        """Order and number the events, which may come in any order; of several of a user and an item the earliest stays.

        Args:
            now: Seconds since 1970, by default of the clock. No event is later: see `acts.no_later_than_now`.
            items: The catalogue's ids; an event's item code is its position there, and events of other items are dropped and
                counted. Without it items are numbered as they appear.
        """
        user_code, users = _codes(user)
        item_code, names = _codes(item)
        n = len(user_code)
        when = no_later_than_now(np.asarray(time, dtype=np.int64), now, where="Interactions")
        action_code, actions = _codes(action) if action is not None else (np.zeros(n, np.int64), [DEFAULT_ACTION])
        gain = np.ones(n, np.float32) if weight is None else np.asarray(weight, dtype=np.float32)
        if not n == len(item_code) == len(when) == len(action_code) == len(gain):
            got = (n, len(item_code), len(when), len(action_code), len(gain))
            raise DataError(f"Interactions: user, item, time, action and weight must have one length, got {got}.")
        if not np.isfinite(gain).all():
            bad = np.flatnonzero(~np.isfinite(gain))
            raise DataError(f"Interactions: weights must be finite, got {gain[bad[0]]} for {users[user_code[bad[0]]]!r} and "
                            f"{names[item_code[bad[0]]]!r}, and {len(bad) - 1} others. Correct their values, or reward.weights.")
        if len(actions) > np.iinfo(np.int16).max:
            raise DataError(f"Interactions: {len(actions)} different actions, e.g. {actions[:3]}. Is `action` the right column?")
        kept = np.arange(n)
        position = kept
        if items is not None:
            place = {name: k for k, name in enumerate(items)}
            position = np.array([place.get(name, -1) for name in names], dtype=np.int64)
            kept = np.flatnonzero(position[item_code] >= 0)
        unknown = n - len(kept)
        often = np.bincount(item_code, weights=position[item_code] < 0, minlength=len(names)) if unknown else np.zeros(0)
        unknown_ids = tuple(names[code] for code in np.argsort(-often, kind="stable")[:LOOKED_AT] if often[code])
        kept = kept[np.lexsort((_tie_break(user_code[kept], item_code[kept], when[kept], users, names), when[kept]))]
        _, first = np.unique(user_code[kept] * len(names) + item_code[kept], return_index=True)
        kept = kept[np.sort(first)]
        user_code, users = _as_they_appear(user_code[kept], users)
        if items is None:
            item_code, vocabulary = _as_they_appear(item_code[kept], names)
        else:
            item_code, vocabulary = position[item_code[kept]], list(items)
        return cls(
            user=user_code.astype(np.int32),
            item=item_code.astype(np.int32),
            time=when[kept],
            action=action_code[kept].astype(np.int16),
            weight=gain[kept],
            users=tuple(users),
            items=tuple(vocabulary),
            actions=tuple(actions),
            unknown_items=unknown,
            unknown_ids=unknown_ids,
        )

    def __len__(self) -> int:
        return len(self.time)

    def slice(self, start: int, stop: int) -> "Interactions":
        """Events start <= i < stop with the same codes and vocabularies (views, no copies)."""
        cut = slice(start, stop)
        columns = (self.user[cut], self.item[cut], self.time[cut], self.action[cut], self.weight[cut])
        return Interactions(*columns, self.users, self.items, self.actions, self.unknown_items, self.unknown_ids)

    def coded_by(self, catalogue: Catalogue) -> "Interactions":
        """The same events, with items numbered by their place in `catalogue`, which has all of them."""
        if unknown := [item for item in self.items if item not in catalogue.index]:
            raise DataError(f"coded_by: expected a catalogue with every item of the events, got one without {unknown[:3]}.")
        place = np.array([catalogue.index[item] for item in self.items], np.int32)
        return replace(self, item=place[self.item], items=tuple(catalogue.ids.tolist()))

    def split(self, share: float) -> int:
        """floor(share * n): events before this index are the training set."""
        if not 0 <= share <= 1:
            raise DataError(f"split: share must be between 0 and 1, got {share}.")
        return int(share * len(self))


def event_sha1(user: str, item: str, time: int) -> str:
    """The protocol's tie-break and sampling key of an event."""
    return hashlib.sha1(f"{user}|{item}|{time}".encode(), usedforsecurity=False).hexdigest()


def read_interactions(
    path: str | Path,
    *,
    catalogue: Catalogue | None,
    quarantine: Quarantine | None,
    reward: LabelRule | RewardConfig | None = None,
    now: int | None = None,
) -> Interactions:
    """Read columns user, item, time[, action, value] from .jsonl, .csv or .parquet.

    With `reward`, the label rule or that section of the configuration, the events are behaviour by the same rule as the joined
    log (`repeated_actions.py`): the acts of a user on an item are one event, at the time of the earliest that counts, and its
    weight is what all of them are worth. What is worth nothing or less is left out. Without `reward` every row is behaviour and
    weighs its `value`; of several of a user and an item the earliest stays.

    Args:
        now: seconds since 1970, by default of the clock; an event that claims to be later counts as of the newest that does not.

    Raises:
        DataError: the file cannot be used, holds no usable event, or has a bad row and there is no quarantine.
        UsageError: the rule asks for the lengths of items, and there is no catalogue.
    """
    path = Path(path)
    table = _read(path, quarantine, now=now)
    if not table.num_rows:
        raise DataError(f"{path}: no usable event: it has no good rows. Expected columns user,item,time[,action,value].")
    items = None if catalogue is None else catalogue.ids.tolist()
    known = table if items is None else _known(table, items)
    unknown = table.num_rows - known.num_rows
    others = table.filter(pc.invert(pc.is_in(table["item"], known["item"])))
    missing = pc.value_counts(others["item"]).to_pylist()
    unknown_ids = tuple(one["values"] for one in sorted(missing, key=lambda one: -one["counts"])[:LOOKED_AT])
    if catalogue is not None and not known.num_rows:
        why = explain_unknown(unknown_ids, catalogue.ids.tolist(), others=pc.unique(table["user"]).to_pylist())
        raise DataError(f"{path}: no usable event: all {unknown} name items that are not in the catalogue: {why}. Write the ids "
                        "in both files alike.")
    if reward is None:
        found, weight = known, known["value"]
    else:
        rule = LabelRule.of_rewards(reward, catalogue) if isinstance(reward, RewardConfig) else reward
        found = behaviour(_preferences(path, known, rule))
        if not found.num_rows:
            raise DataError(
                f"{path}: no event has a reward: its actions are {', '.join(pc.unique(known['action']).to_pylist())}, "
                f"reward.weights names {', '.join(rule.reward.weights)}. Add the action that counts to reward.weights."
            )
        weight = found["reward"]
    inter = Interactions.from_columns(
        found["user"], found["item"], found["time"].to_numpy(), items=items, action=found["action"], weight=weight.to_numpy(),
        now=now,
    )
    return replace(inter, unknown_items=unknown, unknown_ids=unknown_ids)


def read_preferences(path: str | Path, rule: LabelRule, *, quarantine: Quarantine | None, now: int | None = None) -> pa.Table:
    """What the acts of each user on each item of the catalogue are worth together, dismissals too: `acts.merged` of a file.

    The file lies beside a log: an action that it does not have may be in there, and is not warned of.
    """
    path = Path(path)
    return _preferences(path, _known(_read(path, quarantine, now=now), rule.catalogue_ids), rule, whole=False)


def _preferences(path: Path, events: pa.Table, rule: LabelRule, *, whole: bool = True) -> pa.Table:
    counts = pc.value_counts(events["action"]).to_pylist()
    warn_of_actions({one["values"]: one["counts"] for one in counts}, rule.reward, where=path, whole=whole)
    return merged(acts_of(events, rule.reward, rule.lengths), cap=rule.reward.cap)


def _known(events: pa.Table, items: Sequence[str]) -> pa.Table:
    return events.filter(pc.is_in(events["item"], pa.array(items, pa.string())))


def _read(path: Path, quarantine: Quarantine | None, *, now: int | None) -> pa.Table:
    """The events of a file, in its order, none later than now."""
    events = read_events(path, quarantine)
    time = events["time"].to_numpy()
    if unset := int((time == 0).sum()):
        log.warning("%s: %d events have the time 0, which is 1970-01-01: expected seconds since 1970. Leave out the events whose "
                    "time is not known.", path, unset)
    return events.set_column(events.column_names.index("time"), "time",
                             pa.array(no_later_than_now(time, now, where=str(path)), pa.int64()))


def _codes(values: Sequence[str] | pa.Array) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Number strings by first appearance."""
    array = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, pa.string())
    encoded = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    encoded = encoded.dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def _as_they_appear(codes: npt.NDArray[np.int64], names: list[str]) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Number codes anew by first appearance, dropping names that no longer occur."""
    used, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[inverse], [names[code] for code in used[order]]


def _tie_break(user: Ints, item: Ints, time: Ints, users: list[str], items: list[str]) -> npt.NDArray[np.uint64]:
    """First 64 bits of the sha1 where a second holds several events, 0 elsewhere: alone in its second, none is needed."""
    key = np.zeros(len(time), np.uint64)
    _, inverse, count = np.unique(time, return_inverse=True, return_counts=True)
    for row in np.flatnonzero(count[inverse] > 1):
        key[row] = int(event_sha1(users[user[row]], items[item[row]], int(time[row]))[:16], 16)
    return key

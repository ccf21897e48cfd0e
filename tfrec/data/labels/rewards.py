"""The reward rule of the configuration, as relations that `join.sql` reads and as numbers.

    gain(outcome)   = weight * amount * 0.5 ** (delay / half life)
    amount          = 1, or by the action  value  |  clip(value / full, 0, 1)  |  (value - neutral) / scale
    reward(example) = clip(sum of the gains of its outcomes, -cap, cap)

The weight is that of the action at the outcome's time, 0 for actions without one. The delay is counted from the moment the item
was shown; organic behaviour has none. `full` is the length of the item, or one length for all. The rule is written twice, in
`join.sql` for the log and in `gains` for files; a test holds that they agree.
"""
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tfrec.config import RewardConfig
from tfrec.data.records import Item
from tfrec.errors import DataError

Lengths = Mapping[str, Mapping[str, float]]  # of items, by action
Reads = Literal["nothing", "value", "completion", "rating"]  # how the value of an outcome is read
FOREVER = 1 << 40  # seconds; no record is later


class Rule(NamedTuple):
    """The reward of an action from `since` until just before `until`, in seconds since 1970. A row of the relation `rewards`."""

    action: str
    since: int
    until: int
    weight: float
    reads: Reads
    full: float | None  # of completion, where the item's length is not known
    neutral: float
    scale: float
    half_life: float | None  # seconds
    converts: bool


_TYPES = [pa.string(), pa.int64(), pa.int64(), pa.float64(), pa.string(), *[pa.float64()] * 4, pa.bool_()]


def rules(config: RewardConfig) -> list[Rule]:
    """One row for each action that ever has a weight, and one more for each change of its weight."""
    weights = {action: [(0, weight)] for action, weight in config.weights.items()}
    for change in config.changes:
        for action, weight in change.weights.items():
            weights.setdefault(action, [(0, 0.0)]).append((max(0, math.ceil(change.since.timestamp())), weight))
    return [
        Rule(action, since, until, weight, *_reading(config, action))
        for action, steps in weights.items()
        for (since, weight), until in zip(steps, [*(since for since, _ in steps[1:]), FOREVER], strict=True)
        if since < until
    ]


def reads_of(config: RewardConfig, actions: Sequence[str]) -> list[Reads]:
    """`[actions]`: how the value of each action is read."""
    return [_reading(config, action)[0] for action in actions]


def _reading(config: RewardConfig, action: str) -> tuple[Reads, float | None, float, float, float | None, bool]:
    half_life = config.half_life_hours.get(action)
    rest = None if half_life is None else half_life * 3600, action in config.conversions
    if action in config.valued:
        return "value", None, 0.0, 1.0, *rest
    if action in config.completed or action in config.lengths:
        return "completion", config.completed.get(action), 0.0, 1.0, *rest
    if action in config.rated:
        return "rating", None, config.rated[action].neutral, config.rated[action].scale, *rest
    return "nothing", None, 0.0, 1.0, *rest


def reward_table(config: RewardConfig) -> pa.Table:
    """The relation `rewards`, with the columns of `Rule`."""
    columns = zip(*rules(config), strict=True) if rules(config) else [[]] * len(_TYPES)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, _TYPES, strict=True)]
    return pa.table(arrays, names=list(Rule._fields))


def item_lengths(config: RewardConfig, items: Iterable[Item]) -> dict[str, dict[str, float]]:
    """For each action of `reward.lengths`, the length of each item for which the catalogue states one above zero.

    Raises:
        DataError: a column is a number for no item.
    """
    found: dict[str, dict[str, float]] = {action: {} for action in config.lengths}
    if found:
        for item in items:
            for action, column in config.lengths.items():
                if (length := item.numeric.get(column, 0.0)) > 0:
                    found[action][item.id] = length
    for action, known in found.items():
        if not known:
            raise DataError(
                f"reward.lengths.{action}: expected {config.lengths[action]!r} to be a column of numbers above 0 in the "
                f"catalogue, no item has one. Name the column, or state one length for all: reward.completed.{action}."
            )
    return found


def length_table(known: Lengths) -> pa.Table:
    """The relation `lengths`, with the columns action, item and length."""
    rows = [(action, item, length) for action, of_item in known.items() for item, length in of_item.items()]
    columns = zip(*rows, strict=True) if rows else [[]] * 3
    kinds = (pa.string(), pa.string(), pa.float64())
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)], ["action", "item", "length"])


def ceiling(config: RewardConfig) -> float:
    """The reward from which a label is final before its attribution window closes, because no outcome can increase it.

    Where actions count once, it is the largest weight: after a purchase, another click changes nothing. Where values add up, it
    is the cap; a negative value that comes later is late. Where an action can have a negative gain, a label may fall until the
    window closes, and the ceiling is infinite.
    """
    every = rules(config)
    if any(rule.weight < 0 or (rule.reads == "rating" and rule.weight != 0) for rule in every):
        return math.inf
    if any(rule.reads in ("value", "completion") for rule in every):
        return config.cap
    return min(config.cap, max((rule.weight for rule in every), default=config.cap))


def gains(
    config: RewardConfig,
    *,
    actions: Sequence[str],
    action: npt.NDArray[np.integer],
    value: npt.ArrayLike,
    time: npt.ArrayLike,
    length: npt.ArrayLike | None = None,
    delay: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """`[n]`: the gain of each event, between -cap and cap.

    Args:
        config: the reward rule.
        actions: names of actions.
        action: `[n]` codes into `actions`.
        value: `[n]` values of the outcomes.
        time: `[n]` seconds since 1970.
        length: `[n]` length of the event's item for its action, NaN where unknown; by default unknown everywhere.
        delay: `[n]` seconds since the item was shown; none by default.
    """
    value, time = np.asarray(value, np.float64), np.asarray(time, np.int64)
    length = np.full(len(value), np.nan) if length is None else np.asarray(length, np.float64)
    delay = np.zeros(len(value)) if delay is None else np.asarray(delay, np.float64)
    gain = np.zeros(len(value))
    codes = {name: code for code, name in enumerate(actions)}
    for rule in rules(config):
        of_rule = np.flatnonzero((action == codes.get(rule.action, -1)) & (time >= rule.since) & (time < rule.until))
        amount = value[of_rule]
        if rule.reads == "nothing":
            amount = np.ones(len(of_rule))
        elif rule.reads == "completion":
            full = np.where(np.isnan(length[of_rule]), rule.full or np.inf, length[of_rule])
            amount = np.clip(amount / full, 0, 1)
        elif rule.reads == "rating":
            amount = (amount - rule.neutral) / rule.scale
        discount = 1.0 if rule.half_life is None else 0.5 ** (delay[of_rule] / rule.half_life)
        gain[of_rule] = rule.weight * amount * discount
    return np.clip(gain, -config.cap, config.cap)


def lengths_of(known: Lengths, actions: Sequence[str], action: npt.NDArray[np.integer], items: Sequence[str],
               item: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """`[n]`: the length of each event's item for its action, NaN where unknown, as `gains` takes it.

    Args:
        known: lengths of items, by action.
        actions: names of actions.
        action: `[n]` codes into `actions`.
        items: ids of items.
        item: `[n]` codes into `items`.
    """
    found = np.full(len(item), np.nan)
    for code, name in enumerate(actions):
        if (lengths := known.get(name)) is not None:
            rows = np.flatnonzero(action == code)
            found[rows] = np.array([lengths.get(one, np.nan) for one in items], np.float64)[item[rows]]
    return found

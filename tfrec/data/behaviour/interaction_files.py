"""Files of behaviour as `Interactions`, or as the reward of each user's actions on each item."""
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import RewardConfig
from tfrec.data.behaviour.interactions import Interactions, no_later_than_now
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.items.unknown_ids import LOOKED_AT, explain_unknown
from tfrec.data.labels.action_names import warn_of_actions
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.pair_rewards import one_row_per_pair, positive_pairs, rewarded_actions
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.data.readers.event_files import read_events
from tfrec.data.readers.quarantine import Quarantine
from tfrec.errors import DataError

log = logging.getLogger(__name__)


def read_interactions(
    path: str | Path,
    *,
    catalogue: Catalogue | None,
    quarantine: Quarantine | None,
    reward: LabelRule | RewardConfig | None = None,
    now: int | None = None,
    people: Pseudonyms | None = None,
) -> Interactions:
    """Read columns user, item, time[, action, value] from .jsonl, .csv or .parquet.

    Args:
        path: a file, or a directory of files.
        catalogue: items are numbered by it, and events of other items are dropped and counted; None: numbered as they appear.
        quarantine: where bad rows go.
        reward: the label rule, or that section of the configuration. The events are then behaviour by the same rule as in the
            joined log (`repeated_actions.py`): the actions of a user on an item are one event, at the time of the earliest that
            counts, and its weight is the reward of all of them; pairs without a positive reward are left out. Without `reward`,
            every row is behaviour and weighs its `value`, and of several of a user and an item the earliest is kept.
        now: seconds since 1970, by default of the clock. An event that claims to be later counts as of the newest that does not.
        people: know who was erased: what these users did until then is not read.

    Raises:
        DataError: the file cannot be used, holds no usable event, or has a bad row and there is no quarantine.
        UsageError: the rule asks for the lengths of items, and there is no catalogue.
    """
    path = Path(path)
    table = _read(path, quarantine, now=now, people=people)
    if not table.num_rows:
        raise DataError(f"{path}: no usable event: it has no good rows. Expected columns user,item,time[,action,value].")
    items = None if catalogue is None else catalogue.ids.tolist()
    known = table if items is None else _known(table, items)
    unknown = table.num_rows - known.num_rows
    unknown_ids = _most_frequent(table["item"].filter(pc.invert(pc.is_in(table["item"], known["item"]))))
    if items is not None and not known.num_rows:
        why = explain_unknown(unknown_ids, items, others=pc.unique(table["user"]).to_pylist())
        raise DataError(f"{path}: no usable event: all {unknown} name items that are not in the catalogue: {why}. Write the ids "
                        "in both files alike.")
    if reward is None:
        found, weight = known, known["value"]
    else:
        rule = LabelRule.of_rewards(reward, catalogue) if isinstance(reward, RewardConfig) else reward
        found = positive_pairs(_preferences(path, known, rule))
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


def read_preferences(path: str | Path, rule: LabelRule, *, quarantine: Quarantine | None, now: int | None = None,
                     people: Pseudonyms | None = None) -> pa.Table:
    """The reward of each user's actions on each item of the catalogue, dismissals included.

    The file accompanies a log, so no warning is given of an action that only the log may have.
    """
    path = Path(path)
    return _preferences(path, _known(_read(path, quarantine, now=now, people=people), rule.catalogue_ids), rule, whole=False)


def _preferences(path: Path, events: pa.Table, rule: LabelRule, *, whole: bool = True) -> pa.Table:
    counts = pc.value_counts(events["action"]).to_pylist()
    warn_of_actions({one["values"]: one["counts"] for one in counts}, rule.reward, where=path, whole=whole)
    return one_row_per_pair(rewarded_actions(events, rule.reward, rule.lengths), cap=rule.reward.cap)


def _known(events: pa.Table, items: Sequence[str]) -> pa.Table:
    return events.filter(pc.is_in(events["item"], pa.array(items, pa.string())))


def _read(path: Path, quarantine: Quarantine | None, *, now: int | None, people: Pseudonyms | None) -> pa.Table:
    """The events of a file in its order, none later than now and none of a user who was erased after it."""
    events = read_events(path, quarantine)
    if people is not None:
        events = people.without_erased(events)
    time = events["time"].to_numpy()
    if unset := int((time == 0).sum()):
        log.warning("%s: %d events have the time 0, which is 1970-01-01: expected seconds since 1970. Leave out events whose "
                    "time is unknown.", path, unset)
    return events.set_column(events.column_names.index("time"), "time",
                             pa.array(no_later_than_now(time, now, where=str(path)), pa.int64()))


def _most_frequent(ids: pa.ChunkedArray) -> tuple[str, ...]:
    counts = sorted(pc.value_counts(ids).to_pylist(), key=lambda one: -one["counts"])
    return tuple(one["values"] for one in counts[:LOOKED_AT])

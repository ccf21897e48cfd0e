"""What log and files tell a gateway that starts: who did what lately, and since when each person is known."""
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.behaviour.newcomers import HISTORY_SECONDS
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.repeated_actions import ACTS, acts_of, behaviour, merged, with_users
from tfrec.data.readers.event_files import read_events
from tfrec.data.readers.rows import Quarantine

_MOST_ROWS = 1_000_000  # outcomes that are read at the start, about a second
_COLUMNS = ("user", "time", "item", "action", "value", "event_id", "request_id", "writer", "seq")


def newest_outcomes(log: FeedbackLog) -> pa.Table:
    """Who did what when, of the newest outcomes in the log, oldest first; rows of other tools that lack something are left out.

    Raises:
        DataError: the table cannot be read, by name of the file.
    """
    table = log.tables["outcomes"]
    dataset = table.dataset()

    def read() -> pa.Table:
        wanted = pc.field("time").is_valid()
        if dataset.count_rows() > _MOST_ROWS:
            time = dataset.to_table(columns=["time"])["time"].drop_null().to_numpy()
            wanted &= pc.field("time") >= int(np.partition(time, -_MOST_ROWS)[-_MOST_ROWS])
        for name in ("user", "item", "action", "value", "event_id", "writer", "seq"):
            wanted &= pc.field(name).is_valid()
        return dataset.to_table(columns=list(_COLUMNS), filter=wanted)

    rows = table.checked(read, dataset)
    return rows.take(pa.array(np.argsort(rows["time"].to_numpy(), kind="stable")[-_MOST_ROWS:]))


def first_positives(outcomes: pa.Table, rule: LabelRule | None) -> pa.Table:
    """What popularity counts of `outcomes`, as training does: behaviour (None: all), once for a person and an item. Columns
    `user`, `item` and `time`, oldest first."""
    columns = [outcomes[name] for name in ("user", "item", "time", "action")]
    if rule is None:
        acts = pa.table([*columns, pa.array(np.ones(outcomes.num_rows))], names=ACTS.names)
        return merged(acts, cap=1.0).select(["user", "item", "time"])
    return behaviour(merged(acts_of(outcomes, rule.reward, rule.lengths), cap=rule.reward.cap)).select(["user", "item", "time"])


def first_seen(outcomes: pa.Table, *, now: int) -> pa.Table:
    """Since when each person is known, by what had arrived before them and not by what they claim: columns `user` and `time`.

    An outcome may claim any time that is past. Of one writer they have the order of their arrival, and each arrived after the
    newest time that was claimed before it, and before `now`.
    """
    rows = outcomes.select(["user", "time", "writer", "seq"]).sort_by([("writer", "ascending"), ("seq", "ascending")])
    if not rows.num_rows:
        return rows.select(["user", "time"])
    time = np.minimum(rows["time"].to_numpy(), now)
    _, starts = np.unique(rows["writer"].combine_chunks().dictionary_encode().indices.to_numpy(), return_index=True)
    for start, stop in zip(starts, [*starts[1:], len(time)], strict=True):
        np.maximum.accumulate(time[start:stop], out=time[start:stop])
    arrived = pa.table([rows["user"], pa.array(time)], names=["user", "time"])
    return arrived.group_by("user").aggregate([("time", "min")]).rename_columns({"time_min": "time"})


def first_seen_in(path: Path, *, now: int, name: Callable[[str], str]) -> pa.Table:
    """Since when the people of a file of interactions are known, under the names that the log has for them.

    Raises:
        DataError: the file cannot be used. Bad rows are left out.
    """
    with tempfile.TemporaryDirectory() as aside:
        events = read_events(path, Quarantine(Path(aside, "rows.jsonl")).without_rows())
    first = events.group_by("user").aggregate([("time", "min")]).rename_columns({"time_min": "time"})
    first = first.set_column(1, "time", pa.array(np.minimum(first["time"].to_numpy(), now)))
    return with_users(first.select(["user", "time"]), name)


def by_newcomers(events: pa.Table, outcomes: pa.Table, *, now: int) -> npt.NDArray[np.bool_]:
    """`[n]`: whether the user of each of `events` was a newcomer (`tfrec/data/behaviour/newcomers.py`), by all `outcomes`."""
    since = first_seen(outcomes, now=now)
    place = pc.index_in(events["user"], value_set=since["user"].combine_chunks()).to_numpy()
    return np.asarray(np.minimum(events["time"].to_numpy(), now) - since["time"].to_numpy()[place] < HISTORY_SECONDS)

"""The time since which each user is known, which separates newcomers from established users (`newcomers.py`).

A client may claim any past time for an outcome. So what counts is when an outcome arrived: outcomes of one writer are numbered in
the order of their arrival, and each arrived after the newest time that was claimed before it.
"""
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.behaviour.newcomers import HISTORY_SECONDS
from tfrec.data.labels.pair_rewards import rename_users
from tfrec.data.readers.event_files import read_events
from tfrec.data.readers.quarantine import Quarantine


def first_seen(outcomes: pa.Table, *, now: int) -> pa.Table:
    """Columns `user` and `time`: since when each user of logged `outcomes` is known, at the latest `now`."""
    rows = outcomes.select(["user", "time", "writer", "seq"]).sort_by([("writer", "ascending"), ("seq", "ascending")])
    if not rows.num_rows:
        return rows.select(["user", "time"])
    time = np.minimum(rows["time"].to_numpy(), now)
    _, starts = np.unique(rows["writer"].combine_chunks().dictionary_encode().indices.to_numpy(), return_index=True)
    for start, stop in zip(starts, [*starts[1:], len(time)], strict=True):
        np.maximum.accumulate(time[start:stop], out=time[start:stop])
    return _earliest(pa.table([rows["user"], pa.array(time)], names=["user", "time"]))


def first_seen_in_file(path: Path, *, now: int, name: Callable[[str], str]) -> pa.Table:
    """The same for a file of interactions, with users under `name(user)`, the name that the log has for them.

    Raises:
        DataError: the file cannot be used. Bad rows are left out.
    """
    with tempfile.TemporaryDirectory() as aside:
        events = read_events(path, Quarantine(Path(aside, "rows.jsonl")).without_rows())
    first = _earliest(events)
    first = first.set_column(1, "time", pa.array(np.minimum(first["time"].to_numpy(), now)))
    return rename_users(first, name)


def from_newcomers(events: pa.Table, outcomes: pa.Table, *, now: int) -> npt.NDArray[np.bool_]:
    """`[n]`: whether the user of each of `events` was a newcomer then, by all `outcomes`."""
    since = first_seen(outcomes, now=now)
    row = pc.index_in(events["user"], value_set=since["user"].combine_chunks()).to_numpy()
    return np.asarray(np.minimum(events["time"].to_numpy(), now) - since["time"].to_numpy()[row] < HISTORY_SECONDS)


def _earliest(rows: pa.Table) -> pa.Table:
    found = rows.group_by("user").aggregate([("time", "min")]).rename_columns({"time_min": "time"})
    return found.select(["user", "time"])

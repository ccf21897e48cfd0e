"""The time since which each user is known, which separates newcomers from established users (`newcomers.py`).

A client may claim any past time for an outcome. So what counts is when an outcome arrived: outcomes of one writer are numbered in
the order of their arrival, and each arrived after the newest time that was claimed before it.
"""
import hashlib
import itertools
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfrec.data import durable_files
from tfrec.data.behaviour.newcomers import HISTORY_SECONDS
from tfrec.data.labels.pair_rewards import rename_users
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.data.readers.event_files import read_events
from tfrec.data.readers.files import data_files
from tfrec.data.readers.quarantine import Quarantine


def first_seen(outcomes: pa.Table, *, now: int) -> pa.Table:
    """Columns `user` and `time`: since when each user of logged `outcomes` is known, at the latest `now`."""
    user, names = _coded(outcomes["user"])
    writer, _ = _coded(outcomes["writer"])
    order = np.lexsort((outcomes["seq"].to_numpy(), writer))
    time = np.minimum(outcomes["time"].to_numpy(), now)[order]
    starts = np.flatnonzero(np.diff(writer[order], prepend=-1))
    for start, stop in itertools.pairwise([*starts, len(time)]):
        np.maximum.accumulate(time[start:stop], out=time[start:stop])
    since = np.full(len(names), now, np.int64)
    np.minimum.at(since, user[order], time)
    return pa.table([names, pa.array(since)], names=["user", "time"])


def first_seen_in_file(path: Path, *, now: int, name: Callable[[str], str], cache: Path,
                       people: Pseudonyms | None = None) -> pa.Table:
    """The same for a file of interactions, or a directory of files, with users under `name(user)`, the name that the log has.

    Args:
        path: of the interactions.
        now: seconds since 1970.
        name: gives the name.
        cache: a file that holds the result for the next call. It is used while the interactions are as they were.
        people: know who was erased: what these users did until then is not read.

    Raises:
        DataError: the interactions cannot be used. Bad rows are left out.
    """
    states = [(str(file.path), file.path.stat().st_size, file.path.stat().st_mtime_ns) for file in data_files(path)]
    digest = hashlib.sha256(repr((states, name("") if people is None else people.digest)).encode()).hexdigest().encode()
    first = _cached(cache, digest)
    if first is None:
        first = rename_users(_earliest(_events(path, people)), name).combine_chunks().replace_schema_metadata({b"of": digest})
        with suppress(OSError), durable_files.replacing(cache) as file, pq.ParquetWriter(file, first.schema) as writer:
            writer.write_table(first)  # on a full disk the next call reads the file again
    return first.set_column(1, "time", pa.array(np.minimum(first["time"].to_numpy(), now)))


def _cached(cache: Path, digest: bytes) -> pa.Table | None:
    try:
        with pq.ParquetFile(cache) as file:
            return file.read() if (file.schema_arrow.metadata or {}).get(b"of") == digest else None
    except (OSError, pa.ArrowException):  # there is none, or it was damaged
        return None


def _events(path: Path, people: Pseudonyms | None) -> pa.Table:
    with tempfile.TemporaryDirectory() as aside:
        found = read_events(path, Quarantine(Path(aside, "rows.jsonl")).without_rows()).select(["user", "time"])
    return found if people is None else people.without_erased(found)


def from_newcomers(events: pa.Table, outcomes: pa.Table, *, now: int) -> npt.NDArray[np.bool_]:
    """`[n]`: whether the user of each of `events` was a newcomer then, by all `outcomes`."""
    since = first_seen(outcomes, now=now)
    user, names = _coded(events["user"])
    since_of = since["time"].to_numpy()[pc.index_in(names, value_set=since["user"].combine_chunks()).to_numpy()]
    return np.asarray(np.minimum(events["time"].to_numpy(), now) - since_of[user] < HISTORY_SECONDS)


def _earliest(rows: pa.Table) -> pa.Table:
    found = rows.group_by("user").aggregate([("time", "min")]).rename_columns({"time_min": "time"})
    return found.select(["user", "time"])


def _coded(values: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], pa.Array]:
    """Codes of strings, which may be coded already, and the strings."""
    encoded = values.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary

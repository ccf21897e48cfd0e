"""The feedback log: two Delta tables, to which many processes append and which retrains read in windows."""
import logging
import statistics
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.feedback_log.outdated import Outdated
from tfrec.data.feedback_log.schema import KINDS, SCHEMAS, Kind, to_rows
from tfrec.data.feedback_log.table import LogTable
from tfrec.data.feedback_log.window import Seqs, Window
from tfrec.errors import UsageError

RETENTION_HOURS = 24.0  # a reader may work on a version of the log for so long; then its files may go
_NEWEST_ROWS = 1000  # rows of each table that show which clock is wrong
logger = logging.getLogger(__name__)


class FeedbackLog:
    """The tables `impressions` and `outcomes` under a directory or an object store's URL."""

    def __init__(self, root: str | Path) -> None:
        """Name the tables. Those that do not exist are created at their first use."""
        self.root = str(root).rstrip("/")
        self.tables = {kind: LogTable(f"{self.root}/{kind}", SCHEMAS[kind]) for kind in KINDS}

    def exists(self) -> bool:
        """Whether somebody has made it: it is created at its first use.

        Raises:
            DataError: an object store does not answer.
        """
        return Path(self.root).is_dir() if "://" not in self.root else any(table.exists() for table in self.tables.values())

    def append(self, kind: Kind, lines: Sequence[tuple[int, str]], *, writer: str) -> None:
        """Commit a writer's records, (seq, JSON) with seq ascending. Those that are in the table already are left out.

        Raises:
            UnwritableRows: no table can hold at least one of them; none was committed.
            DataError: the table cannot be read or written.
        """
        if lines:
            self.tables[kind].append(to_rows(kind, lines, writer=writer), writer=writer)

    def last_seq(self, writer: str) -> int:
        """The newest sequence number of a writer that is in the tables."""
        return max(table.last_seq(writer) for table in self.tables.values())

    def window(self, after: Window | None, *, now: int) -> Window:
        """Everything that arrived, and every label that matured, since the window `after`; all of it when None.

        A `now` before that of the window `after` means that one of two clocks was wrong, and the newest rows tell which. If the
        last window ran ahead, this one continues from the true time: labels that it closed too early close again when they
        mature.

        Raises:
            UsageError: `now` is before that of the window `after`, and before most of the newest rows of the log.
        """
        if after and now < after.now:
            logged = self._time_of_the_newest()
            if logged is not None and now < logged:
                raise UsageError(f"window: now is {now}, before most of the newest rows of the log, of {logged}: the clock is "
                                 "behind (seconds since 1970). Set it, and run this again.")
            logger.warning("the clock was ahead in the last run, at %d; it is %d now, and this run goes on from there",
                           after.now, now)
        # outcomes first: an outcome that is seen here was committed after its impression, which is then seen too
        version = {kind: self.tables[kind].open().version() for kind in reversed(KINDS)}
        start: Seqs = after.end if after else {kind: {} for kind in KINDS}
        end: Seqs = {}
        for kind in KINDS:
            newest = self.tables[kind].newest(version[kind], since=after.version(kind) if after else None)
            # a writer's newest rows may have been deleted: an end never falls behind its start
            end[kind] = {w: max(newest.get(w, 0), start[kind].get(w, 0)) for w in sorted({*newest, *start[kind]})}
        return Window(
            start=start,
            end=end,
            matured_from=min(after.now, now) if after else 0,
            now=now,
            impressions_version=version["impressions"],
            outcomes_version=version["outcomes"],
            impressions_before=after.impressions_version if after else None,
            outcomes_before=after.outcomes_version if after else None,
        )

    def read(self, kind: Kind, version: int | None = None) -> pa.Table:
        """All rows of a table, at a version or as it is now."""
        table = self.tables[kind]
        dataset = table.dataset(version)
        return table.checked(dataset.to_table, dataset)

    def shown_since(self, time: int, *, more: Sequence[str] = ()) -> pa.Table:
        """Columns `request_id`, `item` and `position`, and `more` of them, of what was shown from a second on.

        Raises:
            DataError: the table cannot be read.
        """
        table = self.tables["impressions"]
        dataset = table.dataset()
        columns = ["request_id", "item", "position", *more]
        return table.checked(lambda: dataset.to_table(columns, filter=pc.field("time") >= time), dataset)

    def maintain(self, *, retention_hours: float = RETENTION_HOURS) -> None:
        """Keep the log small and quick to open. Writers and readers may be at work meanwhile.

        Small files are rewritten as few large ones, and files that no version of the last `retention_hours` uses are removed.
        """
        for table in self.tables.values():
            table.maintain(retention_hours=retention_hours)

    def drop_outdated(self, window: Window, *, before: int, spare: int) -> None:
        """Remove the rows of before a time that came in the window or earlier. Killed at any time, it may be done again.

        Args:
            window: the last one that was settled, whose labels have matured. What came after it stays, whatever its time.
            before: seconds since 1970, of outcomes.
            spare: seconds by which impressions stay longer, so that each outcome that stays finds the impression it is of.
        """
        self.tables["outcomes"].drop(Outdated(before, window.end["outcomes"]))
        self.tables["impressions"].drop(Outdated(before - spare, window.end["impressions"]))

    def _time_of_the_newest(self) -> int | None:
        """The median time of the rows that came last; None in an empty log."""
        times = []
        for table in self.tables.values():
            rows = table.dataset().to_table(columns=["seq", "time"])
            times += rows.take(pc.select_k_unstable(rows, k=_NEWEST_ROWS, sort_keys=[("seq", "descending")]))["time"].to_pylist()
        known = [time for time in times if time is not None]
        return int(statistics.median_low(known)) if known else None

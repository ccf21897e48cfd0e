"""Writes what comes from a source that can be read again, such as a Kafka topic or a file, to the feedback log: each record once.

There is no write-ahead file, as the source itself keeps the records. How far a source was read is committed with the rows: a
part of a source is a writer of the log, and `seq` grows with the position in it. Impressions are committed first, then outcomes
together with the position. After a kill between the two the source is read again from the old position, and the impressions that
are in their table already are left out. The position moves on over what gives no rows, so bad messages are not read for ever.
"""
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.schema import KINDS, SCHEMAS, Kind, UnwritableRows, to_rows
from tfrec.data.feedback_log.table import WriterRows

Lines = Sequence[tuple[int, str]]  # seq and JSON of records, seq ascending


class SourceBatch(NamedTuple):
    """What was read of one writer's source. All `seq` are above its position before, and at most `upto`, its position then."""

    impressions: Lines
    outcomes: Lines
    upto: int


class Written(NamedTuple):
    """What a commit did for one writer, in records."""

    impressions: int
    outcomes: int
    duplicates: int = 0  # were in the log already
    unwritable: int = 0  # were set aside, as no table can hold them


Unwritable = Callable[[str, int, str, str], None]  # of a writer: seq, JSON and why no table can hold it


class SourceWriter:
    """Commits batches of one or many writers.

    Args:
        log: the tables.
        set_aside: called for a record that no table can hold, before anything after it is committed.
    """

    def __init__(self, log: FeedbackLog, set_aside: Unwritable) -> None:
        self._log = log
        self._set_aside = set_aside
        self._unwritable: Counter[tuple[str, Kind]] = Counter()  # of the commit at work

    def position(self, writer: str) -> int:
        """How far this writer's source was read: everything up to it is in the log; 0 when nothing is."""
        return self.positions([writer])[writer]

    def positions(self, writers: Iterable[str]) -> dict[str, int]:
        """The positions of several writers."""
        return self._log.tables["outcomes"].last_seqs(writers)

    def newest(self, writer: str) -> int:
        """The newest position that is in any table; above `position` after a kill between the two tables."""
        return self._log.last_seq(writer)

    def commit(self, batches: Mapping[str, SourceBatch]) -> dict[str, Written]:
        """Commit batches by writer, all in one commit of each table. Records that are in the log already are left out.

        Raises:
            DataError: a table cannot be read or written. The batches may be committed again.
        """
        before: dict[Kind, dict[str, int]] = {kind: {} for kind in KINDS}
        self._unwritable.clear()
        shown = {writer: (batch.impressions, batch.upto) for writer, batch in batches.items() if batch.impressions}
        if shown:
            before["impressions"] = self._append("impressions", shown)
        if batches:
            before["outcomes"] = self._append("outcomes", {w: (batch.outcomes, batch.upto) for w, batch in batches.items()})
        return {writer: self._written(writer, batch, before) for writer, batch in batches.items()}

    def _written(self, writer: str, batch: SourceBatch, before: Mapping[Kind, Mapping[str, int]]) -> Written:
        new, read = dict[Kind, int](), 0
        for kind, lines in zip(KINDS, (batch.impressions, batch.outcomes), strict=True):
            read += len(lines)
            new[kind] = sum(seq > before[kind].get(writer, 0) for seq, _ in lines)
        duplicates, bad = read - sum(new.values()), self._unwritable
        return Written(new["impressions"] - bad[writer, "impressions"], new["outcomes"] - bad[writer, "outcomes"], duplicates,
                       sum(bad[writer, kind] for kind in KINDS))

    def _append(self, kind: Kind, parts: Mapping[str, tuple[Lines, int]]) -> dict[str, int]:
        """Append records of a kind and the positions after them; returns how far each writer was before.

        When the table cannot hold them all they are parted until those that it cannot hold are found.
        """
        try:
            return self._log.tables[kind].append_all({
                writer: WriterRows(to_rows(kind, lines, writer=writer) if lines else SCHEMAS[kind].empty_table(), upto)
                for writer, (lines, upto) in parts.items()
            })
        except UnwritableRows as error:
            before: dict[str, int] = {}
            for writer, (lines, upto) in parts.items():
                if len(parts) > 1:
                    halves = [(lines, upto)]
                elif len(lines) > 1:
                    half = len(lines) // 2
                    halves = [(lines[:half], lines[half - 1][0]), (lines[half:], upto)]
                else:
                    self._set_aside(writer, *lines[0], str(error))
                    self._unwritable[writer, kind] += 1
                    halves = [((), upto)]
                for part in halves:
                    before.setdefault(writer, self._append(kind, {writer: part})[writer])
            return before

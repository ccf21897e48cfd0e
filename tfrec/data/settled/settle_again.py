"""Settles the whole log again, by another reward rule.

The numbers of parts mean something outside the table: a version knows up to which part it has read. So there is one new part for
each such number, and one for all that came after, and a version's next retrain still knows what is new to it.
"""
import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import gettempdir

from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.schema import KINDS
from tfrec.data.feedback_log.window import Window
from tfrec.data.labels.join import join
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.settled.examples import SettledExamples
from tfrec.data.settled.part import Part
from tfrec.data.settled.schema import WRITER
from tfrec.data.settled.settle import Engine, part_of
from tfrec.data.staging import replace_directory, staging

logger = logging.getLogger(__name__)


def settle_again(log: FeedbackLog, uri: str | Path, rule: LabelRule, *, known: Iterable[int], quarantine: Quarantine | None,
                 engine: Engine = join) -> Part | None:
    """Replace the settled examples at `uri` by those of `rule`; the newest part, or None when nothing was settled yet.

    Killed at any time it leaves the old examples or the new ones.

    Args:
        log: the feedback log.
        uri: directory or URL of the settled examples.
        rule: what is a label.
        known: numbers of parts up to which versions have read.
        quarantine: takes the rows that cannot be used.
        engine: runs the join.

    Raises:
        DataError: a table cannot be read or written, or a row is malformed and there is no quarantine.
    """
    old = SettledExamples(uri)
    last = old.last()
    if last is None:
        return None
    if gone := max(table.gone() for table in log.tables.values()):
        logger.warning("%s: rows of up to %s have left the log (data.keep_days); examples of before then cannot be joined again, "
                       "and are gone", uri, datetime.fromtimestamp(gone, UTC).isoformat(" "))
    ends = sorted({number for number in known if 0 < number < last.number} | {last.number})
    with _staging(uri) as staged:
        made, before, part = SettledExamples(staged / "examples"), None, None
        for number in ends:
            [end] = old.parts(number - 1, number)
            window = _between(before, end.window, log)
            examples = engine(log, window, rule, quarantine=quarantine, every_item=True)
            part = part_of(examples, window, rule, part).model_copy(update={"number": number})
            made.add(examples.table, part)
            before = window
        if "://" in str(uri):
            old.table.replace(made.table.dataset(), writer=WRITER, last=last.number)
        else:
            replace_directory(staged / "examples", Path(uri))
    return part


def _staging(uri: str | Path) -> AbstractContextManager[Path]:
    """A directory for the new examples: beside the old ones, or in the place for temporary files where those are at a URL."""
    directory = Path(gettempdir(), "examples") if "://" in str(uri) else Path(uri)
    return staging(directory.parent, f".{directory.name}.staging-")


def _between(before: Window | None, end: Window, log: FeedbackLog) -> Window:
    """The window from the end of one to that of another, at the present version of the tables."""
    version = {kind: log.tables[kind].open().version() for kind in reversed(KINDS)}
    return Window(
        start={kind: {} for kind in KINDS} if before is None else before.end, end=end.end,
        matured_from=0 if before is None else min(before.now, end.now), now=end.now,
        impressions_version=version["impressions"], outcomes_version=version["outcomes"],
    )

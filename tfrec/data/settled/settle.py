"""Settles what the log gained since the last part: joins it, and adds it to the settled examples as the next part.

Two processes may settle at the same time: the table takes each number once, and whoever comes second finds the other's part and
goes on from there.
"""
import logging
from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.window import Window
from tfrec.data.labels.join import Examples, join
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.settled.examples import SettledExamples
from tfrec.data.settled.part import Part
from tfrec.errors import UsageError

logger = logging.getLogger(__name__)
Engine = Callable[..., Examples]  # takes the arguments of `labels.join.join`


def settle(log: FeedbackLog, settled: SettledExamples, rule: LabelRule, *, now: int, quarantine: Quarantine | None,
           engine: Engine = join, people: Callable[[], Pseudonyms] | None = None) -> Part:
    """Settle everything that arrived and matured since the last part, and return the newest part.

    Args:
        log: the feedback log.
        settled: the examples of that log.
        rule: what is a label. Examples of all items are settled; whoever reads them applies the catalogue of then.
        now: seconds since 1970; labels mature by it.
        quarantine: takes the rows that cannot be used.
        engine: runs the join.
        people: asked who was erased, when the join has read all that it reads: nothing of these people is settled.

    Raises:
        UsageError: the settled examples have the rewards of another rule, or the clock is behind.
        DataError: a table cannot be read or written, or a row is malformed and there is no quarantine.
    """
    while True:
        last = settled.last()
        if last is not None:
            _check_rule(settled, last, rule)
        window = log.window(None if last is None else last.window, now=now)
        examples = engine(log, window, rule, quarantine=quarantine, every_item=True)
        if last is not None and window.start == window.end and not len(examples):
            return last  # nothing arrived and nothing matured
        if people is not None:
            examples = _without_erased(examples, people())
        part = part_of(examples, window, rule, last)
        settled.add(examples.table, part)
        newest = settled.last()
        if newest == part:
            return part
        logger.info("another process has settled part %d meanwhile; going on from it", part.number)


def part_of(examples: Examples, window: Window, rule: LabelRule, last: Part | None) -> Part:
    """The part that follows `last`."""
    behaviour = _count(pc.or_(pc.is_valid(examples.table["positive_time"]), pc.not_equal(examples.table["reward"], 0)))
    return Part(
        number=1 if last is None else last.number + 1, window=window, rule=rule.digest,
        behaviour=behaviour + (0 if last is None else last.behaviour),
        left_out=dict(examples.left_out), actions=dict(examples.actions),
    )


def _without_erased(examples: Examples, people: Pseudonyms) -> Examples:
    erased = people.erased_among(pc.unique(examples.table["user"]).drop_null().to_pylist()) if people.erasures else set()
    if not erased:
        return examples
    return replace(examples, table=examples.table.filter(pc.invert(pc.is_in(examples.table["user"], pa.array(list(erased))))))


def _count(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _check_rule(settled: SettledExamples, last: Part, rule: LabelRule) -> None:
    if last.rule != rule.digest:
        raise UsageError(
            f"{settled.table.uri}: the examples were settled by another reward rule ({last.rule}) than that of the configuration "
            f"({rule.digest}): [reward] or data.attribution_hours has changed. Set them back, or join the whole log again by the "
            "new rule: tfrec join --again.")

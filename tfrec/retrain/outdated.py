"""Removes from the log and the examples what is older than `data.keep_days`, at the end of a run.

Age alone lets nothing go. A row stays until each published version that is kept has learnt the part of it, and until no label of
these versions waited for it any more: a retrain that is taken up, and one after a rollback, find all that they read as new.
"""
import logging

from tfrec.config import Config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.labels.repeated_actions import REPEAT_SECONDS
from tfrec.data.settled.examples import SettledExamples
from tfrec.release.manifest import read_manifest
from tfrec.release.publish import versions

DAY = 86_400  # seconds; rows leave once a day, as their files are written anew for it
log = logging.getLogger(__name__)


def drop_outdated(config: Config, *, now: int) -> None:
    """Remove the rows that are outdated, if the configuration wants that.

    Args:
        config: names the log, the examples and the versions.
        now: seconds since 1970.

    Raises:
        DataError: a table cannot be read or written.
    """
    settled = SettledExamples(config.examples_uri)
    if config.data.keep_days is None or (last := settled.last()) is None:
        return
    numbers = versions(config.models_dir)
    windows = [read_manifest(config.models_dir / str(number)).window for number in numbers]
    if len(windows) < 2 or None in windows:
        log.info("data.keep_days: no row leaves before two versions have learnt from the log, and none is kept that has not; the "
                 "kept ones are %s", numbers)
        return
    learnt = [window for window in windows if window is not None]
    waited = config.data.attribution_seconds + REPEAT_SECONDS  # the join looks back so far
    wanted = min(now, last.window.now) - round(config.data.keep_days * DAY)
    before = min(wanted // DAY * DAY, min(int(window["now"]) for window in learnt) - waited)
    settled.drop_outdated(before=before, upto=min(int(window["upto"]) for window in learnt))
    FeedbackLog(config.log_uri).drop_outdated(last.window, before=before, spare=waited)

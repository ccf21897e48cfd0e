"""What is old leaves the log and the examples of a run, and the next runs end as if it were still there."""
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from tests.retrain.test_job import NOW, VERIFY, cheap, published, weights  # noqa: F401  fixtures
from tfrec.config import Config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.records import Outcome
from tfrec.data.settled.examples import SettledExamples
from tfrec.release.manifest import CHECKPOINT
from tfrec.release.publish import versions
from tfrec.retrain import PROMOTED, WAITING, Session, Stopped, retrain
from tfrec.retrain.outdated import drop_outdated
from tfrec.retrain.window import settle_log
from tfrec.training import checkpoint

LATER, LAST = NOW + 800_000, NOW + 1_600_000


def acts(config: Config, now: int, *, shift: int) -> None:
    """Forty events of an hour."""
    outcomes = [Outcome(event_id=f"{now}-{n}", user=f"u{n % 7}", item=f"i{(n + shift) % 60}", action="view",
                        time=now - 4000 + 90 * n) for n in range(40)]
    with LogWriter(FeedbackLog(config.log_dir), WriteAheadFile(config.run / "wal", "test")) as log:
        log.outcome(*outcomes)


def oldest(config: Config) -> tuple[int, int]:
    """Of the log and of the examples."""
    examples = SettledExamples(config.examples_uri).whole(upto=99, items=[f"i{n}" for n in range(60)])
    return min(FeedbackLog(config.log_dir).read("outcomes")["time"].to_pylist()), min(examples["time"].to_pylist())


def test_old_rows_leave_and_the_next_run_ends_as_if_they_were_there(published: Config, tmp_path: Path,  # noqa: F811
                                                                   caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(published.run, tmp_path / "run")
    open_gate = {"gate_floor": 0.0, "forget_margin": 1.0, "search_margin": 1.0, "replay": 0.0}
    config = published.model_copy(update={
        "run": tmp_path / "run", "retrain": published.retrain.model_copy(update=open_gate),
        "data": published.data.model_copy(update={"keep_days": 8.0}),
        "serving": published.serving.model_copy(update={"keep_versions": 2})})
    catalogue = checkpoint.grown_catalogue(config.models_dir / "1" / CHECKPOINT, None)
    with mock.patch(VERIFY):
        for number in (1, 2):  # parts from before the first run
            quarantine = Quarantine(tmp_path / "bad")
            assert settle_log(config, catalogue, now=NOW - 500_000 + 1000 * number, quarantine=quarantine) == number
            acts(config, NOW - 500_000 + 2000 * number, shift=10 * number)
        assert retrain(config, now=NOW).outcome == PROMOTED
        assert oldest(config) == (2_000_000, 2_000_000)  # version 1 has learnt nothing of the log
        acts(config, LATER, shift=37)
        alike = config.model_copy(update={"run": tmp_path / "alike", "data": published.data})
        assert retrain(config.model_copy(update={"data": published.data}), now=LATER).outcome == PROMOTED
        assert versions(config.models_dir) == [2, 3]
        shutil.copytree(config.run, alike.run)

        drop_outdated(config, now=LATER)
        assert oldest(config) == (LATER - 4000, NOW - 500_000)  # all of the log's rows, and parts 1 and 2 of 4, were older
        assert SettledExamples(config.examples_uri).table.gone() == 2
        acts(config, LAST, shift=50)
        acts(alike, LAST, shift=50)
        ours, theirs = (retrain(run, now=LAST) for run in (config, alike))
        assert (ours.outcome, ours.version) == (PROMOTED, 4), ours.reason
        assert (ours.events, ours.learnt) == (theirs.events, theirs.learnt)
        for file in ("prior.npz", "timeline.npz"):  # popularity counts what has left
            left, right = (run.models_dir / "4" / CHECKPOINT / file for run in (config, alike))
            with np.load(left) as mine, np.load(right) as others:
                for name in mine.files:
                    np.testing.assert_array_equal(mine[name], others[name], err_msg=name)
        assert retrain(config, now=LAST + 1000).outcome == WAITING
        assert "have left" not in caplog.text

        shutil.copytree(published.models_dir / "1", config.models_dir / "5")  # an old version is put back
        session = Session()
        session.stopping.set()
        with pytest.raises(Stopped):
            retrain(config, now=LAST + 2000, session=session)
        assert "version 5 has learnt the parts up to 0, and rows of the parts up to 3 have left (data.keep_days)" in caplog.text

"""Runs that share a process: each ends as it would have in a process of its own, and nothing is traced twice."""
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from tests.eagerly import eagerly
from tests.graph import tiny_recommender as tiny
from tests.retrain.test_job import EVENTS, NOW, VERIFY, published, weights
from tfrec.config import Config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.records import Outcome
from tfrec.errors import NothingToLearn
from tfrec.models.recommender import Recommender
from tfrec.retrain import PROMOTED, REJECTED, WAITING, Session, Stopped, retrain
from tfrec.retrain.intent import Intent

__all__ = ["published"]  # the fixture

LATER = NOW + 500_000


@pytest.fixture
def config(published: Config, tmp_path: Path) -> Config:
    """A copy of the published run. The anchor has variables of its own, and they must follow each parent."""
    shutil.copytree(published.run, tmp_path / "run")
    settings = published.retrain.model_copy(update={"l2_sp": 0.1})
    return published.model_copy(update={"run": tmp_path / "run", "retrain": settings})


def more(config: Config) -> None:
    outcomes = [Outcome(event_id=f"f{n}", user=f"u{n % 7}", item=f"i{(n + 23) % 60}", action="view", time=NOW + 60 * n)
                for n in range(EVENTS)]
    with LogWriter(FeedbackLog(config.log_dir), WriteAheadFile(config.run / "wal", "test")) as log:
        log.outcome(*outcomes)


def broken(config: Config, challenger: Recommender, optimizer: tf.keras.optimizers.Optimizer, *_: object, **__: object) -> None:
    for variable in (*challenger.model.variables, *challenger.head.variables, *optimizer.variables):
        if variable.dtype.is_floating:
            variable.assign(np.nan * variable)


def test_a_run_that_is_stopped_is_taken_up_by_the_next_one(config: Config) -> None:
    with mock.patch(VERIFY), eagerly(), Session() as session:
        session.stopping.set()
        with pytest.raises(Stopped):
            retrain(config, now=NOW, session=session)
    intent = config.run / "retrain" / "intent.json"
    assert Intent.model_validate_json(intent.read_bytes()).now == NOW
    with mock.patch(VERIFY), mock.patch("tfrec.retrain.job.learn", side_effect=NothingToLearn("nothing.")):
        assert retrain(config, now=NOW + 7).outcome == WAITING
    assert not intent.exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of AutoGraph; as an error, it would be logged with the step it is of
def test_a_run_in_a_process_that_runs_on_ends_as_in_a_process_of_its_own(config: Config, tmp_path: Path) -> None:
    """Also after a run that left nothing but NaN behind, and with items that were not there when the step was traced."""
    traced = []
    with mock.patch(VERIFY), tiny.exporting("recommend"), Session() as session:
        assert retrain(config, now=NOW, session=session).outcome == PROMOTED
        more(config)
        alone = config.model_copy(update={"run": tmp_path / "alone"})
        shutil.copytree(config.run, alone.run)
        with mock.patch("tfrec.retrain.job.learn", side_effect=broken):
            result = retrain(config, now=LATER - 1, session=session)
            assert (result.outcome, result.version) == (REJECTED, 2), result.reason
        with mock.patch("tfrec.models.two_tower.TwoTower.compute_loss", side_effect=lambda *_, **__: traced.append(1)):
            ours = retrain(config, now=LATER, session=session)
    with mock.patch(VERIFY), tiny.exporting("recommend"):
        theirs = retrain(alone, now=LATER)
    assert traced == []
    assert (ours.outcome, ours.version, ours.figures) == (PROMOTED, 3, theirs.figures)
    assert (theirs.outcome, theirs.learnt) == (ours.outcome, ours.learnt)
    left, right = weights(config, 3), weights(alone, 3)
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_allclose(left[name], right[name], rtol=1e-6, atol=1e-6, err_msg=name)

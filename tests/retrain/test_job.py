"""A retrain that is killed again and again ends as one that was left alone: on a tiny model, with a SIGKILL at each seam.

What the fresh server answers is the business of tests/release/test_verify.py; here verification passes.
"""
import errno
import fcntl
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from tests.eagerly import eagerly
from tests.forked import Forks
from tests.graph import tiny_recommender as tiny
from tests.release.test_retention import models_config
from tfrec.config import Config, DataConfig, RetrainConfig
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.records import Outcome
from tfrec.data.settled.examples import SettledExamples
from tfrec.errors import DataError, NothingToLearn, NotVerified, ServingError, TfrecError
from tfrec.evaluation.protocol import with_history
from tfrec.experiments.state import StateFile
from tfrec.models.recommender import Recommender
from tfrec.release.export import export
from tfrec.release.manifest import CHECKPOINT, read_manifest
from tfrec.release.publish import publish, versions
from tfrec.retrain import PROMOTED, REJECTED, WAITING, Retrained, retrain
from tfrec.retrain.intent import Intent
from tfrec.rollout.labels import labels_in_file
from tfrec.training.loop import optimiser

ROOT = Path(__file__).parents[2]
NOW, EVENTS = 3_000_000, 40
CHALLENGE, LEARN, VERIFY = (f"tfrec.retrain.{name}" for name in ("job.challenge", "job.learn", "session.Verifier"))
KILLS = [  # in the order of a run; each leaves something else behind
    "after tfrec.training.loop.StepProgress.on_train_batch_end",  # the intent; one batch of many is learnt
    "before tfrec.release.export.write_manifest",  # an export that has not got its name yet
    "before tfrec.release.publish.write_manifest",  # a whole export, and a version that has not got its number yet
    "after tfrec.retrain.job.publish",  # a version, and an intent that is carried out
]


@pytest.fixture(autouse=True)
def cheap() -> Iterator[None]:
    """Each run is a few steps, sooner computed operator by operator than traced; tests/test_shop.py has the graphs."""
    with eagerly(), tiny.exporting("recommend"):
        yield


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: str) -> Config:
    """A run with one version, and news in its log that pass a gate this wide."""
    run = tmp_path_factory.mktemp("published") / "run"
    made = tiny.recommender(run, tiny_checkpoint)
    config = made.config.model_copy(update={"retrain": RetrainConfig(epochs=1, min_events=20, gate_margin=1.0)})
    optimizer = optimiser(config, learning_rate=config.retrain.learning_rate)
    optimizer.build(made.model.trainable_variables)
    with tiny.exporting("recommend"):
        directory = export(made, run / "export", created_at=2_000_000, optimizer=optimizer)
    with mock.patch("tfrec.release.publish.verify"):
        publish(directory, config.models_dir)
    outcomes = [
        Outcome(event_id=f"e{n}", user=f"u{n % 7}", item=f"i{n}", action="view", time=2_000_000 + 3_600 * n)
        for n in range(EVENTS)
    ]
    with LogWriter(FeedbackLog(config.log_dir), WriteAheadFile(run / "wal", "test")) as log:
        log.outcome(*outcomes)
    return config


@pytest.fixture
def config(published: Config, tmp_path: Path) -> Config:
    """A copy of it."""
    shutil.copytree(published.run, tmp_path / "run")
    return published.model_copy(update={"run": tmp_path / "run"})


def with_canary(config: Config) -> Config:
    """The same run, of which a promoted version gets the label of the canary first."""
    file = config.run.with_suffix(".models.config")
    models_config(file, config.models_dir, specific=[], labels={}, name=config.serving.model_name)
    return Config.model_validate(config.model_dump() | {
        "gateway": {"stable_label": "stable"}, "experiment": {"canary": 0.1},
        "serving": config.serving.model_dump() | {"models_config": file}})


def weights(config: Config, version: int) -> dict[str, np.ndarray]:
    """All that training changes, the optimiser's state included."""
    saved = tf.train.load_checkpoint(str(config.models_dir / str(version) / CHECKPOINT / "weights"))
    return {name: saved.get_tensor(name) for name in saved.get_variable_to_shape_map() if not name.startswith("_")}


def test_killed_anywhere_it_ends_as_if_left_alone(published: Config, config: Config, tmp_path: Path, forks: Forks) -> None:
    config, alone = with_canary(config), with_canary(published.model_copy(update={"run": tmp_path / "alone"}))
    shutil.copytree(published.run, alone.run)
    settings = tmp_path / "config.toml"
    settings.write_text(config.to_toml())
    command = [sys.executable, str(ROOT / "tests" / "killed.py"), str(settings), str(NOW)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = forks.run(command, text="\n".join(KILLS), env=environment, timeout=600)
    assert killed.returncode == 0, killed.stderr[-2000:]
    with mock.patch(VERIFY):
        expected, result = retrain(alone, now=NOW), retrain(config, now=NOW + 500)  # the intent's `now` holds

    assert (result.outcome, result.version, versions(config.models_dir)) == (PROMOTED, 2, [1, 2])
    assert 0 < result.learnt < result.events == EVENTS
    assert asdict(result) | {"seconds": {}} == asdict(expected) | {"seconds": {}}
    ours, theirs = (read_manifest(run.models_dir / "2") for run in (config, alone))
    assert (ours.parent, ours.created_at, ours.window) == (theirs.parent, theirs.created_at, theirs.window)
    left, right = weights(config, 2), weights(alone, 2)
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_allclose(left[name], right[name], atol=1e-6, err_msg=name)

    kept = config.run / "retrain" / f"{NOW}-{ours.identity}.json"
    assert {path.name for path in kept.parent.iterdir()} == {"lock", kept.name}
    assert {path.name for path in config.models_dir.parent.iterdir()} == {config.models_dir.name}
    assert {path.name for path in config.models_dir.iterdir()} == {".last_version", "1", "2"}
    assert retrain(config, now=NOW + 1_000).outcome == WAITING
    for run in (config, alone):  # the version is tried on some users first
        assert labels_in_file(run) == StateFile(run.run).read().labels == {"stable": 1, "canary": 2}


def test_a_run_whose_files_have_changed_begins_anew(config: Config, tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text('{"id": "new", "text": "blue"}\n')
    asked = config.model_copy(update={"data": DataConfig(items=items, withdraw_at_most=1.0)})

    first = interrupted(asked, now=NOW)
    assert interrupted(asked, now=NOW + 5) == first  # taken up
    items.write_text('{"id": "new", "text": "red"}\n')
    second = interrupted(asked, now=NOW + 9)
    assert (second.now, second.data_digest != first.data_digest) == (NOW + 9, True)


def nothing_to_learn(*_: object, **__: object) -> None:
    raise NothingToLearn("slates: the window has none.")


def out_of_memory(*_: object, **__: object) -> None:
    raise MemoryError


def not_a_number(config: Config, challenger: Recommender, *_: object, **__: object) -> None:
    challenger.model.log_scale.assign(np.nan)


@pytest.mark.parametrize(("fault", "told"), [
    (lambda model: model.head.mean.assign(np.full(9, np.nan)), "not finite after training: 1 of .*head_mean"),
    (lambda model: model.model.search_scale.assign(0.0), "its search is dead: on .* searches .items' own texts."),
    (lambda model: model.model.search_scale.assign(-2.0), "its search is dead"),
], ids=["head NaN", "search dead", "search upside down"])
def test_a_fault_that_a_retrain_makes_is_not_promoted(config: Config, fault: Any, told: str) -> None:
    def learn(config: Config, challenger: Recommender, *_: object, **__: object) -> None:
        fault(challenger)

    with mock.patch(LEARN, side_effect=learn), mock.patch(VERIFY):
        result = retrain(config, now=NOW)
    assert (result.outcome, versions(config.models_dir)) == (REJECTED, [1])
    assert re.search(told, result.reason)


def test_what_is_not_verified_is_rejected_with_its_reason(config: Config) -> None:
    refused = mock.MagicMock()
    refused.return_value.__enter__.return_value.verify.side_effect = NotVerified("thompson: every answer is empty")
    with mock.patch(VERIFY, refused):
        result = retrain(config, now=NOW)
    assert (result.outcome, result.reason, result.version) == (REJECTED, "thompson: every answer is empty", 1)
    assert versions(config.models_dir) == [1]
    assert {path.name.split("-")[0] for path in (config.run / "retrain").iterdir()} == {"lock", str(NOW)}


@pytest.mark.parametrize("file", ["weights.index", "catalogue.jsonl", "slots.npz"])
def test_a_parent_whose_files_are_damaged_is_not_continued(config: Config, file: str) -> None:
    path = config.models_dir / "1" / CHECKPOINT / file
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + b"?")
    with pytest.raises(ServingError, match=f"{file}: is not what was exported.*roll back to another version"):
        retrain(config, now=NOW)
    assert not (config.run / "retrain" / "intent.json").exists()


@pytest.mark.parametrize(("learn", "ends"), [
    (nothing_to_learn, WAITING), (not_a_number, REJECTED), (out_of_memory, MemoryError),
], ids=lambda value: getattr(value, "__name__", value))
def test_after_a_run_that_did_not_publish_a_later_run_has_a_later_window(config: Config, learn: Any, ends: Any) -> None:
    with mock.patch(LEARN, side_effect=learn), mock.patch(VERIFY):
        if isinstance(ends, str):
            result = retrain(config, now=NOW)
            assert (result.outcome, result.version) == (ends, 1)
            reason = {WAITING: "slates: the window has none. Left for the next run.",
                      REJECTED: "the challenger is not finite after training: 1 of "}[ends]
            assert result.reason.startswith(reason)
        else:
            with pytest.raises(ends):
                retrain(config, now=NOW)
    assert versions(config.models_dir) == [1]
    assert not (config.run / "retrain" / "intent.json").exists()
    with LogWriter(FeedbackLog(config.log_dir), WriteAheadFile(config.run / "wal", "test")) as log:
        log.outcome(Outcome(event_id="late", user="u1", item="i1", action="view", time=NOW + 1))
    later = interrupted(config, now=NOW + 9)
    assert (later.now, later.after, later.upto) == (NOW + 9, 0, 2)  # all of the first part is still new
    assert SettledExamples(config.examples_dir).parts(1, 2)[0].window.end["outcomes"] == {"test": EVENTS + 1}


def interrupted(config: Config, *, now: int) -> Intent:
    """What a run that is killed at once wanted to do."""
    with mock.patch(CHALLENGE, side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        retrain(config, now=now)
    return Intent.model_validate_json((config.run / "retrain" / "intent.json").read_bytes())


@pytest.mark.parametrize("left", [b"", b'{"window": {"start": ', b"\xff\x00", b'{"now": 1}', b"[]"])
def test_an_intent_that_cannot_be_read_is_dropped_with_a_warning(
    config: Config, left: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (config.run / "retrain").mkdir()
    (config.run / "retrain" / "intent.json").write_bytes(left)
    assert interrupted(config, now=NOW).now == NOW
    assert f"expected the intent of an interrupted run, got {len(left)} bytes that cannot be read" in caplog.text


FULL = "No space left on device"


@pytest.mark.parametrize("refused", [
    OSError(errno.ENOSPC, FULL, "variables.data"), tf.errors.ResourceExhaustedError(None, None, f"variables.data; {FULL}"),
    tf.errors.UnknownError(None, None, f"variables.data; {FULL}"),
], ids=lambda error: type(error).__name__)
def test_a_full_disk_ends_a_run_with_a_word_and_leaves_room_for_the_next(config: Config, refused: Exception) -> None:
    work = config.run / "retrain"

    def write(*_: object, **__: object) -> None:
        (work / ".export-1.staging-2" / "variables").mkdir(parents=True)
        raise refused

    with mock.patch(CHALLENGE, side_effect=write), \
         pytest.raises(DataError, match=rf"variables.data.*{FULL}.* GB are free on the disk of {config.run}. Free disk space"):
        retrain(config, now=NOW)
    assert ({path.name for path in work.iterdir()}, versions(config.models_dir)) == ({"lock"}, [1])
    with mock.patch(CHALLENGE, return_value=Retrained(REJECTED, "too bad", 1, 2, 3)):
        assert retrain(config, now=NOW + 1).outcome == REJECTED


def test_an_error_of_tensorflow_that_is_not_the_disks_stays_what_it_is(config: Config) -> None:
    with mock.patch(CHALLENGE, side_effect=tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")), \
         pytest.raises(tf.errors.ResourceExhaustedError):
        retrain(config, now=NOW)


def test_results_and_rows_set_aside_do_not_grow_with_the_runs(config: Config) -> None:
    work = config.run / "retrain"
    work.mkdir()
    for n in range(5):
        (work / f"quarantine-{n}.jsonl").write_text("{}")
        os.utime(work / f"quarantine-{n}.jsonl", (n, n))
    with mock.patch(CHALLENGE, return_value=Retrained(REJECTED, "too bad", 1, 2, 3)), \
         mock.patch("tfrec.retrain.run_directory.MAX_RESULTS", 3), mock.patch("tfrec.retrain.run_directory.MAX_QUARANTINES", 2):
        for n in range(5):
            retrain(config, now=NOW + n)
    kept = sorted(path.name.partition("-")[0] for path in work.iterdir() if path.name[0].isdecimal())
    assert kept == [str(NOW + n) for n in (2, 3, 4)]
    assert {path.name for path in work.glob("quarantine-*")} == {"quarantine-3.jsonl", "quarantine-4.jsonl"}


def test_one_at_a_time(config: Config) -> None:
    work = config.run / "retrain"
    work.mkdir()
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TfrecError, match="another retrain of this run is at work. Wait until it has ended"):
            retrain(config, now=NOW)
    assert {path.name for path in work.iterdir()} == {"lock"}


def test_rows_that_training_set_aside_do_not_stop_it(config: Config, tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"id": "new", "text": "blue"}\n{"text": "nobody"}\n')
    (tmp_path / "events.csv").write_text("user,item,time\nu1,i1,1000\nu1,i2,yesterday\n")
    data = DataConfig(items=tmp_path / "items.jsonl", interactions=tmp_path / "events.csv", withdraw_at_most=1.0)
    waits = config.model_copy(update={"data": data, "retrain": RetrainConfig(min_events=EVENTS + 1)})
    assert retrain(waits, now=NOW).outcome == WAITING
    [quarantine] = (config.run / "retrain").glob("quarantine-*.jsonl")
    rows = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert [(Path(row["file"]).name, row["line"]) for row in rows] == [("items.jsonl", 2), ("events.csv", 3)]
    assert ["row" in row for row in rows] == [True, False]  # who did something is said in the user's own file alone


def test_a_challenger_that_forgets_what_was_before_the_window_is_rejected(config: Config, tmp_path: Path) -> None:
    past = tiny.interactions(tiny.catalogue())  # ends before the window begins
    rows = zip(past.user, past.item, past.time, past.action, strict=True)
    lines = [f"{past.users[u]},{past.items[i]},{t},view" for u, i, t, _ in rows]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,time,action", *lines]))
    retraining = config.retrain.model_copy(update={"forget_margin": 0.02})
    asked = config.model_copy(update={"data": DataConfig(interactions=tmp_path / "events.csv"), "retrain": retraining})

    def forget(config: Config, challenger: Recommender, *_: object, **__: object) -> None:
        challenger.model.beta.assign(-50.0)  # what was liked comes last

    with mock.patch(LEARN, side_effect=forget), mock.patch(VERIFY):
        result = retrain(asked, now=NOW)
    assert result.outcome == REJECTED
    earlier = result.figures["earlier"]
    asked_again = len(with_history(past, range(len(past))))
    assert (earlier["events"], earlier["margin"]) == (asked_again, 0.02)
    assert earlier["hr@10"]["champion"] > earlier["hr@10"]["challenger"] + 0.02
    assert result.reason.startswith(f"it forgets: on {asked_again} earlier events its HR@10 ")

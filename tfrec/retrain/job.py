"""The steps of a retrain, in order.

    settle the log -> read what is new -> split it -> measure the champion -> learn from its weights -> compare -> export
    -> verify -> publish

A run ends as `promoted`, `rejected` or `waiting`. If it ends in an error, what was live stays live, and the next run begins anew.
"""
import logging
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

from tfrec.config import Config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.people.erasures import Erasures
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.settled.examples import SettledExamples
from tfrec.erasure.forget import finish_after_run
from tfrec.erasure.versions import parent_of_next, traces_of_parent
from tfrec.errors import NothingToLearn, NotVerified, TfrecError, UsageError
from tfrec.evaluation.gate_words import figures_of, reason_in_words
from tfrec.gateway.rules.keep_floors import keep_floors
from tfrec.models.prior_timeline import PriorTimeline
from tfrec.models.recommender import Recommender
from tfrec.monitors.look import look_after_run
from tfrec.release.export import export
from tfrec.release.file_digests import check_files
from tfrec.release.lineage import Lineage, slates_until
from tfrec.release.manifest import CHECKPOINT, read_manifest
from tfrec.release.publish import publish, pull, version_of, versions
from tfrec.release.retention import retire
from tfrec.release.shared_versions import store_of
from tfrec.release.verify import Verifier
from tfrec.retrain.intent import Intent, take_up_or_begin
from tfrec.retrain.judging import Contest
from tfrec.retrain.learning import learn, not_finite
from tfrec.retrain.outdated import drop_outdated
from tfrec.retrain.result import PROMOTED, REJECTED, WAITING, Retrained, timed
from tfrec.retrain.run_directory import RunDirectory, disk_errors_named
from tfrec.retrain.session import Session
from tfrec.retrain.split import Split, split_window
from tfrec.retrain.weekly_popularity import weekly_popularity
from tfrec.retrain.window import read_window, settle_log
from tfrec.review.scan import scan_before_publishing
from tfrec.rollout.canary import begin_canary, judge_canary
from tfrec.training import checkpoint
from tfrec.training.loop import SNAPSHOTS
from tfrec.training.slates.window import SlateWindow

log = logging.getLogger(__name__)


def retrain(config: Config, *, now: int, seed: int = 0, session: Session | None = None) -> Retrained:
    """Run the job once.

    Args:
        config: names the run directory with its feedback log and published versions, the catalogue and the base behaviour.
        now: seconds since 1970; labels mature by it. A run that is taken up keeps the time and the seed that it began with.
        seed: of replay and of the order of batches.
        session: what this process keeps from run to run; by default nothing.

    Raises:
        UsageError: nothing is published to continue from.
        TfrecError: another retrain of this run is at work.
        DataError: the disk is full or cannot be used. What was live stays so, and the next run begins anew.
    """
    pull(config.models_dir, store_of(config))
    if not versions(config.models_dir):
        raise UsageError(f"{config.models_dir}: no published version to continue from. First: tfrec train, tfrec export, "
                         "tfrec publish.")
    with disk_errors_named(config.run), RunDirectory.opened(config.run / "retrain") as directory:
        quarantine = Quarantine(directory.path / f"quarantine-{now}.jsonl")
        seconds: dict[str, float] = {}
        judge_canary(config, now=now, quarantine=quarantine)
        with timed(seconds, "settle"):
            catalogue = _catalogue(config, quarantine)
            scan_before_publishing(config, catalogue.items, now=now)
            intent = take_up_or_begin(config, directory, partial(settle_log, config, catalogue, now=now, quarantine=quarantine),
                                      now=now, seed=seed)
        result = _ended_before(config, intent)
        if result is None:
            try:
                with ExitStack() as stack:
                    session = session or stack.enter_context(Session())
                    result = challenge(config, directory, catalogue, intent, session, quarantine=quarantine)
            except Exception:  # a kill is none
                directory.abandon()
                raise
        result.seconds = seconds | result.seconds
        log.info("%s: %s", result.outcome, result.reason)
        if quarantine.count:
            log.warning("%s", quarantine.summary())
        begin_canary(config, now=now)
        if result.outcome == PROMOTED:
            retire(config)
        try:
            FeedbackLog(config.log_uri).maintain()
            SettledExamples(config.examples_uri).maintain()
        except TfrecError as error:  # the run ended well all the same, and the next one tidies up
            log.warning("the log was not tidied up: %s", error)
        directory.finish(result, f"{intent.now}-{intent.identity}")
        _after(config, intent, now=now)
        return result


def _after(config: Config, intent: Intent, *, now: int) -> None:
    """What follows a run, which ended well whatever becomes of this: an error is a warning, and the next run tries again."""
    steps: dict[str, Callable[[], object]] = {
        # now that no run can be taken up that would read them
        "no outdated row has left the log": partial(drop_outdated, config, now=intent.now),
        "an erasure is not finished, and the next run goes on with it": partial(finish_after_run, config, now=intent.now),
        "the monitors did not look": partial(look_after_run, config, now=now),
        "the floors of rules stay as they were": partial(keep_floors, config, now=now),
    }
    for problem, step in steps.items():
        try:
            step()
        except TfrecError as error:
            log.warning("%s: %s", problem, error)


def _catalogue(config: Config, quarantine: Quarantine) -> Catalogue:
    """The catalogue of the version to go on from, whose checkpoint is whole, with what the file of items has changed since."""
    parent = config.models_dir / str(parent_of_next(config))
    check_files(parent, read_manifest(parent), below=CHECKPOINT)
    return checkpoint.grown_catalogue(parent / CHECKPOINT, config.data.items, quarantine,
                                      withdraw_at_most=config.data.withdraw_at_most)


def _ended_before(config: Config, intent: Intent) -> Retrained | None:
    """The result of a run that was killed after it had published; None of any other."""
    published = version_of(config.models_dir, intent.identity)
    if published is None:
        return None
    meta = checkpoint.read_meta(config.models_dir / str(published) / CHECKPOINT)
    return Retrained(**meta["result"] | {"version": published})


def challenge(config: Config, directory: RunDirectory, catalogue: Catalogue, intent: Intent, session: Session, *,
              quarantine: Quarantine) -> Retrained:
    """Train a challenger on the window of an intent and publish it if it passes the gate."""
    parent = config.models_dir / str(intent.parent)
    result = Retrained(WAITING, "", intent.parent, events=0, learnt=0)
    with timed(result.seconds, "read"):
        timeline = PriorTimeline.load(parent / CHECKPOINT / "timeline.npz")
        timeline.grow(len(catalogue))
        window = read_window(config, catalogue, intent, parent, counted=timeline.upto, quarantine=quarantine)
    result.events, result.left_out = window.events, window.left_out
    if missing := window.missing(config.retrain):
        return result.ended(WAITING, missing)
    session.check()
    split = split_window(config, window, seed=intent.seed)
    if not len(split.judges):
        return result.ended(WAITING, split.no_judges)

    session.verifier()  # its server starts while the challenger learns
    with session.strategy(config.training.device).scope():
        with timed(result.seconds, "load"):
            challenger, optimizer = session.load(parent / CHECKPOINT, config, window.catalogue)
        with timed(result.seconds, "evaluate"):
            weekly = weekly_popularity(config, window, counted=timeline.upto, since=split.since)
            timeline = timeline.advanced(window.inter, window.arrived, most=SNAPSHOTS, upto=intent.upto)
            shown = SlateWindow.of(challenger, window.slates, timeline, until=split.until, now=intent.now,
                                   judges=split.slates)
            contest = Contest(config, challenger, window, split, shown, timeline, weekly)
        session.check()
        with timed(result.seconds, "train"):
            try:
                learn(config, challenger, optimizer, split.learnable, split.targets, shown, timeline, seed=intent.seed)
            except NothingToLearn as e:
                return result.ended(WAITING, f"{e} Left for the next run.")
            result.learnt = split.learnt
            if broken := not_finite(challenger, optimizer):
                return result.ended(REJECTED, broken)
            shown.teach_head(challenger)
            shown.teach_ranker(challenger, seed=intent.seed)
            if broken := not_finite(challenger, optimizer):  # the bandits' head and the second stage, now
                return result.ended(REJECTED, broken)
        session.check()
        with timed(result.seconds, "evaluate"):
            decision = contest.decision(read_manifest(parent))
        result.figures = figures_of(decision) | split.figures
        result.ended(PROMOTED if decision.promote else REJECTED, reason_in_words(decision))
        if not decision.promote:
            return result
        challenger.timeline, challenger.prior = timeline.thinned(), timeline.prior
        session.check()
        return release(config, directory, intent, challenger, optimizer, split, shown, result, verifier=session.verifier())


def release(config: Config, directory: RunDirectory, intent: Intent, challenger: Recommender, optimizer: Any, split: Split,
            shown: SlateWindow, result: Retrained, *, verifier: Verifier) -> Retrained:
    """Export a challenger that passed the gate, verify the export in a model server, and publish it."""
    parent = config.models_dir / str(intent.parent)
    with timed(result.seconds, "export"):
        lineage = Lineage(parent=intent.parent, window={"upto": intent.upto, "now": intent.now}, held_back=split.held_back,
                          slates_until=max(shown.learnt_until, slates_until(parent)), scorecard=result.figures,
                          identity=intent.identity, learnt=intent.upto, erasures=intent.erasures,
                          traces=traces_of_parent(config, intent.parent, intent.erasures))
        exported = export(challenger, directory.path / f"export-{intent.identity}", created_at=intent.now, lineage=lineage,
                          parent=parent, optimizer=optimizer, result=asdict(result))
    with timed(result.seconds, "verify"):
        try:
            if Erasures(config.log_uri).newest() != intent.erasures:
                shutil.rmtree(exported)
                return result.ended(WAITING, "somebody was erased while this ran: nothing is published. Left for the next run.")
            result.version = publish(exported, config.models_dir, verifier=verifier, store=store_of(config))
        except NotVerified as e:
            result.ended(REJECTED, str(e))
    shutil.rmtree(exported)
    return result

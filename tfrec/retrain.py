"""The retrain job: what arrived since the live version in, a gated, verified, published version out.

    window -> join -> score the live model on the newest part -> learn the rest from its weights -> gate -> export -> publish

What is learnt, and how, is said by `retrain.objective`: behaviour (`softmax`), what was shown and what came of it (the others),
or both.

A run is a function of (window, parent version, configuration, now, seed), written down as an *intent* before work starts. Killed
at any instant and started again, it does the same work to the same verdict, and what it published is not published twice: a
version carries the identity of its run. Only a kill leaves an intent behind. A run that ends in an error drops it, or the next
run would do the same work to the same error for ever. The newest events of a window judge and are not learnt; the next run
learns them.
"""
import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from pydantic import BaseModel, ConfigDict, ValidationError

from tfrec.config import Config
from tfrec.data.behaviour.damping import damping
from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interaction_files import read_preferences
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.merge import MergedBehaviour, merge_behaviour
from tfrec.data.examples.slates import Slate, matured_slates
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.schema import KINDS
from tfrec.data.feedback_log.window import Window
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.labels.action_names import warn_of_actions
from tfrec.data.labels.join import join
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.pair_rewards import rename_users
from tfrec.data.readers.quarantine import Quarantine
from tfrec.errors import DataError, NothingToLearn, NotVerified, TfrecError, UsageError
from tfrec.evaluation.baselines import POPULARITY_7D, WEEK, popularity_scorer
from tfrec.evaluation.gate import Margins, decide
from tfrec.evaluation.gate_events import GateEvents, gate_events
from tfrec.evaluation.gate_figures import Floor, SearchRanks, measure
from tfrec.evaluation.gate_words import figures_of, reason_in_words
from tfrec.evaluation.policy_value import compare_policies
from tfrec.evaluation.protocol import Ranks, hash_sample, rank_events, with_history
from tfrec.evaluation.search_ranks import OWN_TEXTS, Searches, chosen_searches, own_texts, rank_searches
from tfrec.gateway.pseudonym import load_pseudonyms
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.recommender import Recommender
from tfrec.models.scorer import Scorer, SearchScorer
from tfrec.models.text_encoder import load_encoder
from tfrec.release.export import export
from tfrec.release.file_digests import check_files
from tfrec.release.lineage import Lineage, held_back, slates_until
from tfrec.release.manifest import CHECKPOINT, Manifest, read_manifest
from tfrec.release.publish import publish, version_of, versions
from tfrec.release.retention import retire
from tfrec.release.verify import Verifier
from tfrec.training import checkpoint
from tfrec.training.devices import choose_strategy
from tfrec.training.loop import Trainer, give_slots, optimiser
from tfrec.training.progress import bar
from tfrec.training.replay import with_replay
from tfrec.training.slates.trainer import SlateTrainer
from tfrec.training.slates.window import SlateWindow

log = logging.getLogger(__name__)

PROMOTED, REJECTED, WAITING = "promoted", "rejected", "waiting"
LEAST_SEARCHES, MOST_OWN_TEXTS = 30, 500  # of the log, for it to judge search; of items, where it has fewer
_RESULTS, _QUARANTINES = 500, 20  # files of each kind that stay in the directory of the runs
_NO_ROOM = "No space left on device"  # as TensorFlow words it, under more than one code
EARLIER = 200_000  # events before the window, the newest, of which the gate asks some again: to hash one takes a microsecond


class Intent(BaseModel):
    """What a run is a function of."""

    model_config = ConfigDict(frozen=True)

    window: Window
    parent: int
    config_digest: str
    now: int
    seed: int
    data_digest: str = ""  # of the catalogue and the base behaviour, which a run reads anew when it is taken up

    @property
    def identity(self) -> str:
        """Equal for equal runs."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


@dataclass
class Retrained:
    """How a run ended: `promoted`, `rejected` (the gate refused the challenger), or `waiting` for more to learn from."""

    outcome: str
    reason: str
    version: int  # that is live now
    events: int  # new positives in the window, those held back before included
    learnt: int
    left_out: dict[str, int] = field(default_factory=dict)  # rows of the log that became no example, by reason
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def retrain(config: Config, *, now: int, seed: int = 0) -> Retrained:
    """Run the job once.

    Args:
        config: names the run directory with its feedback log and published versions, the catalogue and the base behaviour.
        now: seconds since 1970; labels mature by it. A run that is taken up again keeps the one it began with.
        seed: of replay and of the order of batches.

    Raises:
        UsageError: nothing is published to continue from.
        TfrecError: another retrain of this run is at work.
        DataError: the disk is full, or refuses otherwise; what was live stays so, and the next run begins anew.
    """
    if not versions(config.models_dir):
        raise UsageError(f"{config.models_dir}: no published version to continue from. First: tfrec train, tfrec export, "
                         "tfrec publish.")
    work = config.run / "retrain"
    try:
        work.mkdir(parents=True, exist_ok=True)
        with (work / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go of when the process ends, however it ends
            except OSError as e:
                raise TfrecError(f"{work}: another retrain of this run is at work. Wait until it has ended.") from e
            return _run(config, work, now=now, seed=seed)
    except (OSError, tf.errors.OpError) as e:
        if isinstance(e, OSError) or _NO_ROOM in e.message:
            raise DataError(_refused(e, config.run)) from e
        raise


def _refused(error: OSError | tf.errors.OpError, run: Path) -> str:
    """What the disk did not do, in words."""
    free = f"{shutil.disk_usage(run).free / 1e9:.2f} GB are free on the disk of {run}"
    where = f"{error.filename or run}: {error.strerror or error}" if isinstance(error, OSError) else f"{run}: {error.message}"
    return f"{where.partition(chr(10))[0]}; {free}. Free disk space or check the rights. What is live stays so; run it again."


def _sweep(work: Path) -> None:
    """Remove what a run that did not end left of its export: on a full disk it is in the way of the next."""
    for left in work.glob("*export-*"):
        shutil.rmtree(left, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    """A file that is there whole or not at all."""
    staging = path.with_suffix(".new")
    with staging.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # or the file may be there after a power cut, and what it says not
    staging.replace(path)


def _prune(work: Path) -> None:
    """Keep the newest results, and the newest files of rows that were set aside: some runs come every five minutes."""
    for pattern, kept in (("[0-9]*-*.json", _RESULTS), ("quarantine-*.jsonl", _QUARANTINES)):
        for old in sorted(work.glob(pattern), key=lambda path: path.stat().st_mtime)[:-kept]:
            old.unlink()


def _run(config: Config, work: Path, *, now: int, seed: int) -> Retrained:
    _sweep(work)
    feedback = FeedbackLog(config.log_dir)
    intent = _intent(config, work, feedback, now=now, seed=seed)
    published = version_of(config.models_dir, intent.identity)
    if published is None:
        try:
            result = _work(config, work, feedback, intent)
        except Exception:  # no kill: what failed would fail again on the same window, so the next run takes a later one
            (work / "intent.json").unlink()
            _sweep(work)
            raise
    else:  # killed between the publication and its end
        meta = checkpoint.read_meta(config.models_dir / str(published) / CHECKPOINT)
        result = Retrained(**meta["result"] | {"version": published})
    log.info("%s: %s", result.outcome, result.reason)
    if result.outcome == PROMOTED:
        retire(config)
    try:
        feedback.maintain()
    except TfrecError as error:  # the run has ended well all the same; the next one tidies up
        log.warning("the log was not tidied up: %s", error)
    # keep the result and drop the intent: the run is over. Of runs that waited, the newest: there may be one in five minutes
    name = "waiting" if result.outcome == WAITING else f"{intent.now}-{intent.identity}"
    _write(work / f"{name}.json", json.dumps(asdict(result), indent=1))
    (work / "intent.json").unlink()
    _prune(work)
    return result


def _work(config: Config, work: Path, feedback: FeedbackLog, intent: Intent) -> Retrained:
    """From the log to the verdict, and on to the publication of what is promoted."""
    clock = _Clock()
    parent, seed = intent.parent, intent.seed
    source = config.models_dir / str(parent) / CHECKPOINT
    quarantine = Quarantine(work / f"quarantine-{intent.identity}.jsonl")
    with clock.of("read"):
        check_files(source.parent, read_manifest(source.parent), below=CHECKPOINT)
        catalogue = checkpoint.grown_catalogue(source, config.data.items, quarantine,
                                               withdraw_at_most=config.data.withdraw_at_most)
        rule = LabelRule.of(config, catalogue)
        behaviour, examples, left_out = _behaviour(config, feedback, intent, catalogue, rule, quarantine)
        slates, unusable = _slates(config, feedback, intent, examples, rule)
    if quarantine.count:
        log.warning("%s", quarantine.summary())
    events = int(behaviour.new.sum())
    log.info("window: %d new events of %d in all, %d matured slates%s", events, len(behaviour.inter), len(slates), unusable)
    by_slates = set(config.retrain.objectives) - {"softmax"}
    if events < config.retrain.min_events:
        reason = f"{events} new events, retrain.min_events is {config.retrain.min_events}: left for the next run"
        return Retrained(WAITING, reason, parent, events, 0, left_out, {}, clock.seconds)
    if by_slates and not slates:
        reason = f"no slate has matured since the last run, and {', '.join(sorted(by_slates))} learns from slates{unusable}"
        return Retrained(WAITING, reason, parent, events, 0, left_out, {}, clock.seconds)

    inter = behaviour.inter
    judges, learnable = _split(config, behaviour, seed=seed)
    if not len(judges):
        reason = f"no event can be asked: nobody in the window has a history{_words(judges.left_out)}. Left for the next run."
        return Retrained(WAITING, reason, parent, events, 0, left_out, {}, clock.seconds)
    judged, start = judges.events, len(learnable)
    damped = damping(inter.slice(0, start), behaviour.new[:start], user_share=config.reward.user_share)
    for words in damped.warnings():
        log.warning("damped: %s", words)
    with choose_strategy(config.training.device).scope():
        optimizer = optimiser(config, learning_rate=config.retrain.learning_rate)
        challenger, _ = checkpoint.load(source, config, catalogue=catalogue, optimizer=optimizer)
        optimizer.learning_rate = config.retrain.learning_rate
        histories = Histories(inter)
        earlier = _earlier(config, inter, behaviour.new[:start], histories)
        rank = partial(rank_events, inter, train_end=start, histories=histories)
        with clock.of("evaluate"):  # both models under the same rolling popularity: the difference is what the weights say
            begin = int(np.searchsorted(inter.time, inter.time[earlier[0]])) if len(earlier) else start
            prior = PopularityPrior.counted(inter, begin, weights=challenger.prior.weights)  # that knows nothing later
            scorer = Scorer(challenger, inter, counted=begin, histories=histories, prior=prior)
            champion_before, champion_ranks = rank(earlier, scorer), rank(judged, scorer)  # before anything trains on the window
            shown = SlateWindow.of(challenger, slates, inter, until=_time(inter, start), now=intent.now)
            champion_says = shown.first_position_probabilities()
            searches = _searches(config, catalogue, slates, since=_time(inter, start))
            search = SearchScorer(challenger, _vectors(challenger, searches), prior=prior)
            champion_searches = rank_searches(searches, search, n_items=len(catalogue))
        learnt = int((learnable & behaviour.new[:start]).sum())
        with clock.of("train"):
            try:
                _learn(config, challenger, optimizer, damped.applied(inter.slice(0, start)), learnable, shown, seed=seed)
            except NothingToLearn as e:
                return Retrained(WAITING, f"{e} Left for the next run.", parent, events, 0, left_out, {}, clock.seconds)
            if broken := _not_finite(challenger, optimizer):
                return Retrained(REJECTED, broken, parent, events, learnt, left_out, {}, clock.seconds)
            shown.teach_head(challenger)
            if broken := _not_finite(challenger, optimizer):  # what the bandits know, now
                return Retrained(REJECTED, broken, parent, events, learnt, left_out, {}, clock.seconds)
        with clock.of("evaluate"):
            scorer.refresh()
            value = compare_policies(
                shown.judged.reward[:, 0], np.exp(shown.judged.log_propensity[:, 0]), champion=champion_says,
                challenger=shown.first_position_probabilities(), users=shown.judged.user)
            before, challenger_ranks = (champion_before, rank(earlier, scorer)), rank(judged, scorer)
            week = rank(judged, popularity_scorer(inter, window=WEEK))
            searched = SearchRanks(champion_searches, rank_searches(searches, search, n_items=len(catalogue)), searches.users,
                                   len(catalogue), searches.source)
            popular = rank(earlier, popularity_scorer(inter, window=WEEK))
            measured = measure(champion_ranks, challenger_ranks, {POPULARITY_7D: week}, earlier=before, value=value,
                               search=searched, floor=_floor(config, read_manifest(source.parent), popular))
            decision = decide(measured, Margins(
                hit_rate=config.retrain.gate_margin, value=config.retrain.value_margin, earlier=config.retrain.forget_margin,
                search=max(config.retrain.search_margin, config.retrain.gate_margin)))
        figures = figures_of(decision)
        if judges.left_out:
            figures["left_out_of_judging"] = judges.left_out
        if of_damping := damped.figures():
            figures["damped"] = of_damping
        result = Retrained(REJECTED, reason_in_words(decision), parent, events, learnt, left_out, figures, clock.seconds)
        if decision.promote:
            result.outcome = PROMOTED
            challenger.prior = PopularityPrior.counted(inter, weights=challenger.prior.weights)
            kept = _names(inter, start + np.flatnonzero(behaviour.new[start:]))
            with Verifier(parent=source.parent) as verifier:  # its server gets ready while the export is written
                with clock.of("export"):
                    lineage = Lineage(
                        parent=intent.parent, window=intent.window.model_dump(mode="json"), held_back=kept,
                        slates_until=max(shown.learnt_until, slates_until(config.models_dir / str(parent))),
                        scorecard=result.figures, identity=intent.identity,
                    )
                    directory = export(challenger, work / f"export-{intent.identity}", created_at=intent.now, lineage=lineage,
                                       optimizer=optimizer, result=asdict(result))
                with clock.of("verify"):
                    try:
                        result.version = publish(directory, config.models_dir, verifier=verifier)
                    except NotVerified as e:
                        result.outcome, result.reason = REJECTED, str(e)
            shutil.rmtree(directory)
    return result


def _intent(config: Config, work: Path, feedback: FeedbackLog, *, now: int, seed: int) -> Intent:
    """The intent of an interrupted run when it was published or still applies, else a new one, on disk before it is returned."""
    path = work / "intent.json"
    parent = versions(config.models_dir)[-1]
    data_digest = _digest(config.data.items, config.data.interactions)
    if old := _left_behind(path):
        applies = (old.parent, old.config_digest, old.data_digest) == (parent, config.digest(), data_digest)
        if applies or version_of(config.models_dir, old.identity) is not None:
            log.info("taking up the interrupted run %s", old.identity)
            return old
    manifest = read_manifest(config.models_dir / str(parent))
    after = None if manifest.window is None else Window.model_validate(manifest.window)
    intent = Intent(window=feedback.window(after, now=now), parent=parent, config_digest=config.digest(), now=now, seed=seed,
                    data_digest=data_digest)
    _write(path, intent.model_dump_json())
    return intent


def _left_behind(path: Path) -> Intent | None:
    """The intent of a run that was killed; None without one, or when it cannot be read."""
    if not path.is_file():
        return None
    try:
        return Intent.model_validate_json(path.read_bytes())
    except ValidationError as e:
        log.warning("%s: expected the intent of an interrupted run, got %d bytes that are none (%s). It is dropped, and a new "
                    "run begins.", path, path.stat().st_size, e.errors()[0]["msg"])
        return None


def _behaviour(config: Config, feedback: FeedbackLog, intent: Intent, catalogue: Catalogue, rule: LabelRule,
               quarantine: Quarantine) -> tuple[MergedBehaviour, pa.Table, dict[str, int]]:
    """All behaviour, the examples of the log up to this window's end, and how many rows of the window became none, by reason."""
    window = intent.window
    fresh = join(feedback, window, rule, quarantine=quarantine)
    # what the parents learnt: everything from the beginning to where this window begins, read at this window's pinned versions
    before = Window(start={kind: {} for kind in KINDS}, end=window.start, matured_from=0, now=window.matured_from,
                    impressions_version=window.impressions_version, outcomes_version=window.outcomes_version)
    past = join(feedback, before, rule, quarantine=quarantine)
    base = None
    if config.data.interactions is not None:
        base = read_preferences(config.data.interactions, rule, quarantine=quarantine.without_rows(), now=intent.now)
        pseudonyms = load_pseudonyms(config.run)  # the log knows nobody by name
        base = rename_users(base, pseudonyms.of)
    left_out = {name: value for name, value in fresh.left_out.items() if value}
    warn_of_actions(fresh.actions, config.reward, where=config.log_dir, whole=False)
    judged = held_back(config.models_dir / str(intent.parent))
    behaviour = merge_behaviour(base, past.table, fresh.table, items=catalogue.ids.tolist(), held_back=judged,
                                cap=rule.reward.cap, now=intent.now)
    return behaviour, pa.concat_tables([past.table, fresh.table]), left_out


def _slates(config: Config, feedback: FeedbackLog, intent: Intent, examples: pa.Table,
            rule: LabelRule) -> tuple[list[Slate], str]:
    """What was shown and has matured since the parent's last slate, and in words what of it cannot be used."""
    after = slates_until(config.models_dir / str(intent.parent))
    found, left_out = matured_slates(feedback, intent.window, examples, rule, after=after, most=config.retrain.max_slates)
    return found, "".join(f"; {count} left out: {why}" for why, count in left_out.items())


def _split(config: Config, behaviour: MergedBehaviour, *, seed: int) -> tuple[GateEvents, np.ndarray]:
    """Which events judge (of the newest part of the new ones), and which before them are learnt (mask, with replay of old)."""
    inter, wish = behaviour.inter, config.retrain
    judges = gate_events(inter, behaviour.new, share=wish.gate_share, limit=wish.gate_sample,
                            user_share=config.reward.user_share)
    start = int(judges.events[0]) if len(judges) else len(inter)
    before, new = inter.slice(0, start), behaviour.new[:start]
    return judges, with_replay(before, new, ratio=wish.replay, length=config.model.history, seed=seed, evenness=wish.evenness,
                               max_new=wish.max_events)


def _searches(config: Config, catalogue: Catalogue, slates: list[Slate], *, since: int) -> Searches:
    """What people searched for in the time that judges, and chose; else the items' own texts."""
    chosen = [(slate.request["query"], position.item, slate.request["user"]) for slate in slates
              if slate.request["query"] and slate.request["time"] >= since for position in slate.positions if position.reward > 0]
    searches = chosen_searches(chosen[-config.retrain.gate_sample :], catalogue)
    return searches if len(searches) >= LEAST_SEARCHES else own_texts(catalogue, limit=MOST_OWN_TEXTS)


def _vectors(recommender: Recommender, searches: Searches) -> np.ndarray:
    """`[n, text width]` of the queries. Those of the log are read by the encoder and kept nowhere: people typed them."""
    if searches.source == OWN_TEXTS:
        return recommender.text[searches.items]
    text = recommender.config.text
    return load_encoder(text).encode(searches.texts, role="query", batch_size=text.batch_size)


def _floor(config: Config, parent: Manifest, popular: Ranks) -> Floor | None:
    """Of what the champion reached at the gate that let it through; of a first one, of what a count reached before the window."""
    share, reached = config.retrain.gate_floor, parent.scorecard.get("hr@10")
    if isinstance(reached, dict) and "challenger" in reached:
        return Floor(float(reached["challenger"]), share, "the champion, when it was made,")
    if len(popular):
        return Floor(float((popular.rank <= 10).mean()), share, "7-day popularity, before this window,")
    return None


def _words(left_out: dict[str, int]) -> str:
    return "".join(f"; {count} of them left out: {why}" for why, count in left_out.items())


def _earlier(config: Config, inter: Interactions, new: np.ndarray, histories: Histories) -> np.ndarray:
    """A sample, the same for the same past, of what both models may have learnt: events from before the window's."""
    old = np.flatnonzero(~new)[-EARLIER:]
    return hash_sample(inter, with_history(inter, old, histories=histories), limit=config.retrain.gate_sample)


def _learn(config: Config, challenger: Recommender, optimizer: Any, inter: Interactions, targets: np.ndarray,
           shown: SlateWindow, *, seed: int) -> None:
    """By the objectives of the configuration."""
    model, objectives = challenger.model, config.retrain.objectives
    model.average.restart()
    behaviour = None
    if "softmax" in objectives:
        behaviour = Trainer(challenger, inter, targets, prior_weights=challenger.prior.weights)
    else:
        give_slots(challenger, inter)  # as a course on behaviour does
    course: Trainer | SlateTrainer
    if behaviour is not None and len(objectives) == 1:
        course = behaviour
    else:
        course = SlateTrainer(challenger, shown.learnt, shown.scorer, behaviour=behaviour)
    model.anchor.hold(config.retrain.l2_sp)  # to the parent
    with bar("retraining", total=course.steps * config.retrain.epochs) as advance:
        course.run(optimizer, epochs=range(seed, seed + config.retrain.epochs), advance=advance)
    model.average.swap()
    model.anchor.hold(0.0)


def _not_finite(challenger: Recommender, optimizer: Any) -> str:
    """Which of what was learnt is no finite number, in words; "" where all is."""
    learnt = [*challenger.model.variables, *challenger.head.variables, *optimizer.variables]
    broken = [v.name for v in learnt if v.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(v)))]
    if not broken:
        return ""
    return (f"the challenger is not finite after training: {len(broken)} of {len(learnt)} variables hold a number that is none, "
            f"such as {broken[0]}. Lower retrain.learning_rate, or look for rewards and values of another size than before")


def _time(inter: Interactions, event: int) -> int:
    """Of an event; the end of time after the last one."""
    return int(inter.time[event]) if event < len(inter) else 1 << 62


def _names(inter: Interactions, events: np.ndarray) -> list[list[str]]:
    """(user, item) of each event."""
    return [[inter.users[inter.user[event]], inter.items[inter.item[event]]] for event in events]


def _digest(*files: Path | None) -> str:
    """Of the contents of files, those that there are, and of directories' files."""
    sha = hashlib.sha256()
    parts = [sorted(file.rglob("*")) if file is not None and file.is_dir() else [file] for file in files]
    for file in (part for of_one in parts for part in of_one):
        if file is not None and file.is_file():
            with file.open("rb") as raw:
                sha.update(hashlib.file_digest(raw, "sha256").digest())
        else:
            sha.update(b"none")
    return sha.hexdigest()


class _Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.monotonic() - began, 3)

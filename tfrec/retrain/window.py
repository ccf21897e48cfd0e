"""What a retrain reads: the examples settled since its parent's as news, and behaviour from before them as history.

The behaviour from before there was a log, if the configuration names a file of it, stands in front of both.
"""
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import Config, RetrainConfig
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.kept_preferences import kept_preferences
from tfrec.data.behaviour.merge import merge_behaviour
from tfrec.data.examples.slates import matured_slates
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.labels.action_names import warn_of_actions
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.people.erasures import load_people
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.settled.examples import Buckets, SettledExamples
from tfrec.data.settled.part import Part, together
from tfrec.data.settled.schema import BUCKETS
from tfrec.data.settled.settle import settle
from tfrec.release.lineage import held_back, slates_until
from tfrec.retrain.intent import Intent
from tfrec.retrain.run_directory import KEPT_BEHAVIOUR

log = logging.getLogger(__name__)

SPARE = 8  # times as many old events are read as are needed, so that a choice among them is one


@dataclass(frozen=True, eq=False)
class WindowContents:
    """What a run learns from and judges by."""

    catalogue: Catalogue  # of now
    inter: Interactions  # up to the window's end, all behaviour of those who act in the window, and of a sample of other users
    new: npt.NDArray[np.bool_]  # [len(inter)], which events no model has learnt
    arrived: npt.NDArray[np.bool_]  # [len(inter)], which the popularity of the parent has not counted
    shown: npt.NDArray[np.bool_]  # [len(inter)], which were acted on in a slate
    pool: npt.NDArray[np.bool_]  # [len(inter)], which are of the sample, and stand for the past
    base: pa.Table | None  # rewards from before there was a log, of all users
    slates: pa.Table  # of `slates.SLATES`, that were shown and have matured since the parent's last one
    left_out: dict[str, int]  # rows of the window that became no example, by reason
    unusable: str  # in words, which matured slates cannot be learnt from, and why

    @property
    def events(self) -> int:
        """How many events are new."""
        return int(self.new.sum())

    def missing(self, settings: RetrainConfig) -> str:
        """What the objectives still need before they can learn; "" when nothing is missing."""
        if self.events < settings.min_events:
            return f"{self.events} new events, retrain.min_events is {settings.min_events}: left for the next run"
        if "softmax" not in settings.objectives and not len(self.slates):
            names = ", ".join(sorted(settings.objectives))
            return f"no slate has matured since the last run, and {names} learns from slates{self.unusable}"
        return ""


def settle_log(config: Config, catalogue: Catalogue, *, now: int, quarantine: Quarantine) -> int:
    """Settle what the log gained, by the label rule of the configuration; the number of the newest part."""
    rule = LabelRule.of(config, catalogue)
    part = settle(FeedbackLog(config.log_uri), SettledExamples(config.examples_uri), rule, now=now, quarantine=quarantine,
                  people=partial(load_people, config, make_key=False))
    return part.number


def read_window(config: Config, catalogue: Catalogue, intent: Intent, parent: Path, *, counted: int,
                quarantine: Quarantine) -> WindowContents:
    """Read the parts of an intent, and behaviour from before them.

    Args:
        config: names the base behaviour, and says what is a label.
        catalogue: of now.
        intent: names the parts.
        parent: directory of the version to continue from, which knows what it has not learnt of its own window.
        counted: the last part that its popularity has counted.
        quarantine: takes the rows that cannot be used.
    """
    settled, rule, items = SettledExamples(config.examples_uri), LabelRule.of(config, catalogue), catalogue.ids.tolist()
    parts = settled.parts(intent.after - 1, intent.upto)
    _warn_of_gone(settled, intent)
    left_out, actions = together([part for part in parts if part.number > intent.after])
    _, left_out["unknown_items"] = settled.counts(after=intent.after, upto=intent.upto, items=items)
    held = held_back(parent)
    base = _base_behaviour(config, rule, quarantine=quarantine, now=intent.now)
    sample = _sample(config, parts, intent, held=len(held), base=0 if base is None else len(base), gone=settled.behaviour_gone())
    # of a version that was rolled back, popularity has counted less than was read
    logged = settled.behaviour(after=min(counted, intent.after), upto=intent.upto, users=[user for user, _ in held],
                               sample=sample)
    fresh = logged.filter(pc.greater(logged["seq"], intent.after))
    warn_of_actions(actions, config.reward, where=config.log_uri, whole=False)
    behaviour = merge_behaviour(_of(base, sample, fresh["user"], held), logged, after=intent.after,
                                counted=counted, items=items, held_back=held, cap=rule.reward.cap, now=intent.now)
    inter = behaviour.inter
    pool = sample.contain(pa.array(inter.users, pa.string()))[inter.user]
    slates, unusable = matured_slates(settled, upto=intent.upto, items=items, after=slates_until(parent),
                                      until=intent.now - rule.attribution_seconds, most=config.retrain.max_slates)
    found = WindowContents(
        catalogue, inter, behaviour.new, behaviour.arrived, behaviour.shown, pool, base, slates,
        {why: count for why, count in left_out.items() if count},
        "".join(f"; {count} left out: {why}" for why, count in unusable.items()))
    log.info("window: %d new events of %d in all, %d matured slates%s", found.events, len(found.inter), len(slates),
             found.unusable)
    return found


def _warn_of_gone(settled: SettledExamples, intent: Intent) -> None:
    """Tell of news that have left; it is no error, as no later run would find them either."""
    gone = settled.table.gone()
    if gone > intent.after:
        log.warning("%s: version %d has learnt the parts up to %d, and rows of the parts up to %d have left (data.keep_days). "
                    "This run learns what is still there. Expected after a first training, or where an old version was put back.",
                    settled.table.uri, intent.parent, intent.after, gone)


def _sample(config: Config, parts: Sequence[Part], intent: Intent, *, held: int, base: int, gone: int) -> Buckets:
    """The users whose past is read besides that of those who act now: as many as replay and the gate need, `SPARE` times over."""
    before = sum(part.behaviour for part in parts if part.number == intent.after)
    new = parts[-1].behaviour - before + held
    wanted = max(config.retrain.replay * min(new, config.retrain.max_events or new), config.retrain.gate_sample)
    return Buckets.share(min(1.0, SPARE * wanted / max(1, before - gone + base)), seed=int(intent.identity, 16))


def _of(base: pa.Table | None, sample: Buckets, acting: pa.ChunkedArray, held: Sequence[Sequence[str]]) -> pa.Table | None:
    """The rows of `base` of users who act now, of those of whom something was held back, and of the sample."""
    if base is None or sample.number >= BUCKETS:
        return base
    wanted = pa.chunked_array([*acting.chunks, pa.array([user for user, _ in held], pa.string())], pa.string())
    return base.filter(pc.or_(pc.is_in(base["user"], value_set=pc.unique(wanted)), pa.array(sample.contain(base["user"]))))


def _base_behaviour(config: Config, rule: LabelRule, *, quarantine: Quarantine, now: int) -> pa.Table | None:
    """What people did before there was a log, under the pseudonyms by which the log knows them; None without a file."""
    if config.data.interactions is None:
        return None
    people = load_people(config)
    return kept_preferences(config.data.interactions, rule, quarantine=quarantine.without_rows(), now=now,
                            pseudonym=people.of, kept=config.run / "retrain" / KEPT_BEHAVIOUR, people=people)

"""Which part of the log a retrain reads: the rows since its parent's window as news, and everything before them as history.

The behaviour from before there was a log, if the configuration names a file of it, stands in front of both.
"""
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tfrec.config import Config, RetrainConfig
from tfrec.data.behaviour.interaction_files import read_preferences
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.merge import merge_behaviour
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
from tfrec.gateway.pseudonym import load_pseudonyms
from tfrec.release.lineage import held_back, slates_until
from tfrec.release.manifest import CHECKPOINT
from tfrec.retrain.intent import Intent
from tfrec.training import checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class WindowContents:
    """What a run learns from and judges by."""

    catalogue: Catalogue  # of now
    inter: Interactions  # all behaviour up to the window's end
    new: npt.NDArray[np.bool_]  # [len(inter)], which events no model has learnt
    slates: list[Slate]  # that were shown and have matured since the parent's last one
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
        by_slates = set(settings.objectives) - {"softmax"}
        if by_slates and not self.slates:
            names = ", ".join(sorted(by_slates))
            return f"no slate has matured since the last run, and {names} learns from slates{self.unusable}"
        return ""


def read_window(config: Config, feedback: FeedbackLog, intent: Intent, parent: Path, *,
                quarantine: Quarantine) -> WindowContents:
    """Read the window of an intent, and the behaviour from before it.

    Args:
        config: names the catalogue and the base behaviour, and says what is a label.
        feedback: the log.
        intent: with the window.
        parent: directory of the version to continue from, which knows what it has not learnt of its own window.
        quarantine: takes the rows that cannot be used.
    """
    catalogue = checkpoint.grown_catalogue(parent / CHECKPOINT, config.data.items, quarantine,
                                           withdraw_at_most=config.data.withdraw_at_most)
    rule = LabelRule.of(config, catalogue)
    fresh = join(feedback, intent.window, rule, quarantine=quarantine)
    past = join(feedback, _before(intent.window), rule, quarantine=quarantine)
    base = _base_behaviour(config, rule, quarantine=quarantine, now=intent.now)
    warn_of_actions(fresh.actions, config.reward, where=config.log_dir, whole=False)
    behaviour = merge_behaviour(base, past.table, fresh.table, items=catalogue.ids.tolist(), held_back=held_back(parent),
                                cap=rule.reward.cap, now=intent.now)
    slates, unusable = matured_slates(feedback, intent.window, pa.concat_tables([past.table, fresh.table]), rule,
                                      after=slates_until(parent), most=config.retrain.max_slates)
    if quarantine.count:
        log.warning("%s", quarantine.summary())
    found = WindowContents(
        catalogue, behaviour.inter, behaviour.new, slates, {why: count for why, count in fresh.left_out.items() if count},
        "".join(f"; {count} left out: {why}" for why, count in unusable.items()))
    log.info("window: %d new events of %d in all, %d matured slates%s", found.events, len(found.inter), len(slates),
             found.unusable)
    return found


def _before(window: Window) -> Window:
    """What the parents have read: from the first row of the log to where `window` begins, at its pinned table versions."""
    return Window(start={kind: {} for kind in KINDS}, end=window.start, matured_from=0, now=window.matured_from,
                  impressions_version=window.impressions_version, outcomes_version=window.outcomes_version)


def _base_behaviour(config: Config, rule: LabelRule, *, quarantine: Quarantine, now: int) -> pa.Table | None:
    """What people did before there was a log, under the pseudonyms by which the log knows them; None without a file."""
    if config.data.interactions is None:
        return None
    base = read_preferences(config.data.interactions, rule, quarantine=quarantine.without_rows(), now=now)
    return rename_users(base, load_pseudonyms(config.run).of)

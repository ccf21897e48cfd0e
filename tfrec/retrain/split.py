"""Which events of a window judge, and which are learnt: the newest of the new ones judge, and the run learns what is older.

Slates that are not learnt yet judge as well, the newest of them, and what people chose in these is not learnt as behaviour. What
judges is not lost. The version lists it as held back, and the next run learns it.
"""
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tfrec.config import Config
from tfrec.data.behaviour.damping import Damping, damping
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.slates import earned
from tfrec.evaluation.gate_events import GateEvents, gate_events, newest_within_share
from tfrec.retrain.window import WindowContents
from tfrec.training.replay import with_replay

log = logging.getLogger(__name__)

END_OF_TIME = 1 << 62  # seconds since 1970


@dataclass(frozen=True, eq=False)
class Split:
    """The events of a window in two parts, at `start`."""

    inter: Interactions  # all behaviour
    new: npt.NDArray[np.bool_]  # [len(inter)], which events no model has learnt
    judges: GateEvents
    slates: npt.NDArray[np.bool_]  # [slates of the window], which of them judge
    chosen: npt.NDArray[np.bool_]  # [len(inter)], which events people chose in those slates
    start: int  # of the first event that judges: those before it may be learnt
    until: int  # seconds since 1970 at which the judging part begins; after all time when there is none
    targets: npt.NDArray[np.bool_]  # [start], which of those are learnt: new ones, and replayed old ones
    damping: Damping  # of their weights

    @property
    def learnable(self) -> Interactions:
        """The events before the judging ones, with the weights that they are learnt with."""
        return self.damping.applied(self.inter.slice(0, self.start))

    @property
    def learnt(self) -> int:
        """How many of the new events are learnt."""
        return int((self.targets & self.new[: self.start]).sum())

    @property
    def since(self) -> int:
        """Seconds since 1970 of the first event that judges."""
        return int(self.inter.time[self.judges.events[0]])

    @property
    def held_back(self) -> list[list[str]]:
        """(user, item) of the new events that this run does not learn, for the next one."""
        left = self.chosen.copy()
        left[self.start :] = True
        inter, events = self.inter, np.flatnonzero(self.new & left)
        return [[inter.users[inter.user[event]], inter.items[inter.item[event]]] for event in events]

    @property
    def no_judges(self) -> str:
        """Why the run waits when no event judges."""
        left_out = "".join(f"; {count} of them left out: {why}" for why, count in self.judges.left_out.items())
        return f"no event can be asked: nobody in the window has a history{left_out}. Left for the next run."

    @property
    def figures(self) -> dict[str, Any]:
        """What was left out of judging and what was damped, where there is any."""
        found = {"left_out_of_judging": self.judges.left_out, "damped": self.damping.figures()}
        return {name: figures for name, figures in found.items() if figures}


def split_window(config: Config, window: WindowContents, *, seed: int) -> Split:
    """Split a window. It has no judges when nobody in it has a history.

    Args:
        config: its `retrain` section, mainly.
        window: what was read.
        seed: of the sample of old events that are replayed.
    """
    inter, settings, user_share = window.inter, config.retrain, config.reward.user_share
    judges = gate_events(inter, window.new, share=settings.gate_share, limit=settings.gate_sample, user_share=user_share)
    start = int(judges.events[0]) if len(judges) else len(inter)
    until = int(inter.time[start]) if start < len(inter) else END_OF_TIME
    slates = _judging_slates(config, window.slates, until=until)
    row, item = earned(window.slates)
    judging = pa.array(slates[row])
    chosen = inter.among(window.slates["user"].take(pa.array(row)).filter(judging), item.filter(judging))
    before, new, learnable = inter.slice(0, start), window.new[:start], ~chosen[:start]
    targets = learnable & with_replay(
        before, new & learnable, ratio=settings.replay, length=config.model.history, seed=seed, evenness=settings.evenness,
        max_new=settings.max_events, pool=window.pool[:start])
    damped = damping(before, new, user_share=user_share)
    if len(judges):
        for words in damped.warnings():
            log.warning("damped: %s", words)
    return Split(inter, window.new, judges, slates, chosen, start, until, targets, damped)


def _judging_slates(config: Config, slates: pa.Table, *, until: int) -> npt.NDArray[np.bool_]:
    """`[n]`: the newest of the slates whose labels could still change at `until`, within each user's share. None is learnt."""
    time = slates["time"].to_numpy()
    unlearnt = np.flatnonzero(time + config.data.attribution_seconds >= until)
    user = np.unique(slates["user"].take(pa.array(unlearnt)).to_pylist(), return_inverse=True)[1]
    judging = np.zeros(len(time), bool)
    judging[unlearnt[newest_within_share(user, share=config.reward.user_share)][-config.retrain.gate_sample :]] = True
    return judging

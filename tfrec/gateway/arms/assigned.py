"""What the arms of a user change in a request.

An experiment that changes a setting leaves requests alone which choose that setting themselves: such a request is answered as it
asks, and the log does not count it for an arm. Whether it does so depends on the application and not on the arm, so the users of
all arms are left alone alike.
"""
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tfrec.config import GatewayConfig
from tfrec.config.experiment import DRAWN, Arm
from tfrec.experiments.assignment import BOTH, arm_of
from tfrec.experiments.state import Started


class Drawing(NamedTuple):
    """How an answer is drawn; None: as configured."""

    policy: str | None = None
    temperature: float | None = None
    epsilon: float | None = None
    alpha: float | None = None


class Assigned(NamedTuple):
    """The arms of a request, by experiment, and what they change; None: as configured."""

    arms: Mapping[str, str] = {}
    label: str | None = None
    explore: bool | None = None
    drawing: Drawing = Drawing()
    diversity: float | None = None
    head_weights: Mapping[str, float] | None = None
    teams: "tuple[Assigned, Assigned] | None" = None  # whose rankings are interleaved
    shadows: "Mapping[str, Assigned]" = {}  # by experiment: asked as well, and not shown

    def joined(self, experiment: str, name: str, arm: Arm) -> "Assigned":
        """With one more arm. No two experiments that run change the same setting."""
        drawing = {setting: value for setting in DRAWN if (value := getattr(arm, setting)) is not None}
        own = {setting: value for setting in ("label", "explore", "diversity", "head_weights")
               if (value := getattr(arm, setting)) is not None}
        return self._replace(arms={**self.arms, experiment: name}, drawing=self.drawing._replace(**drawing), **own)


class Chosen(NamedTuple):
    """What a request chooses itself."""

    label: bool = False
    explores: bool | None = None  # None: as the gateway is configured
    is_reranked: bool = False
    diversity: bool = False
    head_weights: bool = False


UNASSIGNED = Assigned()


class Experiments:
    """The experiments that run. Safe to share between threads: what runs is replaced whole.

    Args:
        config: says what requests get that leave something open.
        running: at the beginning.
    """

    def __init__(self, config: GatewayConfig, running: Iterable[Started] = ()) -> None:
        self._config = config
        self.run(running)

    def run(self, running: Iterable[Started]) -> None:
        """From now on, let these experiments run and no others."""
        # with what each arm is by itself, as nearly always no more than one split runs
        self._running = tuple(
            (one, one.trial.settings, _shares(one),
             {name: UNASSIGNED.joined(one.id, name, arm) for name, arm in one.trial.arms.items()}) for one in running)

    def of(self, user: str, chosen: Chosen) -> Assigned:
        """The arms of a request by a pseudonym. It takes some microseconds for each experiment that runs."""
        found = UNASSIGNED
        several: list[tuple[Started, str]] = []
        for one, settings, shares, alone in self._running:
            name = None if self._chooses(chosen, settings) else arm_of(user, one.id, shares)
            if name is None:
                continue
            if one.trial.kind == "split":
                found = alone[name] if found is UNASSIGNED else found.joined(one.id, name, one.trial.arms[name])
            else:
                several.append((one, name))
        for one, name in several:  # each beside what the splits say
            found = _beside(found, one, name)
        return found

    def _chooses(self, chosen: Chosen, settings: frozenset[str]) -> bool:
        """Whether a request chooses one of the settings itself, or does not depend on any."""
        if ("label" in settings and chosen.label) or ("head_weights" in settings and chosen.head_weights):
            return True
        if "diversity" in settings and (chosen.diversity or chosen.explores):
            return True
        if "explore" in settings:
            return chosen.explores is not None or chosen.is_reranked
        if settings & DRAWN:  # of a request that is not drawn they change nothing
            return chosen.is_reranked or not (self._config.explore if chosen.explores is None else chosen.explores)
        return False


def _shares(one: Started) -> dict[str, float]:
    """What users are assigned to: arms, or both arms at once where they are interleaved."""
    shares = {name: arm.share for name, arm in one.trial.arms.items()}
    return {BOTH: min(shares.values())} if one.trial.kind == "interleave" else shares


def _beside(found: Assigned, one: Started, name: str) -> Assigned:
    own = found._replace(arms={}, teams=None, shadows={})
    arms = {**found.arms, one.id: name}
    if one.trial.kind == "shadow":
        shadow = own.joined(one.id, name, one.trial.arms[name])
        return found._replace(arms=arms, shadows={**found.shadows, one.id: shadow})
    first, second = (own.joined(one.id, each, arm) for each, arm in one.trial.arms.items())
    return found._replace(arms=arms, teams=(first, second))

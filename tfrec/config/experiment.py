"""The settings of experiments."""
import re
from itertools import combinations
from typing import Literal

from pydantic import Field, model_validator

from tfrec.config.section import Section, Weight

CANARY = "canary"  # the experiment that the retrain job starts and ends
DRAWN = frozenset({"policy", "temperature", "epsilon", "alpha"})  # settings of an arm that say how an answer is drawn
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class Arm(Section):
    """What the users of an arm get. What is left out is as configured."""

    share: float = Field(gt=0, le=1)  # Of the users.
    label: str | None = None  # Of the version that answers.
    explore: bool | None = None  # As gateway.explore, as are the next four.
    policy: Literal["plackett_luce", "thompson", "linucb"] | None = None
    temperature: float | None = Field(None, ge=0)
    epsilon: float | None = Field(None, ge=0, le=1)
    alpha: float | None = Field(None, ge=0)
    diversity: float | None = Field(None, ge=0, le=1)  # As in a request, as is the next one.
    head_weights: dict[str, Weight] | None = None

    @property
    def settings(self) -> dict[str, object]:
        """What is not as configured."""
        return self.model_dump(exclude_none=True, exclude={"share"})


class Trial(Section):
    """An experiment that can be started. Of a `split` the first arm is what the others are compared with."""

    kind: Literal["split", "interleave", "shadow"] = "split"
    arms: dict[str, Arm]

    @property
    def settings(self) -> frozenset[str]:
        """The settings that at least one arm changes."""
        return frozenset(name for arm in self.arms.values() for name in arm.settings)

    @model_validator(mode="after")
    def _can_be_told_apart(self) -> "Trial":
        least = {"split": 2, "interleave": 2, "shadow": 1}[self.kind]
        if len(self.arms) < least or (self.kind == "interleave" and len(self.arms) > least):
            expected = f"{'exactly' if self.kind == 'interleave' else 'at least'} {least} arms"
            raise ValueError(f"of the kind {self.kind!r} must have {expected}, got {len(self.arms)}")
        for (other, earlier), (name, arm) in combinations(self.arms.items(), 2):
            if arm.settings == earlier.settings:
                raise ValueError(f"has the arms {other!r} and {name!r}, between which there is no difference: they set "
                                 f"{arm.settings or 'nothing'}")
        for name in self.arms:
            _check_name(name)
        total = sum({arm.share for arm in self.arms.values()} if self.kind == "interleave" else
                    [arm.share for arm in self.arms.values()])
        if total > 1 + 1e-9:
            raise ValueError(f"has arms whose shares add up to {total:g}: there are no more users than all of them, 1")
        if self.kind == "interleave" and len({arm.share for arm in self.arms.values()}) > 1:
            raise ValueError("of the kind 'interleave' must have arms of one share: both rankings are in each answer")
        return self


class ExperimentConfig(Section):
    """Comparisons on live users."""

    level: float = Field(0.05, gt=0, lt=0.5)  # The probability that an experiment is ever wrong, however often one looks.
    effect: float = Field(0.05, gt=0, le=1)  # A difference that matters, as a share of the reward: what is found soonest.
    past_days: int = Field(28, ge=0)  # How far the past of a user goes back, by which the intervals are narrowed.
    canary: float = Field(0.0, ge=0, lt=1)  # Share of the users who get a promoted version first. 0: it goes live at once.
    canary_days: int = Field(28, ge=1)  # After which a canary that is still open is taken back.
    trials: dict[str, Trial] = {}  # By name, what `tfrec experiment start` starts.

    @model_validator(mode="after")
    def _has_plain_names(self) -> "ExperimentConfig":
        for name in self.trials:
            _check_name(name)
            if name == CANARY:
                raise ValueError(f"has a trial of the name {CANARY!r}, which is that of the retrain job's own")
        return self


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"has the name {name!r}, which must be 1 to 40 of a-z, 0-9, '-', '_', the first no sign")

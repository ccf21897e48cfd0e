"""The settings of the reward: what an outcome is worth."""
from itertools import combinations

from pydantic import Field, field_validator, model_validator

from tfrec import config_file
from tfrec.config.section import Positive, Section, Since, Weight, ascending
from tfrec.nearest import nearest


class Rating(Section):
    """A rating is worth (value - neutral) / scale. Below `neutral` its worth is negative."""

    neutral: float = 3.0  # In units of the rating.
    scale: float = Field(2.0, ge=1e-6)  # In units of the rating.


class WeightChange(Since):
    """Weights of some actions from a moment on. Those of other actions stay."""

    weights: dict[str, Weight]


class RewardConfig(Section):
    """The reward of an outcome: weight of its action * factor of its value * discount. See data/labels/rewards.py."""

    preset: str | None = None  # Replaces the defaults below by those of data/labels/presets: ecommerce, news or video.
    weights: dict[str, Weight] = {"click": 1.0, "view": 1.0, "rating": 1.0, "purchase": 1.0}  # By action. Below 0: a dismissal.
    valued: tuple[str, ...] = ()  # Actions whose logged value multiplies their weight: a price, seconds watched, stars.
    completed: dict[str, Positive] = {}  # Actions worth value / this number, at most 1: the seconds of a whole reading.
    lengths: dict[str, str] = {}  # As `completed`, by a numeric column of the catalogue. Items without it take `completed`.
    rated: dict[str, Rating] = {}  # Actions whose value is a rating: {neutral = 3, scale = 2}.
    half_life_hours: dict[str, Positive] = {}  # Hours after which an action is worth half, counted from when its item was shown.
    changes: tuple[WeightChange, ...] = ()  # Later weights, in order of time: [{since = 2026-11-01, weights = {purchase = 8}}].
    conversions: tuple[str, ...] = ("purchase",)  # Actions that make an example `converted`.
    cap: float = Field(10.0, gt=0)  # The reward of one example is at most this number and at least minus this number.
    user_share: float = Field(0.05, gt=0, le=1)  # The largest share of new events' weight that one user has; at least 2 / users.

    @field_validator("preset")
    @classmethod
    def _is_known(cls, preset: str | None) -> str | None:
        if preset is not None and preset not in (known := config_file.presets()):
            raise ValueError(f"is none of the presets: {', '.join(known)}{nearest(preset, known)}")
        return preset

    _in_order = field_validator("changes")(ascending)

    @model_validator(mode="after")
    def _read_one_way(self) -> "RewardConfig":
        readings = {"valued": {*self.valued}, "completed or lengths": {*self.completed, *self.lengths}, "rated": {*self.rated}}
        for (one, ours), (other, theirs) in combinations(readings.items(), 2):
            if both := sorted(ours & theirs):
                raise ValueError(f"{both[0]!r} is in {one} and in {other}: a value is read in one way")
        return self

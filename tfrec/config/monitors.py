"""The settings of `tfrec monitor`."""
from pydantic import Field, model_validator

from tfrec.config.section import Section


class MonitorsConfig(Section):
    """What is watched of the live system: the newest window of the log is compared with the windows before it."""

    in_job: bool = True  # Look after each retrain, at most each tenth of a window.
    window_hours: float = Field(24.0, gt=0)  # The length of a window. Days hold the difference of day and night.
    windows: int = Field(7, ge=3)  # Windows before the newest one, with which it is compared. Seven days hold a weekend.
    horizon_minutes: float = Field(60.0, gt=0)  # Outcomes count so long after their impression, in each window alike.
    min_requests: int = Field(500, ge=1)  # A window with fewer says nothing.
    level: float = Field(0.01, gt=0, lt=0.5)  # The probability that chance alone raises any alarm in a look.
    margin: float = Field(0.2, gt=0)  # A change of a mean, as a share of what is usual, that an alarm is raised for.
    psi: float = Field(0.2, gt=0)  # A population stability index that an alarm is raised for.
    source: str = "app_version"  # The name in the context of a request that says which program sent it.
    slices: tuple[str, ...] = ()  # Names in the context of a request, by whose values the reward is watched.
    freshness_hours: float = Field(4.0, gt=0)  # An alarm when the newest version has learnt nothing of the last so many hours.
    replay_hours: float = Field(6.0, ge=0)  # Logged requests are asked again so often, as that loads a model. 0: never.

    @model_validator(mode="after")
    def _tells_sources_from_slices(self) -> "MonitorsConfig":
        if len(set(self.slices)) < len(self.slices):
            raise ValueError(f"names {max(self.slices, key=self.slices.count)!r} in slices more than once")
        if self.source in self.slices:
            raise ValueError(f"has {self.source!r} as source and in slices: a source is watched already")
        if self.horizon_minutes * 60 > self.window_hours * 3600:
            raise ValueError(f"has a horizon of {self.horizon_minutes:g} minutes, which is longer than a window of "
                             f"{self.window_hours:g} hours: shorten it")
        return self

"""The settings of what the model reads of person and moment, beside history and query."""
import re
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from tfrec.config.section import Section

Kind = Literal["category", "number"]
Moment = Literal["hour", "weekday"]

NUMBER = r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*"
UNKNOWN_TIME = -1  # of a request
MAX_NUMBER = 1e30  # a float32 has no larger ones


class FeaturesConfig(Section):
    """Features of the person and the moment. By default there are none, and a version has no inputs for them."""

    time: tuple[Moment, ...] = ()  # Made from the time of a request: hour, weekday.
    context: dict[str, Kind] = {}  # Of the context of a request: device, place, and names in its profile.
    user: dict[str, Kind] = {}  # Columns of `features.users`. The profile of a request may have them too, and then counts.
    users: Path | None = None  # A .jsonl, .csv or .parquet file with the columns `user` and those of `features.user`.
    defaults: dict[str, str] = {}  # The value of a feature that is not known, by its name. Without one, it says nothing.
    utc_offset_hours: float = Field(0.0, ge=-14, le=14)  # Hours that are added to UTC for hour and weekday.
    buckets: int = Field(1024, ge=2, le=1 << 20)  # Values of a category that are told apart, by hash.
    dropout: float = Field(0.3, ge=0, lt=1)  # The share of features, and of all of a window, that are hidden in training.

    @property
    def named(self) -> dict[str, Kind]:
        """The features that have a value in the context of a request, in their order."""
        return self.context | self.user

    @property
    def names(self) -> tuple[str, ...]:
        """All features, in the order of the model's columns."""
        return (*self.time, *self.named)

    @model_validator(mode="after")
    def _fit_together(self) -> "FeaturesConfig":
        if len(set(self.time)) < len(self.time):
            raise ValueError(f"names {self.time[0]!r} in time more than once")
        if both := sorted({*self.context} & {*self.user}):
            raise ValueError(f"has {both[0]!r} in context and in user: a feature has one source")
        if reserved := sorted({*self.named} & {"hour", "weekday", "user", ""}):
            raise ValueError(f"calls a feature {reserved[0]!r}, which is a name of tfrec: choose another one")
        if self.users is not None and not self.user:
            raise ValueError("has users and no user: name the columns that are read, such as user = {age = \"number\"}")
        for name, value in self.defaults.items():
            if name not in self.named:
                raise ValueError(f"has a default for {name!r}, which is neither in context nor in user")
            if self.named[name] == "number" and not is_number(value):
                raise ValueError(f"has the default {value!r} for {name!r}, which is a number")
        return self


def is_number(text: str) -> bool:
    """Whether the served graph reads a text as a number."""
    return re.fullmatch(NUMBER, text, re.ASCII) is not None and abs(float(text)) <= MAX_NUMBER

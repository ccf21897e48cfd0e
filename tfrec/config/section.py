"""What all sections of the configuration are made of: types of settings, and settings that hold from a moment on."""
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

Weight = Annotated[float, Field(ge=-1e9, le=1e9)]  # Times values of 1e15, summed over outcomes, it stays finite.
Positive = Annotated[float, Field(gt=0)]
URL_SCHEMES = ("s3", "gs", "az")


class Section(BaseModel):
    """A table of the configuration: immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def directory_or_url(place: str | None) -> str | None:
    """`place` itself; a validator for a directory or the URL of an object store."""
    scheme, found, _ = (place or "").partition("://")
    if found and scheme not in URL_SCHEMES:
        raise ValueError(f"must be a directory or a URL that begins with {', '.join(f'{one}://' for one in URL_SCHEMES)}")
    return place


def url(place: str | None) -> str | None:
    """`place` itself; a validator for the URL of an object store."""
    if place is not None and "://" not in place:
        raise ValueError(f"must be a URL that begins with {', '.join(f'{one}://' for one in URL_SCHEMES)}")
    return directory_or_url(place)


class Since(Section):
    """Settings that hold from a moment on."""

    since: datetime  # A TOML date, or a date and time. UTC, unless it names another offset.

    @field_validator("since", mode="before")
    @classmethod
    def _a_day_begins_at_midnight(cls, since: object) -> object:
        try:
            return datetime.fromisoformat(since) if isinstance(since, str) else since
        except ValueError:
            return since

    @field_validator("since")
    @classmethod
    def _in_utc(cls, since: datetime) -> datetime:
        return since.replace(tzinfo=UTC) if since.tzinfo is None else since.astimezone(UTC)


S = TypeVar("S", bound=Since)


def ascending(steps: tuple[S, ...]) -> tuple[S, ...]:
    """`steps` themselves; a validator for settings that are in order of time."""
    for before, after in pairwise(steps):
        if after.since <= before.since:
            raise ValueError(f"must be in order of time, but {after.since} comes after {before.since}")
    return steps

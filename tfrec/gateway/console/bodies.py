"""What the console sends, and what it is answered."""
from typing import Any

from pydantic import BaseModel, Field

from tfrec.gateway.http.schemas import Id, StrictBody, with_examples

MAX_ITEMS = 1_000
MAX_LISTED = 100


class ItemsRequest(StrictBody):
    """A request for what the catalogue says of some items."""

    model_config = with_examples({"ids": ["2840"]})

    ids: list[Id] = Field(max_length=MAX_ITEMS, description="Ids of items.")


class RunsRequest(StrictBody):
    """A request for the newest runs of the retrain job, and for the published versions."""

    model_config = with_examples({"limit": 5})

    limit: int = Field(30, ge=1, le=MAX_LISTED, description="How many of each.")


class ExperimentsRequest(StrictBody):
    """A request for the experiments that run, and for the newest that have ended."""

    model_config = with_examples({})


class MonitorsRequest(StrictBody):
    """A request for what the monitors found last."""

    model_config = with_examples({})


class KnownItem(BaseModel):
    """What the catalogue says of an item."""

    id: str
    text: dict[str, str] = Field(description="By the names of its fields; a text without fields is under `text`.")
    tags: list[str]
    numeric: dict[str, float]
    available: bool


class ItemsAnswer(BaseModel):
    """The items that the newest version here knows, in the order of the request."""

    items: list[KnownItem]


class RetrainRun(BaseModel):
    """How a run of the retrain job ended."""

    ended_at: str = Field(description="In UTC.")
    outcome: str = Field(description="`promoted`, `rejected` or `waiting`.")
    reason: str
    version: int | None = Field(description="The live version, after the run.")
    learnt: int | None = Field(description="Examples that were learnt.")
    figures: dict[str, Any] = Field(description="Of the gate.")
    seconds: dict[str, float] = Field(description="By step.")


class VersionLine(BaseModel):
    """A version that is published in the run directory."""

    version: int
    created_at: str | None = Field(None, description="In UTC.")
    parent: int | None = Field(None, description="The version that it went on from.")
    copy_of: int | None = Field(None, description="After a roll-back: the version that it is a copy of.")
    rolled_back_from: int | None = Field(None, description="After a roll-back: the version that was left.")
    error: str | None = Field(None, description="Why it cannot be read.")


class RunsAnswer(BaseModel):
    """The newest first."""

    retrains: list[RetrainRun]
    versions: list[VersionLine]


class ExperimentsAnswer(BaseModel):
    """Those that run, then those that have ended, the newest first."""

    looked_at: str | None = Field(description="When the figures were made, in UTC; null: they were not.")
    experiments: list[dict[str, Any]] = Field(description="As `tfrec experiment status --json` has them, each with its arms.")


class MonitorsAnswer(BaseModel):
    """Alarms first, then what is as usual, then what is not known."""

    looked_at: str | None = Field(description="In UTC; null: they have not looked yet.")
    monitors: list[dict[str, Any]] = Field(description="As `tfrec monitor --json` has them, each with its name, `monitor`.")
    parts: dict[str, list[dict[str, Any]]] = Field(description="The reward of the newest window by position, version and more.")

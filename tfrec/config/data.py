"""The settings of the data that a run reads."""
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tfrec.config.section import Section, directory_or_url

Queries = Literal["keep", "hash", "drop"]


class DataConfig(Section):
    """Which data a run reads."""

    items: Path | None = None  # The catalogue: a .jsonl, .csv or .parquet file.
    interactions: Path | None = None  # What people did before there was a feedback log: a .jsonl, .csv or .parquet file.
    log: str | None = None  # The feedback log: a directory or URL, such as s3://bucket/log. None: `log` in the run directory.
    examples: str | None = None  # The examples that the join made of it, likewise. None: `examples` in the run directory.
    withdraw_at_most: float = Field(0.5, ge=0, le=1)  # A retrain fails if `items` lacks a larger share of the items shown.
    attribution_hours: float = Field(24.0, gt=0)  # An outcome counts for an impression that is at most this many hours old.

    queries: Queries = "keep"  # What the log keeps of what people search for: its text, a keyed hash, or nothing.
    keep_days: float | None = Field(None, ge=8)  # Days after which rows leave log and examples, once learnt. None: they stay.

    _places = field_validator("log", "examples")(directory_or_url)

    @property
    def attribution_seconds(self) -> int:
        """`attribution_hours` in whole seconds, the unit of the log. It is rounded here only."""
        return round(self.attribution_hours * 3600)

"""The settings of the review of items."""
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from tfrec.config.section import Section

_Label = Annotated[str, Field(pattern=r"^[\w.-]{1,40}$")]


class ReviewConfig(Section):
    """Which items wait for a person, and what becomes of them meanwhile."""

    terms: Path | None = None  # Words and phrases that flag an item, by label: TOML. None: nothing is flagged.
    labels: tuple[_Label, ...] = Field(("harmful", "adult", "spam"), min_length=1)  # What an item may be flagged for.
    hold: bool = True  # What waits is not shown. False: it is, until it is rejected.
    classifier: bool = True  # Flag by the text encoder's vectors as well, once enough is decided.
    least: int = Field(20, ge=2)  # Decisions of each kind from which on the classifier flags for a label.
    threshold: float = Field(0.7, gt=0, lt=1)  # The least score that flags, as a probability.

    @field_validator("labels")
    @classmethod
    def _are_different(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) < len(labels):
            raise ValueError("must name each label once")
        return labels

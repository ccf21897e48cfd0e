"""What an ingest did, counted for each part of its source."""
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class PartReport:
    """The counts of one part: a partition of a topic, or the files."""

    part: str
    read: int = 0  # messages, lines or rows
    impressions: int = 0  # records that are in the log now and were not before
    outcomes: int = 0
    duplicates: int = 0  # records that were in the log already
    quarantined: int = 0  # records that could not be used
    lag: int = 0  # what is there and was not read: messages of a topic, bytes of files
    left_out: Counter[str] = field(default_factory=Counter)  # what is no record, by reason


@dataclass
class IngestReport:
    """The counts of all parts, in the order in which they gave something."""

    parts: list[PartReport] = field(default_factory=list)
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)  # of files that could not be read

"""What one user did: the events that the model reads, and the items that are not to be shown again."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

UNKNOWN_TIME = -1  # of an event that a caller sends without a time


@dataclass(frozen=True, order=True, slots=True)
class PastEvent:
    """A user acted on an item. Sorts by time."""

    time: int  # seconds since 1970, or UNKNOWN_TIME
    item: str
    action: str


class UserHistory(NamedTuple):
    """What is known about one user."""

    seen: Sequence[str]  # items in the order of their newest act, whether or not it was worth something
    events: Sequence[PastEvent]  # oldest first; those of one second are in the order of training

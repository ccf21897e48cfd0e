"""How a retrain ended: what the command prints, what the run directory keeps, and what a published version carries."""
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

PROMOTED, REJECTED, WAITING = "promoted", "rejected", "waiting"


@dataclass
class Retrained:
    """How a run ended: `promoted`, `rejected` (the challenger must not go live), or `waiting` for more to learn from."""

    outcome: str
    reason: str
    version: int  # the live one, after the run
    events: int  # new positives in the window, with those that an earlier run held back to judge
    learnt: int  # of them
    left_out: dict[str, int] = field(default_factory=dict)  # rows of the log that became no example, by reason
    figures: dict[str, Any] = field(default_factory=dict)  # of the gate
    seconds: dict[str, float] = field(default_factory=dict)  # by step

    def ended(self, outcome: str, reason: str) -> "Retrained":
        """Set the outcome and its reason."""
        self.outcome, self.reason = outcome, reason
        return self


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Add the time that the block takes to the seconds of a step."""
    began = time.monotonic()
    yield
    seconds[step] = round(seconds.get(step, 0.0) + time.monotonic() - began, 3)

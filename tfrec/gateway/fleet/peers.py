"""What a gateway asks of whatever connects it with the other gateways of its run."""
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from tfrec.data.feedback_log.writer import ErasedAmong
from tfrec.data.records import Outcome


class Recorded(NamedTuple):
    """An outcome that a gateway recorded."""

    outcome: Outcome
    at: int  # when it arrived there, in seconds since 1970


Take = Callable[[Sequence[Recorded]], None]


class Peers(Protocol):
    """The other gateways of the run. No method raises because they, or what connects them, are gone. Threads may share it.

    An outcome may be told more than once, and in another order than it was recorded in; `take` leaves out what it knows.
    """

    def follow(self, take: Take) -> None:
        """From now on, let `take` have what others record."""

    def tell(self, recorded: Sequence[Recorded]) -> None:
        """Tell the others what is recorded here. When it returns, `catch_up` of any of them finds it."""

    def catch_up(self) -> None:
        """Return when `take` has had everything that others told before this call."""

    def erase(self, erased_among: ErasedAmong) -> None:
        """Forget outcomes of users who were erased, here and in what connects the gateways."""

    def problem(self) -> str:
        """Why the others cannot be heard now; empty if they can."""

    def close(self) -> None:
        """Stop following."""


class NoPeers:
    """A gateway on its own."""

    def follow(self, take: Take) -> None:
        """Nobody is heard."""

    def tell(self, recorded: Sequence[Recorded]) -> None:
        """Nobody is told."""

    def catch_up(self) -> None:
        """There is nothing to wait for."""

    def erase(self, erased_among: ErasedAmong) -> None:
        """Nothing is kept."""

    def problem(self) -> str:
        """There is none."""
        return ""

    def close(self) -> None:
        """There is nothing to stop."""

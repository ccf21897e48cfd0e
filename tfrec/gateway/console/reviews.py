"""The verbs of a review: the queue, and a decision. They read and write the record of the run."""
import time
from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import BaseModel, Field

from tfrec.config import Config
from tfrec.gateway.http.refusal import RequestRefused
from tfrec.gateway.http.schemas import Id, StrictBody, with_examples
from tfrec.review.decide import ReviewRefused, decide
from tfrec.review.record import MAX_NOTE, FlagReason, ReviewEntry
from tfrec.review.standing import ReviewState
from tfrec.terminal import utc

_MAX_LISTED = 500
_MAX_NAME = 100


class ReviewsRequest(StrictBody):
    """A request for the items that wait for a review, and for the newest decisions."""

    model_config = with_examples({"limit": 20})

    limit: int = Field(50, ge=1, le=_MAX_LISTED, description="How many of each.")


class ReviewRequest(StrictBody):
    """A decision on an item that was flagged."""

    model_config = with_examples({"item": "2840", "decision": "approve", "note": "a museum's catalogue", "overrule": True})

    item: Id = Field(description="Its id.")
    decision: Literal["approve", "reject"]
    label: str = Field("", max_length=_MAX_NAME, description="What it is rejected for; by default what it was flagged for first.")
    note: str = Field("", max_length=MAX_NOTE, description="Why, in your words.")
    who: str = Field("", max_length=_MAX_NAME, description="Your name; by default the name of the key.")
    digest: str = Field("", max_length=_MAX_NAME, description="Of the text that you read, as the queue has it. If the text has "
                                                              "changed since, the decision is refused.")
    overrule: bool = Field(False, description="Change a decision that was taken before.")


class WaitingItem(BaseModel):
    """An item that waits for a review."""

    item: str
    digest: str = Field(description="Of its text.")
    text: str = Field(description="The beginning of its text.")
    reasons: list[FlagReason] = Field(description="Each with its label: a term of the list, or a score of the classifier.")
    since: str = Field(description="In UTC.")


class Reviewed(BaseModel):
    """A decision as it is kept."""

    item: str
    decision: str
    label: str
    who: str
    note: str
    at: str = Field(description="In UTC.")


class ReviewsAnswer(BaseModel):
    """The queue, the oldest first, and the newest decisions."""

    waiting: int = Field(description="Items that wait, listed or not.")
    hidden: int = Field(description="Items that are not shown.")
    labels: list[str]
    queue: list[WaitingItem]
    decided: list[Reviewed]


class Reviews:
    """The review of a run. Safe to share between threads.

    Args:
        config: names the run and the labels.
        clock: seconds since 1970.
    """

    def __init__(self, config: Config, *, clock: Callable[[], float] = time.time) -> None:
        self._config, self._clock = config.review, clock
        self._state = ReviewState(config.run)

    def reviews(self, bodies: Sequence[ReviewsRequest]) -> list[ReviewsAnswer]:
        """The flagged items that wait for a person, with their texts and what flags them, and the newest decisions."""
        self._state.record.read()
        waiting, hidden = self._state.waiting(), len(self._state.hidden(hold=self._config.hold))
        decided = sorted((entry for entry, _ in self._state.decisions()), key=lambda one: (-one.time, one.item))
        return [ReviewsAnswer(
            waiting=len(waiting), hidden=hidden, labels=list(self._config.labels),
            queue=[WaitingItem(item=one.flag.item, digest=one.digest, text=one.flag.text, reasons=list(one.flag.reasons),
                               since=utc(one.since)) for one in waiting[: body.limit]],
            decided=[_reviewed(one) for one in decided[: body.limit]]) for body in bodies]

    def review(self, bodies: Sequence[ReviewRequest], key: str) -> list[Reviewed]:
        """Approve or reject a flagged item. It holds in all gateways of the run within seconds, and for this text of the item.

        Of two people who decide at once, the second is answered 409. An item that is gone from the catalogue is answered 410, and
        one that was never flagged 404.
        """
        return [_reviewed(self._decided(body, key)) for body in bodies]

    def _decided(self, body: ReviewRequest, key: str) -> ReviewEntry:
        try:
            return decide(self._state, body.item, body.decision, now=int(self._clock()), labels=self._config.labels,
                          who=body.who or key, key=key, note=body.note, label=body.label, digest=body.digest,
                          overrule=body.overrule)
        except ReviewRefused as error:  # the item is what somebody typed
            raise RequestRefused(error.status, f"The item: {error.why}") from error


def _reviewed(one: ReviewEntry) -> Reviewed:
    return Reviewed(item=one.item, decision=one.do, label=one.label, who=one.who, note=one.note, at=utc(one.time))

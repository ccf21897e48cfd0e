"""Which items are left out of an answer: those that the request excludes, and those that its user has seen.

A seen item is one that the user acted on lately, whatever the act was worth: a dismissed item is seen, although it is not in
the history that the model reads.
"""
from collections.abc import Sequence

from tfrec.gateway.history import UserHistories
from tfrec.gateway.http.schemas import Asked, HistoryEvent
from tfrec.gateway.past_events import UNKNOWN_TIME, PastEvent, UserHistory


def known_history(histories: UserHistories, user: str, sent: Sequence[HistoryEvent] | None, *, before: int | None) -> UserHistory:
    """What the caller sends about a user, or else what the gateway remembers."""
    if sent is None:
        return histories.of(user, before=before)
    events = [PastEvent(UNKNOWN_TIME if one.time is None else one.time, one.item, one.action) for one in sent]
    return UserHistory([event.item for event in events], events)


def excluded_items(body: Asked, known: UserHistory) -> list[str]:
    """The items that must not be answered."""
    return [*body.exclude, *(known.seen if body.exclude_history else ())]

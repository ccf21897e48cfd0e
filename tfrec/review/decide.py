"""A person's decision on an item that waits."""
from collections.abc import Sequence
from typing import Literal

from tfrec.errors import UsageError
from tfrec.review.record import MAX_NOTE, ReviewEntry
from tfrec.review.standing import ReviewState, Standing
from tfrec.terminal import utc

Verdict = Literal["approve", "reject"]
_DONE = {"approve": "approved", "reject": "rejected"}


class ReviewRefused(UsageError):
    """A decision that cannot be taken. The message begins with the item, and then says why.

    Attributes:
        status: the one of HTTP that fits: 404 it was never flagged, 409 something has changed, 410 it is gone, 422 wrong words.
    """

    def __init__(self, status: int, item: str, why: str) -> None:
        super().__init__(f"item {item!r}: {why}")
        self.status, self.why = status, why


def decide(state: ReviewState, item: str, verdict: Verdict, *, now: int, labels: Sequence[str], who: str, key: str = "",
           note: str = "", label: str = "", digest: str = "", overrule: bool = False) -> ReviewEntry:
    """Record a decision. Of two people who decide at once, the second one is told of the first.

    Args:
        state: of the run.
        item: its id.
        verdict: what is decided.
        now: seconds since 1970.
        labels: that there are.
        who: the name of the person.
        key: the name of the gateway's key.
        note: in the person's words.
        label: what it is rejected for; "": what it was flagged for first.
        digest: of the text that the person read; "": that of the newest flag.
        overrule: change a decision that was taken before.

    Raises:
        ReviewRefused: nothing waits, or something has changed.
        DataError: a line of the record is damaged.
    """
    if len(note) > MAX_NOTE:
        raise ReviewRefused(422, item, f"expected a note of at most {MAX_NOTE} characters, got {len(note)}.")
    if label and (label not in labels or verdict == "approve"):
        raise ReviewRefused(422, item, f"expected a label of review.labels ({', '.join(labels)}), and of a rejection only.")
    with state.record.adding() as add:
        standing = state.items.get(item)
        if standing is None:
            raise ReviewRefused(404, item, "nothing has flagged it, so nothing is there to decide. `tfrec review scan` looks at "
                                           "items; an exclude rule takes one away at once.")
        _check(standing, digest, overrule=overrule)
        entry = ReviewEntry(do=verdict, item=item, digest=standing.digest, time=now, who=who, key=key, note=note,
                            label=(label or standing.flag.reasons[0].label) if verdict == "reject" else "")
        add([entry])
    return entry


def _check(standing: Standing, digest: str, *, overrule: bool) -> None:
    item, since = standing.flag.item, utc(standing.since)
    if standing.status == "gone":
        raise ReviewRefused(410, item, f"it is gone from the catalogue since {since}, so nothing is there to decide. If it comes "
                                       "back, it is judged anew.")
    if digest not in ("", standing.digest):
        raise ReviewRefused(409, item, "its text has changed since it was read. Read it again, and decide then.")
    if standing.status == "clear":
        why = "its text has changed, and" if standing.why == "text" else "by the list and the classifier of today"
        raise ReviewRefused(409, item, f"it waits no more since {since}: {why} nothing flags it.")
    decided = standing.decided.get(standing.digest)
    if standing.status != "waiting" and decided is not None and not overrule:
        raise ReviewRefused(409, item, f"it was {_DONE[decided[0].do]} by {decided[0].who or 'somebody'} at {since}. To change "
                                       "that, overrule it.")

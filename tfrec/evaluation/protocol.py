"""The evaluation protocol, prequential next-item prediction: the rank of the item of each evaluated event.

These rules hold for every comparison in tfrec:

- Events are in the order of `Interactions`; the first floor(share * n) are the training set. A later event is *evaluated* when
  its user has an event strictly before its second. Above `limit` of them, those with the smallest sha1 are kept.
- The history of an event is what its user did strictly before its second: one second is one basket. Candidates are all
  items minus that history.
- rank = 1 + candidates with a higher score + half of the other candidates with an equal score.
- *cold*: the item has no event in the training set. *untouched*: it has no event at all before that second.

A scorer is any callable from event indices `[batch]` to scores `[batch, n_items]`, a column per item code. It must read
nothing at or after an event's second. Ascending order is quickest, because rolling counts then only roll forward.
"""
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions, event_sha1s, first_64_bits
from tfrec.errors import DataError, ModelError

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Scores = NDArray[np.floating]
Scorer = Callable[[Ints], Scores]

SHARE = 0.8  # of the events that train
LIMIT = 6000  # evaluated events, at most
CHUNK_BYTES = 64 << 20  # of scores held at once: 900 events of a catalogue of 9,000 items


@dataclass(frozen=True)
class EvaluatedEvents:
    """The evaluated events, as indices in time order, and the number of events in the training set."""

    events: Ints
    train_end: int

    def __len__(self) -> int:
        return len(self.events)


@dataclass(frozen=True)
class Ranks:
    """One model's rank of each evaluated event, and what a metric needs to know of the event; all arrays are `[n]`."""

    events: Ints
    users: NDArray[np.int32]
    rank: NDArray[np.float64]
    candidates: Ints  # how many items were ranked
    cold: Bools
    untouched: Bools
    n_items: int
    slates: Ints | None = None  # [n, top] item codes, best first, -1 when there are fewer candidates

    def __len__(self) -> int:
        return len(self.events)


def with_history(inter: Interactions, events: ArrayLike, *, histories: Histories | None = None) -> Ints:
    """Those of `events` whose user has an event strictly before their second."""
    events = np.asarray(events, np.int64)
    return events[(histories or Histories(inter)).count(events) > 0]


def hash_sample(inter: Interactions, events: ArrayLike, *, limit: int) -> Ints:
    """The `limit` events with the smallest sha1 of "user|item|time", in time order: the same on every machine."""
    events = np.asarray(events, np.int64)
    if len(events) <= limit:
        return np.sort(events)
    if limit <= 0:
        return events[:0]
    sha1s = event_sha1s(inter.user[events], inter.item[events], inter.time[events], inter.users, inter.items)
    key = first_64_bits(sha1s)
    near = np.flatnonzero(key <= np.partition(key, limit - 1)[limit - 1])  # few more than `limit`: only these are sorted
    chosen = sorted((sha1s[row].tobytes(), events[row]) for row in near)[:limit]
    return np.sort(np.array([event for _, event in chosen], np.int64))


def evaluated_events(inter: Interactions, *, share: float = SHARE, limit: int = LIMIT) -> EvaluatedEvents:
    """The evaluated events after the training set, which is `share` of all; at most `limit`."""
    train_end = inter.split(share)
    return EvaluatedEvents(hash_sample(inter, with_history(inter, np.arange(train_end, len(inter))), limit=limit), train_end)


def no_evaluated_event(inter: Interactions, evaluated: EvaluatedEvents, *, share: float = SHARE) -> DataError | None:
    """The error that says why no event is evaluated; None when one is."""
    if len(evaluated):
        return None
    n, test = len(inter), len(inter) - evaluated.train_end
    known = set(inter.user[: evaluated.train_end].tolist())
    new = sum(user not in known for user in inter.user[evaluated.train_end :].tolist())
    expected = "an event is evaluated when its user has another one before it, in an earlier second"
    if not test:
        why = f"there are only {n} events, and the last {1 - share:.0%} of them is none"
    elif new == test:
        why = f"all {test} of the last {1 - share:.0%} are the first of their users, who are not among the others"
    else:
        why = f"none of the last {1 - share:.0%}, {test} events, has one of its user before it; {new} are of users new by then"
    advice = "Take a longer log, or check that `user` says the same person by the same id, and that `time` is right."
    return DataError(f"no event can be evaluated, of {n} in all: {why}. Expected: {expected}. {advice}")


def rank_events(
    inter: Interactions,
    events: ArrayLike,
    scorer: Scorer,
    *,
    train_end: int | None = None,
    top: int = 0,
    histories: Histories | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Ranks:
    """Rank the item of each of `events` (any indices, ascending is quickest) by the scorer's scores.

    Args:
        inter: every event that may be history or evaluated.
        events: `[n]` indices into `inter`.
        scorer: event indices `[batch]` to scores `[batch, n_items]`.
        train_end: how many of the first events trained the scorer; default: those before the earliest of `events`.
        top: how many of the best candidates to keep as slates; 0 for none.
        histories: of `inter`, when the caller has them already.
        chunk_bytes: of scores held at once; bounds memory whatever n.

    Raises:
        ModelError: the scores have another shape than `[batch, n_items]`, or hold NaN.
    """
    events = np.asarray(events, np.int64)
    histories = histories or Histories(inter)
    n, n_items = len(events), len(inter.items)
    if train_end is None:
        train_end = int(events.min()) if n else 0
    rank, slates = np.empty(n), np.empty((n, top), np.int64)
    for start, chunk in _chunks(events, rows=max(1, chunk_bytes // (8 * max(n_items, 1)))):
        scores = _checked(scorer(chunk), chunk, n_items)
        row, seen = histories.flat(chunk)
        part = slice(start, start + len(chunk))
        rank[part] = _ranks(scores, inter.item[chunk], row, inter.item[seen])
        if top:
            slates[part] = _best(scores, row, inter.item[seen], top)
    first_event = np.full(n_items, len(inter))
    np.minimum.at(first_event, inter.item, np.arange(len(inter)))
    first = first_event[inter.item[events]]
    return Ranks(
        events=events,
        users=inter.user[events],
        rank=rank,
        candidates=n_items - histories.count(events),
        cold=first >= train_end,
        untouched=inter.time[first] >= inter.time[events],
        n_items=n_items,
        slates=slates if top else None,
    )


def _chunks(events: Ints, *, rows: int) -> Iterator[tuple[int, Ints]]:
    for start in range(0, len(events), rows):
        yield start, events[start : start + rows]


def _checked(scores: Scores, chunk: Ints, n_items: int) -> Scores:
    if scores.shape != (len(chunk), n_items):
        raise ModelError(f"a scorer must return [batch, n_items] = {(len(chunk), n_items)}, got {scores.shape}.")
    bad = np.isnan(scores).any(axis=1)
    if bad.any():
        raise ModelError(
            f"a scorer returned NaN for {bad.sum()} of {len(chunk)} events, first for event {chunk[bad][0]}: "
            "its model has diverged. Train it again from an earlier checkpoint or with a lower learning rate."
        )
    return scores


def _ranks(
    scores: Scores, items: NDArray[np.integer], seen_row: Ints, seen_item: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Count over all columns, then take back what the items seen before (one row and code each) contributed."""
    n = len(scores)
    own = scores[np.arange(n), items]
    of_seen, own_of_seen = scores[seen_row, seen_item], own[seen_row]
    higher = np.count_nonzero(scores > own[:, None], axis=1) - np.bincount(seen_row[of_seen > own_of_seen], minlength=n)
    equal = np.count_nonzero(scores == own[:, None], axis=1) - np.bincount(seen_row[of_seen == own_of_seen], minlength=n)
    return np.asarray(1 + higher + 0.5 * (equal - 1), np.float64)


def _best(scores: Scores, seen_row: Ints, seen_item: NDArray[np.integer], top: int) -> Ints:
    """`[batch, top]` codes of the best candidates, equal scores in order of code; -1 fills a row that runs out."""
    scores = scores.copy()
    scores[seen_row, seen_item] = -np.inf
    best = np.full((len(scores), top), -1, np.int64)
    for filled, row in zip(best, scores, strict=True):
        floor = np.partition(row, -top)[-top] if top < len(row) else -np.inf
        above = np.flatnonzero(row > floor)
        above = above[np.argsort(-row[above], kind="stable")]
        level = np.flatnonzero(row == floor)[: top - len(above)] if floor > -np.inf else above[:0]
        filled[: len(above) + len(level)] = np.concatenate([above, level])
    return best

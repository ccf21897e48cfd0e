"""Everyone's counts between two publishes: the second of the three speeds of feedback.

A served version holds log p of every item as at its export. Outcomes go in here as they are logged; out come the items whose p
has moved most since that export, with their log p of now, which a request sends along to take the place of the old ones. So a
rush on an item is seen by everyone within a second or two, and the model itself is not touched. Without TensorFlow.
"""
import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfrec.errors import ModelError
from tfrec.gateway.first_seen import FirstSeen
from tfrec.models.popularity_prior import Override, PopularityPrior
from tfrec.release.popularity_files import read_hidden, read_prior

log = logging.getLogger(__name__)

_RUSH = 100  # choices of newcomers that are worth a line in the log


class Damped(NamedTuple):
    """What people chose and does not move the popularity."""

    held: int  # choices of items that too few people chose
    newcomers: float  # choices of newcomers that few others agree with, in events
    most: str  # of which item most of the latter are; "": of none


class _Choice(NamedTuple):
    """Somebody chose an item at a second."""

    user: str
    item: str
    time: int
    is_newcomer: bool


class _Rolling:
    """The prior of one version, rolling on from its export."""

    def __init__(self, prior: PopularityPrior, ids: list[str], hidden: Sequence[str], *, users: int) -> None:
        self.prior = prior
        self._users = users
        self._ids = ids
        self._hidden = set(hidden)
        self._index = {item: place for place, item in enumerate(ids)}
        self._exported = np.exp(prior.log_p())
        self._held: dict[int, dict[str, _Choice]] = {}  # by place of the item and user: too few for it to move yet
        self._moving: set[int] = set()

    def add(self, choices: Iterable[_Choice]) -> None:
        """Count what people chose, each of them an item at most once. Of an item nothing counts, in counts or totals, until
        `users` of them chose it; then all does. Items that the version does not know are left out."""
        counted: list[tuple[int, int, bool]] = []
        for choice in choices:
            place = self._index.get(choice.item)
            if place is None:
                continue
            if place not in self._moving:
                held = self._held.setdefault(place, {})
                held.setdefault(choice.user, choice)
                if len(held) < self._users:
                    continue
                self._moving.add(place)
                counted += [(place, one.time, one.is_newcomer) for one in self._held.pop(place).values()]
            else:
                counted.append((place, choice.time, choice.is_newcomer))
        if counted:
            items, times, newcomer = zip(*counted, strict=True)
            self.prior.update(items, times, newcomer=newcomer)

    def damped(self) -> Damped:
        """What does not move the popularity."""
        aside = self.prior.set_aside()
        most = int(aside.argmax()) if len(aside) else 0
        item = self._ids[most] if len(aside) and aside[most] >= 1 else ""
        return Damped(sum(map(len, self._held.values())), float(aside.sum()), item)

    def moved(self, limit: int) -> Override:
        """The `limit` items with the largest |p - p at export|, the largest first; none that has not moved."""
        log_p = self.prior.log_p()
        change = -np.abs(np.exp(log_p) - self._exported)
        n = min(limit, int(np.count_nonzero(change)))
        if not n:
            return _nothing()
        top = np.argpartition(change, n - 1)[:n]
        top = top[np.lexsort((top, change[top]))]
        return Override([self._ids[place] for place in top], log_p[top])

    def popular(self, n: int) -> Override:
        """The `n` items with the largest p that may be shown, the largest first."""
        log_p = self.prior.log_p()
        top = np.argsort(-log_p, kind="stable")[: n + len(self._hidden)]
        shown = [place for place in top.tolist() if self._ids[place] not in self._hidden][:n]
        return Override([self._ids[place] for place in shown], log_p[shown])


class LivePopularity:
    """The live version's prior, kept up to date with what happens. Safe to share between threads.

    One user moves nobody else's answer: of an item nothing counts until `users` people chose it since the version was exported.
    From then on each person counts once for it, and newcomers as `tfrec/data/behaviour/newcomers.py` says.

    Args:
        version_dir_lookup: the directory of the version that answers now, None when there is none. Asked at most once a second.
        limit: most items that are overridden; each is sent with every request.
        users: who must have chosen an item before its p moves.
        first_seen: since when people are known; by default it is learnt here.
        remembered: newest choices that are kept, to be counted again on a version that was made before them, at most a hundredth
            of one person.
    """

    def __init__(
        self, version_dir_lookup: Callable[[], Path | None], *, limit: int, users: int = 3, first_seen: FirstSeen | None = None,
        remembered: int = 100_000,
    ) -> None:
        self._lookup = version_dir_lookup
        self._limit = limit
        self._users = users
        self._first_seen = first_seen or FirstSeen()
        self._remembered = remembered
        self._news: list[tuple[str, str, int]] = []  # observed since the last look, with the times that were given
        self._recent: OrderedDict[tuple[str, str], _Choice] = OrderedDict()
        self._of_user: Counter[str] = Counter()  # how many of them
        self._path: Path | None = None
        self._rolling: _Rolling | None = None
        self._loader: threading.Thread | None = None
        self._second: int | None = None
        self._told = ""  # the item on which the last rush was
        self._override = _nothing()
        self._popular: tuple[int, Override] | None = None  # how many were asked for, and found
        self._arriving = threading.Lock()  # guards the news alone, so that an outcome never waits for a version
        self._looking = threading.Lock()  # guards all else; never held while a version loads

    def observe(self, users: Iterable[str], items: Iterable[str], times: Iterable[int]) -> None:
        """Take choices that have been logged: who chose which item, and the second at which they did."""
        events = list(zip(users, items, times, strict=True))
        with self._arriving:
            self._news += events
            del self._news[: -self._remembered]

    def override(self, now: float) -> Override:
        """The items whose p differs most from the export, and their log p; the same answer for all of one second.

        A time later than `now` counts as now: one wrong clock must not make everything else seem long past. While a new version
        loads, that of the one before answers.
        """
        self._look(int(now))
        return self._override

    def popular(self, now: float, n: int) -> Override | None:
        """At least the `n` most popular items that may be shown, the most popular first, and their log p.

        None when there is no version to count from.
        """
        self._look(int(now))
        with self._looking:
            if self._rolling is None:
                return None
            if self._popular is None or self._popular[0] < n:
                self._popular = n, self._rolling.popular(n)
            return self._popular[1]

    def damped(self) -> Damped:
        """What does not move the popularity of now; a rush of newcomers on an item is told in the log."""
        with self._looking:
            found = Damped(0, 0.0, "") if self._rolling is None else self._rolling.damped()
            if found.newcomers < _RUSH:
                self._told = ""
            elif found.most != self._told:
                self._told = found.most
                log.warning("%d choices of newcomers do not move popularity, as few others agree with them; most are of item %r",
                            found.newcomers, found.most)
            return found

    def settle(self) -> None:
        """Return when the version that loads, if one does, is there."""
        if (loader := self._loader) is not None:
            loader.join()

    def _look(self, now: int) -> None:
        with self._looking:
            if now == self._second:
                return
            self._second, self._popular = now, None
            path = self._lookup()
            fresh = self._new_choices(now)
            if self._rolling is not None and fresh:
                self._rolling.add(fresh)
                self._override = self._rolling.moved(self._limit)
            if path == self._path or self._loader is not None:
                return
            first = self._rolling is None
            self._loader = loader = threading.Thread(target=self._swap, args=(path,), name="popularity loader", daemon=True)
            loader.start()
        if first:  # there is nothing to answer meanwhile
            loader.join()

    def _new_choices(self, now: int) -> list[_Choice]:
        """What was chosen since the last look, of a person and an item the first."""
        with self._arriving:
            news, self._news = self._news, []
        fresh = []
        for user, item, time in news:
            time = min(time, now)
            if (user, item) in self._recent or self._of_user[user] >= max(1, self._remembered // 100):
                continue
            choice = _Choice(user, item, time, self._first_seen.is_newcomer(user, time, now=now))
            self._recent[user, item] = choice
            self._of_user[user] += 1
            fresh.append(choice)
        while len(self._recent) > self._remembered:
            (user, _), _ = self._recent.popitem(last=False)
            self._of_user[user] -= 1
            if not self._of_user[user]:
                del self._of_user[user]
        return fresh

    def _swap(self, path: Path | None) -> None:
        """Go on from the version in `path`. It loads while others answer."""
        try:
            rolling = None if path is None else _load(path, users=self._users)
            with self._looking:
                self._path, self._rolling, self._popular, self._override = path, rolling, None, _nothing()
                if rolling is not None:
                    clock = rolling.prior.clock
                    rolling.add(choice for choice in self._recent.values() if choice.time > clock)
                    self._override = rolling.moved(self._limit)
        finally:
            self._loader = None


def _load(version_dir: Path, *, users: int) -> _Rolling | None:
    try:
        return _Rolling(*read_prior(version_dir), read_hidden(version_dir), users=users)
    except ModelError as error:
        log.warning("popularity stays as this version was exported: %s", error)
        return None


def _nothing() -> Override:
    return Override([], np.zeros(0, np.float32))

"""Everyone's counts between two publishes: the second of the three speeds of feedback.

A served version holds log p of every item as at its export. Outcomes go in here as they are logged; out come the items whose p
has moved most since that export, with their log p of now, which a request sends along to take the place of the old ones. So a
rush on an item is seen by everyone within a second or two, and the model itself is not touched. Without TensorFlow.
"""
import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tfrec.errors import ModelError
from tfrec.models.prior import PopularityPrior

log = logging.getLogger(__name__)

PRIOR_FILE = "prior.npz"
ITEMS_FILE = "items.jsonl"  # a JSON string a line, in the order of the prior's items: an id may hold any character
HIDDEN_FILE = "unavailable.json"  # a JSON list of ids


def write_prior(version_dir: str | Path, prior: PopularityPrior, ids: Sequence[str], *, hidden: Sequence[str] = ()) -> None:
    """Put the prior as at export, the ids of its items and those that must not be shown into a version directory."""
    if len(ids) != len(prior):
        raise ModelError(f"write_prior: expected an id for each of the prior's {len(prior)} items, got {len(ids)}.")
    prior.save(Path(version_dir) / PRIOR_FILE)
    lines = "".join(f"{json.dumps(item)}\n" for item in ids)
    (Path(version_dir) / ITEMS_FILE).write_text(lines, encoding="utf-8")
    (Path(version_dir) / HIDDEN_FILE).write_text(json.dumps(list(hidden)), encoding="utf-8")


def read_prior(version_dir: str | Path) -> tuple[PopularityPrior, list[str]]:
    """What `write_prior` put there; `ModelError` names the file that is missing or broken."""
    prior = PopularityPrior.load(Path(version_dir) / PRIOR_FILE)
    path = Path(version_dir) / ITEMS_FILE
    try:
        ids = json.loads(f"[{','.join(path.read_text(encoding='utf-8').splitlines())}]")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: expected a JSON string a line: {error}. Export the model again.") from error
    if len(ids) != len(prior) or not all(isinstance(item, str) for item in ids):
        raise ModelError(f"{path}: expected {len(prior)} ids as {PRIOR_FILE} has items, got {len(ids)}. Export the model again.")
    return prior, ids


def read_hidden(version_dir: str | Path) -> list[str]:
    """The ids that must not be shown; `ModelError` names a broken file. A version without such a file hides none."""
    path = Path(version_dir) / HIDDEN_FILE
    try:
        return [str(item) for item in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: expected a JSON list of ids: {error}. Export the model again.") from error


class Override(NamedTuple):
    """Items and their log p of now, which takes the place of the exported one; do not change what is in it."""

    ids: list[str]
    log_p: NDArray[np.float32]  # [len(ids)]


class _Rolling:
    """The prior of one version, rolling on from its export."""

    def __init__(self, prior: PopularityPrior, ids: list[str], hidden: Sequence[str]) -> None:
        self.prior = prior
        self._ids = ids
        self._hidden = set(hidden)
        self._index = {item: place for place, item in enumerate(ids)}
        self._exported = np.exp(prior.log_p())

    def add(self, events: Iterable[tuple[str, int]]) -> None:
        """Count (item, second) pairs; items that the version does not know are left out."""
        known = [(self._index[item], time) for item, time in events if item in self._index]
        self.prior.update([item for item, _ in known], [time for _, time in known])

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


class Freshness:
    """The live version's prior, kept up to date with what happens. Safe to share between threads.

    Args:
        version_dir_lookup: the directory of the version that answers now, None when there is none. Asked at most once a second.
        limit: most items that are overridden; each is sent with every request.
        remembered: newest outcomes that are kept, to be counted again on a version that was made before them.
    """

    def __init__(self, version_dir_lookup: Callable[[], Path | None], *, limit: int, remembered: int = 100_000) -> None:
        self._lookup = version_dir_lookup
        self._limit = limit
        self._remembered = remembered
        self._news: list[tuple[str, int]] = []  # observed since the last look, with the times that were given
        self._recent: deque[tuple[str, int]] = deque(maxlen=remembered)
        self._path: Path | None = None
        self._rolling: _Rolling | None = None
        self._second: int | None = None
        self._override = _nothing()
        self._popular: tuple[int, Override] | None = None  # how many were asked for, and found
        self._arriving = threading.Lock()  # guards the news alone, so that an outcome never waits for a version to load
        self._looking = threading.Lock()  # guards all else

    def observe(self, items: Iterable[str], times: Iterable[int]) -> None:
        """Take outcomes that have been logged: item ids and the seconds at which they happened."""
        events = list(zip(items, times, strict=True))
        with self._arriving:
            self._news += events
            del self._news[: -self._remembered]

    def override(self, now: float) -> Override:
        """The items whose p differs most from the export, and their log p; the same answer for all of one second.

        A time later than `now` counts as now: one wrong clock must not make everything else seem long past.
        """
        with self._looking:
            self._look(int(now))
            return self._override

    def popular(self, now: float, n: int) -> Override | None:
        """At least the `n` most popular items that may be shown, the most popular first, and their log p.

        None when there is no version to count from.
        """
        with self._looking:
            self._look(int(now))
            if self._rolling is None:
                return None
            if self._popular is None or self._popular[0] < n:
                self._popular = n, self._rolling.popular(n)
            return self._popular[1]

    def _look(self, now: int) -> None:
        if now == self._second:
            return
        self._second, self._popular = now, None
        path = self._lookup()
        with self._arriving:
            news, self._news = self._news, []
        fresh = [(item, min(time, now)) for item, time in news]
        self._recent.extend(fresh)
        if path != self._path:
            self._path, self._rolling = path, None if path is None else _load(path)
            clock = self._rolling.prior.clock if self._rolling else 0
            fresh = [(item, time) for item, time in self._recent if time > clock]
        elif not fresh:
            return
        if self._rolling is None:
            self._override = _nothing()
        else:
            self._rolling.add(fresh)
            self._override = self._rolling.moved(self._limit)


def _load(version_dir: Path) -> _Rolling | None:
    try:
        return _Rolling(*read_prior(version_dir), read_hidden(version_dir))
    except ModelError as error:
        log.warning("popularity stays as this version was exported: %s", error)
        return None


def _nothing() -> Override:
    return Override([], np.zeros(0, np.float32))

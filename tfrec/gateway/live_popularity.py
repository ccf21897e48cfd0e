"""Live popularity: what users choose between two publishes moves the scores of everyone within a second or two.

A served version holds log p of every item as of its export. Choices are counted here as they are logged. Requests then carry
the items whose p has moved most since the export, with their log p of now, in place of the exported one. The model itself is
not touched, and no TensorFlow is needed. While no model server answers, popularity and the words of a query rank items here.
"""
import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from tfrec.data.feedback_log.writer import ErasedAmong
from tfrec.errors import ModelError
from tfrec.gateway.first_seen import FirstSeen
from tfrec.gateway.rolling_prior import NOTHING_DAMPED, Choice, Damped, RollingPrior, Scored, nothing_moved
from tfrec.gateway.routing.word_search import WordSearch
from tfrec.models.popularity_prior import Override
from tfrec.release.popularity_files import read_hidden, read_prior
from tfrec.release.words.word_files import read_words

log = logging.getLogger(__name__)

_WARN_NEWCOMERS = 100  # damped choices of newcomers that are worth a line in the log


class LivePopularity:
    """The prior of the version that answers, kept up to date with what users choose. Safe to share between threads.

    Each user counts once for an item. `RollingPrior` says when an item's choices count at all.

    Args:
        version_dir: the directory of the version that answers now, or None. Called at most once a second.
        limit: the most items that are overridden; all of them are sent with every request.
        users: different users who must choose an item before its popularity moves.
        first_seen: since when users are known; by default it is learnt here.
        remembered: the newest choices to keep. They are counted again on a version that was exported before them. One user
            has at most a hundredth of them.
    """

    def __init__(
        self, version_dir: Callable[[], Path | None], *, limit: int, users: int = 3, first_seen: FirstSeen | None = None,
        remembered: int = 100_000,
    ) -> None:
        self._version_dir = version_dir
        self._limit = limit
        self._users = users
        self._first_seen = first_seen or FirstSeen()
        self.remembered = remembered
        self._most_of_one = max(1, remembered // 100)
        self._incoming: list[tuple[str, str, int]] = []  # user, item and claimed time of what was observed but not counted yet
        self._recent: OrderedDict[tuple[str, str], Choice] = OrderedDict()  # by user and item
        self._recent_of: Counter[str] = Counter()  # number of recent choices by user
        self._loaded_dir: Path | None = None
        self._prior: RollingPrior | None = None
        self._words: WordSearch | None = None
        self._loader: threading.Thread | None = None
        self._second: int | None = None  # the second for which the answers below hold
        self._override = nothing_moved()
        self._popular: tuple[int, Override] | None = None  # number of items that were asked for, and the answer
        self._warned_of = ""  # the item that the last warning about newcomers named
        self._incoming_lock = threading.Lock()  # guards `_incoming` alone, so that an outcome never waits for a version
        self._lock = threading.Lock()  # guards everything else; never held while a version loads

    def observe(self, users: Iterable[str], items: Iterable[str], times: Iterable[int]) -> None:
        """Take choices that have been logged: which user chose which item, and at which second."""
        choices = list(zip(users, items, times, strict=True))
        with self._incoming_lock:
            self._incoming += choices
            del self._incoming[: -self.remembered]

    def fill(self, choices: Sequence[Choice]) -> None:
        """Take choices of the log, one for each user and item, oldest first, before any other comes in."""
        with self._lock:
            self._recent_of = Counter(choice.user for choice in choices)
            if max(self._recent_of.values(), default=0) > self._most_of_one:
                self._recent_of.clear()
                choices = [choice for choice in choices if self._has_room(choice.user)]
            self._recent = OrderedDict(((choice.user, choice.item), choice) for choice in choices)
            self._forget()

    def override(self, now: float) -> Override:
        """The items whose p differs most from the export, with their log p. The answer is the same for all of one second.

        A choice's time later than `now` counts as `now`: one wrong clock must not make all other choices look old. While a
        new version loads, the answer is still that of the version before.
        """
        self._refresh(int(now))
        return self._override

    def popular(self, now: float, n: int) -> Override | None:
        """At least the `n` most popular items that may be shown, the most popular first, with their log p.

        None if there is no version to count from.
        """
        self._refresh(int(now))
        with self._lock:
            if self._prior is None:
                return None
            if self._popular is None or self._popular[0] < n:
                self._popular = n, self._prior.popular(n)
            return self._popular[1]

    def search(self, query: str, now: float, n: int, *, exclude: Collection[str]) -> Scored | None:
        """The `n` items that are best by the words of a query and popularity, as the graph weighs them, `exclude` left out.

        None if there is no version to search, or it has no word of the query that an item which may be shown has.
        """
        self._refresh(int(now))
        with self._lock:
            prior, words = self._prior, self._words
        if prior is None or words is None:
            return None
        try:
            found, added = words.match(query)
        except ModelError as error:
            log.warning("queries are not answered by their words: %s", error)
            return None
        with self._lock:  # the prior may be one of before, but it is that of these words
            return prior.searched(found, added, n, beta=words.beta, exclude=exclude)

    def damped(self) -> Damped:
        """What does not move popularity now. Logs a warning when many newcomers choose one item."""
        with self._lock:
            found = NOTHING_DAMPED if self._prior is None else self._prior.damped()
            if found.newcomers < _WARN_NEWCOMERS:
                self._warned_of = ""
            elif found.most != self._warned_of:
                self._warned_of = found.most
                log.warning("%d choices of newcomers do not move popularity, because few others agree with them. Most are of "
                            "item %r.", found.newcomers, found.most)
            return found

    def erase(self, erased_among: ErasedAmong) -> None:
        """Forget what users chose who were erased. What was counted stays, and names nobody."""
        with self._lock, self._incoming_lock:
            names = {user for user, _ in self._recent} | {user for user, _, _ in self._incoming}
            names |= set() if self._prior is None else self._prior.withheld_users
        erased = erased_among(names)
        if not erased:
            return
        with self._lock, self._incoming_lock:
            self._incoming = [one for one in self._incoming if one[0] not in erased]
            self._recent = OrderedDict((pair, choice) for pair, choice in self._recent.items() if pair[0] not in erased)
            for user in erased:
                self._recent_of.pop(user, None)
            if self._prior is not None:
                self._prior.erase(erased)

    def wait_until_loaded(self) -> None:
        """Return once no version is being loaded."""
        if (loader := self._loader) is not None:
            loader.join()

    def _refresh(self, now: int) -> None:
        """Once a second: count what came in, and begin to load another version if another one answers."""
        with self._lock:
            if now == self._second:
                return
            self._second, self._popular = now, None
            version_dir = self._version_dir()
            choices = self._new_choices(now)
            if self._prior is not None and choices:
                self._prior.add(choices)
                self._override = self._prior.moved(self._limit)
            if version_dir == self._loaded_dir or self._loader is not None:
                return
            is_first = self._prior is None
            loader = threading.Thread(target=self._load, args=(version_dir,), name="popularity loader", daemon=True)
            self._loader = loader
            loader.start()
        if is_first:  # there is nothing to answer with meanwhile
            loader.join()

    def _new_choices(self, now: int) -> list[Choice]:
        """Take what came in; of one user and item only the first choice is new."""
        with self._incoming_lock:
            incoming, self._incoming = self._incoming, []
        new = []
        for user, item, claimed in incoming:
            if (user, item) not in self._recent and self._has_room(user):
                time = min(claimed, now)
                new.append(Choice(user, item, time, self._first_seen.is_newcomer(user, time, now=now)))
                self._recent[user, item] = new[-1]
        self._forget()
        return new

    def _has_room(self, user: str) -> bool:
        """Whether one more choice of a user is remembered. It is counted then."""
        if self._recent_of[user] >= self._most_of_one:
            return False
        self._recent_of[user] += 1
        return True

    def _forget(self) -> None:
        while len(self._recent) > self.remembered:
            (user, _), _ = self._recent.popitem(last=False)
            self._recent_of[user] -= 1
            if not self._recent_of[user]:
                del self._recent_of[user]

    def _load(self, version_dir: Path | None) -> None:
        """Continue from another version, whose files are read while requests are answered."""
        try:
            prior, words = (None, None) if version_dir is None else self._read(version_dir)
            with self._lock:
                self._loaded_dir, self._prior, self._words = version_dir, prior, words
                self._popular, self._override = None, nothing_moved()
                if prior is not None:
                    exported_at = prior.clock
                    prior.add(choice for choice in self._recent.values() if choice.time > exported_at)
                    self._override = prior.moved(self._limit)
        finally:
            self._loader = None

    def _read(self, version_dir: Path) -> tuple[RollingPrior | None, WordSearch | None]:
        try:
            prior, ids = read_prior(version_dir)
            rolling = RollingPrior(prior, ids, read_hidden(version_dir), users=self._users)
        except ModelError as error:
            log.warning("popularity stays as this version was exported: %s", error)
            return None, None
        try:
            words = read_words(version_dir)
            return rolling, None if words is None else WordSearch(words, len(ids))
        except ModelError as error:
            log.warning("while no model server answers, queries are not answered by their words: %s", error)
            return rolling, None

"""Looks at the items of a catalogue: flags what the list or the classifier finds, and clears what waits no more.

A text that was found clean is not looked at again, until the list changes, or decisions teach another classifier. So a scan of a
catalogue in which nothing has changed reads digests.
"""
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tfrec.config import Config
from tfrec.data.file_lock import held
from tfrec.data.records import Item
from tfrec.review.classifier import Encode, TaughtBy, TextClassifier, taught
from tfrec.review.clean_texts import CleanTexts
from tfrec.review.record import DIRECTORY, MAX_TEXT, FlagReason, ReviewEntry
from tfrec.review.standing import ReviewState, Standing, digest_of
from tfrec.review.terms import read_terms

log = logging.getLogger(__name__)


@dataclass
class Scanned:
    """What a scan has done.

    Attributes:
        items: that can be shown.
        judged: texts that were looked at.
        flagged: items that wait since this scan.
        cleared: items that wait no more.
        waiting: items that wait now.
        hidden: items that are not shown.
        classifier: labels that it flags for; those with too few decisions are left out.
    """

    items: int = 0
    judged: int = 0
    flagged: int = 0
    cleared: int = 0
    waiting: int = 0
    hidden: int = 0
    classifier: list[str] = field(default_factory=list)


def scan(config: Config, items: Iterable[Item], *, now: int) -> Scanned:
    """Look at items, and put flags and what is cleared on record.

    Args:
        config: names the run, the list and the encoder; `review.terms` must be there.
        items: of the whole catalogue.
        now: seconds since 1970.

    Raises:
        UsageError: the list is wrong.
        DataError: a line of the record is damaged.
    """
    assert config.review.terms is not None
    terms = read_terms(config.review.terms, config.review.labels)
    texts = {item.id: item.full_text for item in items if item.available}
    with held(config.run / DIRECTORY / "scan.lock", wait=True):
        state = ReviewState.of(config.run)
        judge = _Judge(config, state)
        digests = {item: digest_of(text) for item, text in texts.items()}
        open_texts = {digest: texts[item] for item, digest in digests.items() if _is_open(state.items.get(item), digest)}
        reasons = judge.reasons(open_texts, terms.found, terms.identity)
        with state.record.adding() as add:  # who decides meanwhile has decided
            entries = list(_entries(state, digests, texts, reasons, now))
            add(entries)
        judge.keep()
    done = Scanned(len(texts), judge.judged, waiting=len(state.waiting()), hidden=len(state.hidden(hold=config.review.hold)),
                   classifier=judge.labels)
    for entry in entries:
        done.flagged += entry.do == "flag"
        done.cleared += entry.do == "clear"
    if done.flagged:
        log.info("%d items are flagged, and %d wait for a review", done.flagged, done.waiting)
    return done


def scan_before_publishing(config: Config, items: Iterable[Item], *, now: int) -> None:
    """Look at the items of a version before anybody is shown them, if there is a list."""
    if config.review.terms is not None:
        scan(config, items, now=now)


class _Judge:
    """Says what is wrong with texts, by their digests, and remembers those with which nothing is."""

    def __init__(self, config: Config, state: ReviewState) -> None:
        self._config, self._state = config, state
        self._directory = config.run / DIRECTORY
        self.judged = 0
        self.labels: list[str] = []
        self._clean: list[CleanTexts] = []

    def reasons(self, texts: Mapping[str, str], listed: Callable[[str], list[FlagReason]], identity: str
                ) -> dict[str, list[FlagReason]]:
        """By digest, what flags a text, if anything does."""
        clean = self._cleaned("list", identity)
        found = {digest: why for digest, text in texts.items() if digest not in clean and (why := listed(text))}
        new = {digest for digest in texts if digest not in clean}
        clean.keep_only(texts.keys() - found.keys())
        classifier = self._classifier(texts, found) if self._config.review.classifier else None
        if classifier is not None:
            self.labels = list(classifier.weights)
            clean = self._cleaned("classifier", f"{classifier.identity} {self._config.review.threshold}")
            scored = {digest: text for digest, text in texts.items() if digest not in clean and text.strip()}
            by_vector = self._by_vector(classifier, scored)
            new |= scored.keys()
            clean.keep_only(texts.keys() - by_vector.keys())
            for digest, why in by_vector.items():
                found.setdefault(digest, []).extend(why)
        self.judged = len(new)
        return found

    def keep(self) -> None:
        """Remember what was clean. After a kill it is looked at again."""
        for clean in self._clean:
            clean.write()

    def _cleaned(self, by: str, identity: str) -> CleanTexts:
        self._clean.append(CleanTexts(self._directory / f"clean_by_{by}", identity))
        return self._clean[-1]

    def _classifier(self, texts: Mapping[str, str], found: Mapping[str, list[FlagReason]]) -> TextClassifier | None:
        by = TaughtBy.of(self._state, least=self._config.review.least)
        if not by.rejected:
            return None
        from tfrec.models.text_encoder import identity

        listed: dict[str, dict[str, str]] = {}
        for digest, why in found.items():
            for reason in why:
                listed.setdefault(reason.label, {})[digest] = texts[digest]
        return taught(self._directory / "classifier.npz", by, encoder=identity(self._config.text), encode=_encoder(self._config),
                      listed=lambda: listed,
                      unflagged=lambda: {digest: text for digest, text in texts.items() if digest not in found and text.strip()})

    def _by_vector(self, classifier: TextClassifier, texts: Mapping[str, str]) -> dict[str, list[FlagReason]]:
        found: dict[str, list[FlagReason]] = {}
        vectors = _encoder(self._config)(list(texts.values())) if texts else None
        for label, scores in classifier.scores(vectors).items() if vectors is not None else ():
            for digest, score in zip(texts, scores.tolist(), strict=True):
                if score >= self._config.review.threshold:
                    found.setdefault(digest, []).append(FlagReason(label=label, by="classifier", score=round(score, 4)))
        return found


def _encoder(config: Config) -> Encode:
    """Vectors from the run's cache, which training and export fill as well."""
    from tfrec.models.recommender import encode_catalogue

    return lambda texts: encode_catalogue(config, texts)


def _is_open(known: Standing | None, digest: str) -> bool:
    """Whether a text of an item is to be judged: no person has decided on it."""
    return known is None or digest not in known.decided


def _entries(state: ReviewState, digests: Mapping[str, str], texts: Mapping[str, str],
             reasons: Mapping[str, list[FlagReason]], now: int) -> Iterator[ReviewEntry]:
    for item, standing in state.items.items():
        if item not in digests and standing.status in ("waiting", "rejected"):
            yield ReviewEntry(do="clear", item=item, digest=standing.digest, time=now, why="gone")
    for item, digest in digests.items():
        known = state.items.get(item)
        if known is not None and digest in known.decided:
            if known.digest != digest or known.status == "gone":
                yield ReviewEntry(do="return", item=item, digest=digest, time=now)
            continue
        why = list(reasons.get(digest, ()))
        if known is not None and known.was_rejected and known.last is not None:
            why.append(FlagReason(label=known.last.label, by="earlier"))
        is_same = known is not None and known.digest == digest
        if why and not (is_same and known is not None and known.status == "waiting"):
            yield ReviewEntry(do="flag", item=item, digest=digest, time=now, text=texts[item][:MAX_TEXT], reasons=tuple(why))
        elif not why and known is not None and known.status in ("waiting", "gone"):
            yield ReviewEntry(do="clear", item=item, digest=digest, time=now, why="unflagged" if is_same else "text")

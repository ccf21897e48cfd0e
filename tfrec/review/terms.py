"""The list: words and phrases that flag a text, by label, in a TOML file.

    harmful = ["how to make a bomb"]
    spam = ["free money", "click here", "免费领取"]
"""
import hashlib
import tomllib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfrec.errors import UsageError
from tfrec.review.record import FlagReason
from tfrec.review.words import words_in

_READING = 1  # changes when the same file comes to flag other texts
_Listed = tuple[tuple[str, ...], str, str]  # its words, its label, and as it was written


@dataclass(frozen=True)
class TermList:
    """Terms by their first word.

    Attributes:
        identity: of the file, and of how it is read.
    """

    by_first: Mapping[str, Sequence[_Listed]]
    identity: str

    def found(self, text: str) -> list[FlagReason]:
        """The terms that are in a text as whole words, each once."""
        words = words_in(text)
        found: dict[tuple[str, str], FlagReason] = {}
        for place in [place for place, word in enumerate(words) if word in self.by_first]:
            for term, label, written in self.by_first[words[place]]:
                if tuple(words[place : place + len(term)]) == term:
                    found[label, written] = FlagReason(label=label, by="list", term=written)
        return list(found.values())


def read_terms(path: Path, labels: Sequence[str]) -> TermList:
    """The list in a file.

    Raises:
        UsageError: the file cannot be read, or something in it is no term; names file, label and term.
    """
    try:
        text = path.read_bytes()
        table = tomllib.loads(text.decode())
    except OSError as error:
        raise UsageError(f"review.terms: {path} cannot be read: {error.strerror}. Name a file of terms.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 from byte {error.start} on. Save the file as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: expected TOML such as spam = [\"free money\"], got {error}.") from error
    by_first: defaultdict[str, list[_Listed]] = defaultdict(list)
    for label, terms in table.items():
        if label not in labels:
            raise UsageError(f"{path}: expected labels of review.labels, which are {', '.join(labels)}; got {label!r}.")
        if not isinstance(terms, list):
            raise UsageError(f"{path}: {label}: expected a list of words and phrases, got {str(terms)[:100]!r}.")
        for number, term in enumerate(terms, start=1):
            words = tuple(words_in(term)) if isinstance(term, str) else ()
            if not words:
                raise UsageError(f"{path}: {label}: term {number}: expected a text with a word in it, got {str(term)[:100]!r}.")
            if all((words, label) != listed[:2] for listed in by_first[words[0]]):
                by_first[words[0]].append((words, label, term))
    return TermList(dict(by_first), f"{_READING}:{hashlib.sha256(text).hexdigest()}")

"""The terms of a query without TensorFlow, for a gateway whose model server does not answer.

`PlainTerms` gives the ids that `LexicalTerms` (`terms.py`) gives in the graph. It uses the package `tokenizers`, with what the
graph's tokenizer says of itself. A few rare letters differ, as Python and TensorFlow know different versions of Unicode.
"""
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from tokenizers import Tokenizer

GRAM_BUCKETS = 1 << 16
GRAM = 3  # characters
CHARACTERS = 4096  # of a text that are read
QUERY_PIECES = 64  # of a query that are read, and four times as many trigrams
EDGE = "_"  # stands before and behind a word: how it begins and ends are terms of their own

_BITS = (1 << 64) - 1
_K0, _K2 = 0xC3A5C85C97CB3127, 0x9AE16A3B2F90404F  # primes of FarmHash


class PlainTerms:
    """Reads queries.

    Args:
        described: what `Tokenizer.plain` of the graph returns.

    Raises:
        Exception: this is no such description; the parser of `tokenizers` has no narrower error.
    """

    def __init__(self, described: Mapping[str, Any]) -> None:
        self._n_pieces, self._unknown = int(described["n_pieces"]), int(described["unknown"])
        self._words = Tokenizer.from_str(json.dumps(described["words"]))
        sentence = described["sentence"]
        self._sentence = None if sentence is None else Tokenizer.from_str(json.dumps(sentence))
        marks = [(str(mark), str(content), bool(late)) for mark, content, late in described["marks"]]
        self._early, self._late = ([(mark, text) for mark, text, late in marks if late == chosen] for chosen in (False, True))
        self._forged = re.compile(described["forged"])
        self._mark = re.compile(f"([{''.join(mark for mark, _, _ in marks)}])") if marks else None

    def of_query(self, text: str) -> tuple[list[int], list[int]]:
        """The word pieces and the trigrams of a query, as term ids in their order, no more of them than the graph reads."""
        text = text[:CHARACTERS].partition("\0")[0]  # TensorFlow's lower case ends at a NUL
        text = text.encode("utf-8", "replace").decode().lower()
        words = list(self._split(text))
        if self._sentence is not None:
            ids = iter(self._sentence.encode(text, add_special_tokens=False).ids)
        else:
            ids = (token.id for word in words for token in self._words.model.tokenize(word))
        pieces = islice((one for one in ids if one != self._unknown), QUERY_PIECES)
        return list(pieces), list(islice(self._grams(words), 4 * QUERY_PIECES))

    def _split(self, text: str) -> Iterator[str]:
        """The words of a text, normalized; an added token is a word, and stands as its mark."""
        if self._mark is None:
            yield from self._normalized(text)
            return
        for part in self._marked(self._forged.sub("\ufffd", text), self._early):
            if self._mark.fullmatch(part):
                yield part
            else:
                yield from self._normalized(part)

    def _normalized(self, text: str) -> Iterator[str]:
        normalizer, splitter = self._words.normalizer, self._words.pre_tokenizer
        text = text if normalizer is None else normalizer.normalize_str(text)
        for part in self._marked(text, self._late):
            if splitter is None or (self._mark is not None and self._mark.fullmatch(part)):
                yield part
            else:
                yield from (word for word, _ in splitter.pre_tokenize_str(part))

    def _marked(self, text: str, tokens: Sequence[tuple[str, str]]) -> list[str]:
        """The parts of a text between and at the added tokens, which become their marks."""
        for mark, content in tokens:
            text = text.replace(content, mark)
        return [text] if self._mark is None else [part for part in self._mark.split(text) if part]

    def _grams(self, words: Sequence[str]) -> Iterator[int]:
        # bytes are split at the spaces of ASCII alone, as TensorFlow splits
        own = (word.decode() for word in " ".join(words).replace("▁", " ").encode().split())
        return chain.from_iterable(map(self._grams_of, own))

    def _grams_of(self, word: str) -> Iterator[int]:
        edged = f"{EDGE}{word}{EDGE}"
        for start in range(len(edged) - GRAM + 1):
            yield self._n_pieces + fingerprint(edged[start : start + GRAM].encode()) % GRAM_BUCKETS


def fingerprint(text: bytes) -> int:
    """FarmHash's Fingerprint64 of 1 to 16 bytes, by which `tf.strings.to_hash_bucket_fast` hashes.

    (https://github.com/google/farmhash, `farmhashna::HashLen0to16`)
    """
    size = len(text)
    if size >= 8:
        multiplier = _K2 + 2 * size
        first, last = (int.from_bytes(part, "little") for part in (text[:8], text[-8:]))
        first = (first + _K2) & _BITS
        return _mix(_rotated(last, 37) * multiplier + first, (_rotated(first, 25) + last) * multiplier, multiplier)
    if size >= 4:
        first, last = (int.from_bytes(part, "little") for part in (text[:4], text[-4:]))
        return _mix(size + (first << 3), last, _K2 + 2 * size)
    low, high = text[0] + (text[size >> 1] << 8), size + (text[-1] << 2)
    mixed = (low * _K2 ^ high * _K0) & _BITS
    return (mixed ^ mixed >> 47) * _K2 & _BITS


def _mix(u: int, v: int, multiplier: int) -> int:
    u, v = u & _BITS, v & _BITS
    a = (u ^ v) * multiplier & _BITS
    a ^= a >> 47
    b = (v ^ a) * multiplier & _BITS
    b ^= b >> 47
    return b * multiplier & _BITS


def _rotated(value: int, by: int) -> int:
    return (value >> by | value << 64 - by) & _BITS

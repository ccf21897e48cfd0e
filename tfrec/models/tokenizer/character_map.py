"""Functions from characters to texts, as a table in the graph.

What BERT's tokenizers do to a text before they look for word pieces (clean up, lower-case, strip accents, split at punctuation
and around Chinese characters) depends on one character at a time. So the checkpoint's own tokenizer is asked once for each
character, and the graph looks up its answers. No second implementation of Unicode has to agree with the first.
"""
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Codes = npt.NDArray[np.int32]
Replacement = tuple[int, ...]  # the code points that a character becomes, with ITSELF for the character

ITSELF, SPACE = -1, ord(" ")
UNCHANGED: Replacement = (ITSELF,)
SPACED: Replacement = (SPACE, ITSELF, SPACE)
PAGE = 256  # characters in a page of the table; most pages are equal, and are stored once
SEPARATOR = "\ua66e"  # between the characters of a question: a letter without case, accent or parts
MARKS = range(0x10F000, 0x10F100)  # of private use; only these may have a replacement of their own (`with_exceptions`)
# Ranges in which all characters behave as the first one: Chinese characters, in the blocks that BERT's `_is_chinese_char` names
# (the package `tokenizers` begins one at 2B920 and not at 2B820), Tangut, surrogates, private use, and planes without characters.
ALIKE = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xD800, 0xE000), (0xE000, 0xF900), (0x17000, 0x1AFF0), (0x20000, 0x2A6E0),
         (0x2A700, 0x2B740), (0x2B740, 0x2B820), (0x2B820, 0x2B920), (0x2B920, 0x2CEB0), (0x2CEB0, 0x2F800), (0x2FA20, 0xE0000),
         (0xE1000, 0xF0000), (0xF0000, MARKS.start), (MARKS.stop, 0x110000))


class CharacterFunction(NamedTuple):
    """What each character becomes.

    Attributes:
        replacements: the different ones.
        replacement_of: index of the replacement of each character in `_representatives`.
    """

    replacements: list[Replacement]
    replacement_of: Codes

    @classmethod
    def learn(cls, ask: Callable[[str], list[Replacement]]) -> "CharacterFunction":
        """Learn a function by asking for the replacement of each character in a string of different characters."""
        return _function(ask(_representatives()[0]))

    @classmethod
    def of_normalizer(cls, normalize: Callable[[str], str]) -> "CharacterFunction":
        """Learn the function of a normalizer that reads one character at a time."""
        def ask(chars: str) -> list[Replacement]:
            answers = normalize(SEPARATOR.join(chars.replace(SEPARATOR, "a"))).split(SEPARATOR)
            return [UNCHANGED if char in (answer, SEPARATOR) else tuple(ITSELF if x == char else ord(x) for x in answer)
                    for char, answer in zip(chars, answers, strict=True)]

        return cls.learn(ask)

    def then(self, other: "CharacterFunction") -> "CharacterFunction":
        """Return the function that applies `other` to the result of this one."""
        # characters with the same pair of replacements behave alike, so each pair is composed once
        pair = self.replacement_of.astype(np.int64) * len(other.replacements) + other.replacement_of
        pairs, pair_of_character = np.unique(pair, return_inverse=True)
        first, second = np.divmod(pairs, len(other.replacements))
        composed = _function([
            tuple(code for c in self.replacements[mine] for code in (other.replacements[its] if c == ITSELF else other(c)))
            for mine, its in zip(first.tolist(), second.tolist(), strict=True)])
        return CharacterFunction(composed.replacements, composed.replacement_of[pair_of_character.reshape(-1)])

    def __call__(self, code: int) -> Replacement:
        """Return the code points that the character of this code point becomes."""
        return tuple(code if c == ITSELF else c for c in self.replacements[self.replacement_of[_representatives()[1][code]]])

    def with_exceptions(self, exceptions: Mapping[int, Replacement]) -> "CharacterFunction":
        """Return the same function with other replacements for some code points, none of which is in a range of `ALIKE`."""
        index, replacements = self.replacement_of.copy(), list(self.replacements)
        for code, replacement in exceptions.items():
            index[_representatives()[1][code]] = len(replacements)
            replacements.append(replacement)
        return CharacterFunction(replacements, index)


def _function(replacements: list[Replacement]) -> CharacterFunction:
    different: dict[Replacement, int] = {}
    index = [different.setdefault(replacement, len(different)) for replacement in replacements]
    return CharacterFunction(list(different), np.array(index, np.int32))


@lru_cache(maxsize=1)
def _representatives() -> tuple[str, Codes]:
    """The characters that stand for all others, and the position among them of each code point's, `[0x110000]`."""
    representative = np.arange(sys.maxunicode + 1, dtype=np.int32)
    for first, end in ALIKE:
        representative[first:end] = first
    is_representative = representative == np.arange(sys.maxunicode + 1)
    is_representative[0xD800] = False  # no text holds a surrogate, so the character before it may stand for them
    positions = (np.cumsum(is_representative) - 1).astype(np.int32)[representative]
    return "".join(map(chr, np.flatnonzero(is_representative).tolist())), positions


class CharacterMap(tf.Module):
    """A function of characters in the graph. Bytes that are not UTF-8 are read as U+FFFD."""

    def __init__(self, function: CharacterFunction) -> None:
        super().__init__(name="character_map")
        pages: dict[bytes, int] = {}
        table = function.replacement_of[_representatives()[1]].reshape(-1, PAGE)
        page = [pages.setdefault(row.tobytes(), len(pages)) for row in table]
        lengths = np.array([len(replacement) for replacement in function.replacements], np.int32)
        self._page, self._pages = tf.constant(page), tf.constant(np.frombuffer(b"".join(pages), np.int32))
        self._lengths, self._ends = tf.constant(lengths), tf.constant(np.cumsum(lengths, dtype=np.int32))
        self._values = tf.constant([code for replacement in function.replacements for code in replacement], tf.int32)

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Strings `[n]` -> strings `[n]`."""
        chars = tf.strings.unicode_decode(texts, "UTF-8")
        codes = chars.flat_values
        replacement = tf.gather(self._pages, tf.gather(self._page, codes // PAGE) * PAGE + codes % PAGE)
        count = tf.gather(self._lengths, replacement)
        ends = tf.concat([[0], tf.cumsum(count)], axis=0)  # of each character in the output
        begin = tf.gather(self._ends, replacement) - count
        values = tf.gather(self._values, tf.range(ends[-1]) + tf.repeat(begin - ends[:-1], count))
        values = tf.where(values == ITSELF, tf.repeat(codes, count), values)
        rows = tf.RaggedTensor.from_row_splits(values, tf.gather(ends, chars.row_splits), validate=False)
        return tf.strings.unicode_encode(rows, "UTF-8")

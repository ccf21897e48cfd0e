"""A function from characters to texts, as a table in the graph: strings in, strings out, one character at a time.

What BERT's tokenizers do to a text before they look for word pieces (clean up, lower case, strip accents, split at punctuation
and around Chinese characters) depends on one character at a time. So the checkpoint's own tokenizer is asked once for each
character, and the graph looks its answers up: no second reading of Unicode has to agree with the first.
"""
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Codes = npt.NDArray[np.int32]
Answer = tuple[int, ...]  # code points, with ITSELF for the character that was asked for

ITSELF, SPACE = -1, ord(" ")
KEPT: Answer = (ITSELF,)
APART: Answer = (SPACE, ITSELF, SPACE)
PAGE = 256  # characters of a page of the table; most pages are alike, and are kept once
SEPARATOR = "\ua66e"  # between characters that are asked for: a letter without case, accent or parts
MARKS = range(0x10F000, 0x10F100)  # of private use: these may be told apart, by `but`
# Ranges in which one character answers for all: Chinese characters, in the blocks that BERT's `_is_chinese_char` names, Tangut,
# surrogates, private use, and the planes that have no characters.
ALIKE = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xD800, 0xE000), (0xE000, 0xF900), (0x17000, 0x1AFF0), (0x20000, 0x2A6E0),
         (0x2A700, 0x2B740), (0x2B740, 0x2B820), (0x2B820, 0x2CEB0), (0x2CEB0, 0x2F800), (0x2FA20, 0xE0000), (0xE1000, 0xF0000),
         (0xF0000, MARKS.start), (MARKS.stop, 0x110000))


class CharacterFunction(NamedTuple):
    """What each character becomes."""

    answers: list[Answer]  # different ones
    of: Codes  # by place among the characters of `_asked`: which answer

    @classmethod
    def asked(cls, ask: Callable[[str], list[Answer]]) -> "CharacterFunction":
        """The function that `ask` answers: for a string of different characters, an answer each."""
        return _function(ask(_asked()[0]))

    @classmethod
    def of_normalizer(cls, normalize: Callable[[str], str]) -> "CharacterFunction":
        """The function of a normalizer that reads one character at a time."""
        def ask(chars: str) -> list[Answer]:
            answers = normalize(SEPARATOR.join(chars.replace(SEPARATOR, "a"))).split(SEPARATOR)
            pairs = zip(chars, answers, strict=True)
            return [KEPT if char in (answer, SEPARATOR) else tuple(ITSELF if x == char else ord(x) for x in answer)
                    for char, answer in pairs]

        return cls.asked(ask)

    def then(self, other: "CharacterFunction") -> "CharacterFunction":
        """`other` after this one."""
        pairs, of = np.unique(self.of.astype(np.int64) * len(other.answers) + other.of, return_inverse=True)
        first, second = np.divmod(pairs, len(other.answers))
        made = _function([tuple(code for c in self.answers[mine] for code in (other.answers[its] if c == ITSELF else other(c)))
                          for mine, its in zip(first.tolist(), second.tolist(), strict=True)])
        return CharacterFunction(made.answers, made.of[of.reshape(-1)])

    def __call__(self, code: int) -> Answer:
        """What the character of this code point becomes, in code points."""
        return tuple(code if c == ITSELF else c for c in self.answers[self.of[_asked()[1][code]]])

    def but(self, exceptions: Mapping[int, Answer]) -> "CharacterFunction":
        """The same function but for some code points, none of which is in a range of `ALIKE`."""
        of, answers = self.of.copy(), list(self.answers)
        for code, answer in exceptions.items():
            of[_asked()[1][code]] = len(answers)
            answers.append(answer)
        return CharacterFunction(answers, of)


def _function(answers: list[Answer]) -> CharacterFunction:
    known: dict[Answer, int] = {}
    ids = [known.setdefault(answer, len(known)) for answer in answers]
    return CharacterFunction(list(known), np.array(ids, np.int32))


@lru_cache(maxsize=1)
def _asked() -> tuple[str, Codes]:
    """The characters to be asked for, and `[0x110000]`: the place among them of the one that answers for each code point."""
    stands_for = np.arange(sys.maxunicode + 1, dtype=np.int32)
    for first, end in ALIKE:
        stands_for[first:end] = first
    asked = stands_for == np.arange(sys.maxunicode + 1)
    asked[0xD800] = False  # no text holds a surrogate: the next character answers
    places = (np.cumsum(asked) - 1).astype(np.int32)[stands_for]
    return "".join(map(chr, np.flatnonzero(asked).tolist())), places


class CharacterMap(tf.Module):
    """A function of characters in the graph: strings `[n]` -> strings `[n]`. What is no UTF-8 is read as U+FFFD."""

    def __init__(self, function: CharacterFunction) -> None:
        super().__init__(name="character_map")
        pages: dict[bytes, int] = {}
        table = function.of[_asked()[1]].reshape(-1, PAGE)
        page = [pages.setdefault(row.tobytes(), len(pages)) for row in table]
        lengths = np.array([len(answer) for answer in function.answers], np.int32)
        self._page, self._pages = tf.constant(page), tf.constant(np.frombuffer(b"".join(pages), np.int32))
        self._lengths, self._ends = tf.constant(lengths), tf.constant(np.cumsum(lengths, dtype=np.int32))
        self._values = tf.constant([code for answer in function.answers for code in answer], tf.int32)

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        chars = tf.strings.unicode_decode(texts, "UTF-8")
        codes = chars.flat_values
        answer = tf.gather(self._pages, tf.gather(self._page, codes // PAGE) * PAGE + codes % PAGE)
        count = tf.gather(self._lengths, answer)
        ends = tf.concat([[0], tf.cumsum(count)], axis=0)  # of each character in what comes out
        begin = tf.gather(self._ends, answer) - count
        values = tf.gather(self._values, tf.range(ends[-1]) + tf.repeat(begin - ends[:-1], count))
        values = tf.where(values == ITSELF, tf.repeat(codes, count), values)
        rows = tf.RaggedTensor.from_row_splits(values, tf.gather(ends, chars.row_splits), validate=False)
        return tf.strings.unicode_encode(rows, "UTF-8")

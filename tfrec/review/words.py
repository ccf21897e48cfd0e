"""The words of a text, as a list of terms is compared with them.

They are read as the tokenizers of uncased encoders read them: in small letters, without accents, and each Chinese character is a
word. So is each character of the other scripts that put no spaces between words. Full-width letters and ligatures are their
plain ones, and characters that nobody sees are left out, as spam is full of both.
"""
import re
import sys
import unicodedata
from functools import cache
from itertools import groupby

_UNSPACED = ("\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u309f\u30a0-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
             "\U00020000-\U0003ffff")  # Thai and Lao, Burmese, Khmer, kana, and the ideographs


def words_in(text: str) -> list[str]:
    """The words of a text in their order. Signs, such as `$` or an emoji, are words of their own; punctuation is none."""
    if not text.isascii():
        text = _unseen().sub("", unicodedata.normalize("NFKD", text))
    return [word for word in _word().findall(text.casefold()) if len(word) > 1 or not _is_punctuation(word)]


@cache
def _word() -> re.Pattern[str]:
    marks = _of_category("M")
    return re.compile(rf"[{_UNSPACED}][{marks}]*|(?:[^\W_{_UNSPACED}][{marks}]*)+|[^\w\s]")


@cache
def _unseen() -> re.Pattern[str]:
    """Accents, and what has no glyph: marks of direction, joiners, soft hyphens."""
    return re.compile(f"[\u0300-\u036f{_of_category('Cf')}]")


@cache
def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PCM"


def _of_category(wanted: str) -> str:
    """The characters of a category of Unicode, as ranges for a regular expression."""
    found = (code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith(wanted))
    runs = groupby(enumerate(found), lambda pair: pair[1] - pair[0])
    ranges = [[code for _, code in run] for _, run in runs]
    return "".join(f"{re.escape(chr(run[0]))}-{re.escape(chr(run[-1]))}" for run in ranges)

"""Words as a list of terms is compared with them, in any script."""
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.errors import UsageError
from tfrec.review.terms import read_terms
from tfrec.review.words import words_in

LABELS = ("spam", "adult")


@pytest.mark.parametrize(("text", "words"), [
    ("", []),
    (" \t\n", []),
    ("...!?", []),
    ("Free MONEY, now", ["free", "money", "now"]),
    ("naïve Straße ﬁne ＦＲＥＥ", ["naive", "strasse", "fine", "free"]),
    ("sp\u200bam s\u00adpam \u202espam", ["spam", "spam", "spam"]),
    ("免费领取", ["免", "费", "领", "取"]),
    ("买2送1free款", ["买", "2", "送", "1free", "款"]),
    ("ฟรี", ["ฟ", "รี"]),
    ("हिन्दी में", ["हिन्दी", "में"]),
    ("C++ 🔞$ e-mail a_b", ["c", "+", "+", "🔞", "$", "e", "mail", "a", "b"]),
])
def test_words(text: str, words: list[str]) -> None:
    assert words_in(text) == [unicodedata.normalize("NFKD", one) for one in words]


def found(tmp_path: Path, table: str, text: str) -> list[tuple[str, str]]:
    (tmp_path / "terms.toml").write_text(table)
    return [(one.label, one.term) for one in read_terms(tmp_path / "terms.toml", LABELS).found(text)]


@pytest.mark.parametrize(("text", "expected"), [
    ("", []),
    ("Get FREE, money!", [("spam", "free money")]),
    ("free money free money", [("spam", "free money")]),
    ("freemoney, free moneys, carefree money", []),
    ("a sexton at a sex shop", [("adult", "Sex")]),
    ("sexton", []),
    ("现在免费领取礼品", [("spam", "免费领取")]),
    ("免 费 领 取", [("spam", "免费领取")]),
    ("免费", []),
    ("c+", []),
    ("learn c++ now", [("spam", "C++")]),
    ("free money sex " * 50_000, [("spam", "free money"), ("adult", "Sex")]),
])
def test_whole_words_and_phrases(tmp_path: Path, text: str, expected: list[tuple[str, str]]) -> None:
    table = 'spam = ["free money", "免费领取", "C++", "Free  money"]\nadult = ["Sex"]\n'  # a repeated term is one
    assert found(tmp_path, table, text) == expected


def test_an_empty_list_flags_nothing(tmp_path: Path) -> None:
    assert found(tmp_path, "", "free money") == []
    assert found(tmp_path, "spam = []\n", "free money") == []


@pytest.mark.parametrize(("table", "words"), [
    ('other = ["x"]', "expected labels of review.labels, which are spam, adult; got 'other'"),
    ('spam = "x"', "spam: expected a list of words and phrases, got 'x'"),
    ('spam = ["ok", "!?"]', "spam: term 2: expected a text with a word in it, got '!?'"),
    ("spam = [3]", "spam: term 1: expected a text"),
    ('spam = ["x"', "expected TOML such as"),
    ('[spam]\nx = "y"', "spam: expected a list"),
])
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, table: str, words: str) -> None:
    with pytest.raises(UsageError, match=r"terms\.toml: ") as error:
        found(tmp_path, table, "")
    assert words in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_terms(tmp_path / "none.toml", LABELS)
    (tmp_path / "latin.toml").write_bytes('spam = ["caf\xe9"]'.encode("latin-1"))
    with pytest.raises(UsageError, match="not UTF-8 from byte 12 on"):
        read_terms(tmp_path / "latin.toml", LABELS)


@given(st.text(), st.text())
def test_any_text_is_found_in_a_longer_one(term: str, beside: str) -> None:
    words = words_in(term)
    assert words_in(" ".join(words)) == words  # to read it again changes nothing
    assert all(word and not word.isspace() for word in words)
    longer = words_in(f"{beside} {term} {beside}")
    assert not words or any(longer[place : place + len(words)] == words for place in range(len(longer)))
    assert words_in(term.upper().lower()) == words_in(term.upper())


@pytest.mark.parametrize("text", ["\u0301" * 200_000, "a\u0301" * 100_000, "ก" * 100_000 + "็" * 100_000, "_" * 300_000,
                                  "a" * 300_000, "\u200d" * 100_000, "+-" * 100_000])
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    words_in(text)
    assert time.process_time() - began < 2

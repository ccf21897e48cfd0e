"""Token ids against literal values, and texts that nobody should send."""
import pytest
import tensorflow as tf

from tests.models.bert.tiny import PIECES, tokenizer_files
from tfrec.models.tokenizer.tokenizer import Tokenizer

A, B, C = (PIECES.index(piece) for piece in "abc")
INNER_B, COMMA = PIECES.index("##b"), PIECES.index(",")


def tokens(
    texts: list[str | bytes], *, max_tokens: int = 8, lower_case: bool = True, pad_to_max: bool = False
) -> list[list[int]]:
    tokenizer = Tokenizer(tokenizer_files(lower_case=lower_case), max_tokens=max_tokens)
    return tokenizer(tf.constant(texts, tf.string, [len(texts)]), pad_to_max=pad_to_max).numpy().tolist()


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", [2, 3]),
        (" \t\n\u3000", [2, 3]),
        ("a", [2, A, 3]),
        ("ab a", [2, A, INNER_B, A, 3]),
        ("A,B", [2, A, COMMA, B, 3]),
        ("á", [2, A, 3]),
        ("the theing", [2, 4, 4, 5, 3]),  # the longest piece first
        ("аб", [2, 1, 3]),  # Cyrillic: no piece
        ("人a", [2, 1, A, 3]),  # a Chinese character is a word of its own
        ("a[SEP]", [2, A, *(PIECES.index(p) for p in ("[", "s", "##e", "##p", "]")), 3]),  # nobody can write a [SEP]
        (b"\xff\xc3", [2, 3]),  # no UTF-8
        (b"a\xffb", [2, A, INNER_B, 3]),
        ("a\x00b", [2, A, INNER_B, 3]),
    ],
)
def test_ids(text, ids):
    assert tokens([text]) == [ids]


def test_case_is_kept():
    assert tokens(["a A á"], lower_case=False) == [[2, A, 1, 1, 3]]


def test_a_batch_is_padded_to_its_longest_or_to_max_tokens():
    assert tokens(["a b", ""]) == [[2, A, B, 3], [2, 3, 0, 0]]
    assert tokens(["a b", ""], max_tokens=6, pad_to_max=True) == [[2, A, B, 3, 0, 0], [2, 3, 0, 0, 0, 0]]
    assert tokens([]) == []


def test_a_long_text_is_cut_to_max_tokens_with_both_edges():
    assert tokens(["a b c a b c"], max_tokens=5) == [[2, A, B, C, 3]]
    assert tokens(["a b c a b c"], max_tokens=5, pad_to_max=True) == [[2, A, B, C, 3]]


@pytest.mark.parametrize("letter", ["a", "é", "人", "\U0001f600", " "])
def test_100_000_characters(letter):
    (ids,) = tokens([letter * 100_000], max_tokens=48)
    assert (ids[0], ids[-1]) == (2, 3)
    assert len(ids) <= 48


def test_a_word_that_is_cut_before_its_end_is_still_in_the_text():
    assert tokens(["a " * 50_000], max_tokens=6) == [[2, A, A, A, A, 3]]

"""LexicalTerms of texts, and texts that nobody should send."""
import pytest
import tensorflow as tf

from tests.models.bert.tiny import PIECES, tokenizer_files
from tfrec.models.lexical.terms import QUERY_PIECES, LexicalTerms
from tfrec.models.tokenizer.tokenizer import Tokenizer

TERMS = LexicalTerms(Tokenizer(tokenizer_files(), max_tokens=8))
A, INNER_B = PIECES.index("a"), PIECES.index("##b")


def terms(text: str | bytes) -> tuple[list[int], list[int]]:
    pieces, grams = TERMS(tf.constant([text]))
    return pieces.to_list()[0], grams.to_list()[0]


def test_pieces_are_those_of_the_encoder_and_trigrams_are_of_words() -> None:
    pieces, grams = terms("Ab a")
    assert pieces == [A, INNER_B, A]
    assert len(grams) == 3  # _ab ab_ _a_
    assert all(TERMS.n_pieces <= gram < TERMS.count for gram in grams)
    assert grams == terms("ab")[1] + terms("a")[1]


@pytest.mark.parametrize("text", ["", "  ", "\n\t", b"\xff\xc3"])
def test_a_text_without_words_has_no_terms(text: str | bytes) -> None:
    assert terms(text) == ([], [])


def test_what_the_vocabulary_lacks_is_no_piece_and_has_trigrams() -> None:
    pieces, grams = terms("аб")
    assert pieces == []
    assert len(grams) == 2


def test_a_typo_leaves_most_trigrams() -> None:
    right, wrong = set(terms("inception")[1]), set(terms("incepton")[1])
    assert len(right & wrong) >= 5


def test_a_long_query_is_cut_and_a_long_text_is_not() -> None:
    long = tf.constant(["a " * 1000])
    assert [len(kind.to_list()[0]) for kind in TERMS.of_queries(long)] == [QUERY_PIECES, 4 * QUERY_PIECES]
    assert len(TERMS(long)[0].to_list()[0]) == 1000


def test_texts_of_a_batch_do_not_mix() -> None:
    pieces, grams = TERMS(tf.constant(["a", "", "ab a"]))
    assert [len(row) for row in pieces.to_list()] == [1, 0, 3]
    assert [len(row) for row in grams.to_list()] == [1, 0, 3]

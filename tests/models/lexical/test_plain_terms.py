"""A query has the same terms with TensorFlow and without, whatever it holds and whichever tokenizer reads it."""
import json
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from tests.models.bert.families import CONFIGS, tokenizer
from tests.models.bert.tiny import PIECES, tokenizer_files
from tests.models.tokenizer.test_tokenizer_parity import SETTINGS, TEXTS, saved
from tfrec.models.lexical.plain_terms import GRAM_BUCKETS, QUERY_PIECES, PlainTerms, fingerprint
from tfrec.models.lexical.terms import LexicalTerms
from tfrec.models.pretrained.tokenizer_files import TokenizerFiles, read_tokenizer
from tfrec.models.tokenizer.tokenizer import Tokenizer

HARD = [*TEXTS, "a\0b", "unk", "<s> </s> <unk> <mask> [SEP] [UNK] [CLS]", "a▁b ▁c", "Heat\u3000Toy",
        "\U0002b820\U0002b920\U0002ceaf", "ΟΔΟΣ ΟΔΟΣ. Σ", "人" * 10_000, "the " * 10_000, "x" * 10_000]
TINY = Tokenizer(tokenizer_files([*PIECES, "人", "电", "影"]), max_tokens=8)


def both(tokenizer: Tokenizer) -> tuple[LexicalTerms, PlainTerms]:
    return LexicalTerms(tokenizer), PlainTerms(json.loads(json.dumps(tokenizer.plain())))


def same(files: TokenizerFiles, texts: list[str]) -> None:
    graph, plain = both(Tokenizer(files, max_tokens=64))
    pieces, grams = (kind.to_list() for kind in graph.of_queries(tf.constant(texts)))
    for text, *expected in zip(texts, pieces, grams, strict=True):
        assert list(plain.of_query(text)) == expected, text[:60]


@pytest.mark.parametrize("setting", SETTINGS)
def test_hard_texts_have_the_terms_that_the_graph_finds(tmp_path: Path, setting: str) -> None:
    same(saved(tmp_path / "t", *SETTINGS[setting]), HARD)


@pytest.mark.parametrize("family", CONFIGS)
def test_each_family_has_the_terms_that_the_graph_finds(tmp_path: Path, family: str) -> None:
    tokenizer(family).save(str(tmp_path / "tokenizer.json"))
    runs_of_marks = family == "xlm-roberta"  # of which SentencePiece and the package `tokenizers` make different pieces
    same(read_tokenizer(tmp_path, vocab_size=10_000), [text for text in HARD if not (runs_of_marks and "▁" in text)])


def test_added_tokens_are_words(tmp_path: Path) -> None:
    added = [AddedToken("gar con", normalized=True), AddedToken("<e1>", normalized=False), AddedToken("gar", normalized=True)]
    texts = ["gar con", "a<E1>b <e1>", "GAR CON, gar", "gargar con", "", "\U0010f000 \U0010f001 <e1>"]
    same(saved(tmp_path / "t", *SETTINGS["uncased"], added=added), [*texts, *HARD])


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=30) | st.text("ab ,人é\0▁😀ßİΣ", max_size=30))
@example("\ud800")
def test_any_query_has_the_terms_that_the_graph_finds(text: str) -> None:
    graph, plain = both(TINY)
    found = plain.of_query(text)
    assert [len(kind) <= most for kind, most in zip(found, (QUERY_PIECES, 4 * QUERY_PIECES), strict=True)] == [True, True]
    if text.isascii() or not set(text) - set("ab ,人é\0▁😀ßİΣ"):  # of other letters Python may know newer ones
        assert list(found) == [kind.to_list()[0] for kind in graph.of_queries(tf.constant([text]))]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(min_size=1, max_size=16), min_size=1, max_size=20))
def test_a_fingerprint_is_that_of_the_graph(texts: list[bytes]) -> None:
    expected = tf.strings.to_hash_bucket_fast(tf.constant(texts), GRAM_BUCKETS).numpy().tolist()
    assert [fingerprint(text) % GRAM_BUCKETS for text in texts] == expected

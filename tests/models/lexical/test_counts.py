"""What was counted in a text is kept, and a change to the catalogue costs the texts that changed."""
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.models.bert.tiny import tokenizer_files
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.models.lexical.counts import NAME_TRIGRAMS, TEXT_PIECES, Counts, count_terms
from tfrec.models.lexical.terms import LexicalTerms
from tfrec.models.tokenizer.tokenizer import Tokenizer

TOKENIZER = Tokenizer(tokenizer_files(), max_tokens=8)
LONG = "the theing " * 6
TEXTS = [{"title": "a b a", "plot": LONG}, {"plot": "a c" + 50 * " "}, {"title": "", "plot": LONG}]


def catalogue(*texts: str | dict[str, str]) -> Catalogue:
    return Catalogue([Item(id=str(n), text=text) for n, text in enumerate(texts)])


def same(found: Counts, expected: Counts) -> bool:
    return all(
        list(one) == list(other) and all(np.array_equal(one[name].toarray(), other[name].toarray()) for name in one)
        for one, other in ((found.pieces, expected.pieces), (found.trigrams, expected.trigrams))
    )


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were read for their pieces."""
    seen: list[str] = []
    pieces = LexicalTerms.pieces

    def spied(terms: LexicalTerms, texts: tf.Tensor) -> tf.RaggedTensor:
        tf.py_function(lambda some: seen.extend(one.decode() for one in some.numpy()), [texts], [])
        return pieces(terms, texts)

    monkeypatch.setattr(LexicalTerms, "pieces", spied)
    return seen


def test_the_counts_of_a_text_by_hand() -> None:
    counts = count_terms(catalogue("a b a", "", "c"), TOKENIZER).pieces["text"]
    a, b, c = (int(TOKENIZER.clean_ids(TOKENIZER.clean(tf.constant([one]))).flat_values[0]) for one in "abc")
    assert counts.toarray()[:, [a, b, c]].tolist() == [[2, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert counts.sum() == 4


def test_a_text_is_read_once(tmp_path: Path, read: list[str]) -> None:
    first = count_terms(catalogue(*TEXTS), TOKENIZER, tmp_path)
    assert sorted(read) == sorted({"", "a b a", LONG, "a c" + 50 * " "})
    assert same(first, count_terms(catalogue(*TEXTS), TOKENIZER))
    read.clear()
    assert same(count_terms(catalogue(*TEXTS), TOKENIZER, tmp_path), first)
    assert read == []
    changed = [{"title": "new", "plot": LONG}, *TEXTS[1:]]
    assert same(count_terms(catalogue(*changed), TOKENIZER, tmp_path), count_terms(catalogue(*changed), TOKENIZER))
    assert read.count("new") == 2
    assert read.count("a b a") == 0


def test_another_tokenizer_counts_for_itself(tmp_path: Path) -> None:
    other = Tokenizer(tokenizer_files(lower_case=False), max_tokens=8)
    assert other.digest != TOKENIZER.digest
    count_terms(catalogue("a b"), TOKENIZER, tmp_path)
    assert same(count_terms(catalogue("a b"), other, tmp_path), count_terms(catalogue("a b"), other))


@pytest.mark.parametrize("name", [TEXT_PIECES, NAME_TRIGRAMS])
def test_a_damaged_file_costs_only_time(tmp_path: Path, name: str) -> None:
    expected = count_terms(catalogue(*TEXTS), TOKENIZER, tmp_path)
    whole = (tmp_path / name).read_bytes()
    for kept in (0, len(whole) // 2):
        (tmp_path / name).write_bytes(whole[:kept])
        assert same(count_terms(catalogue(*TEXTS), TOKENIZER, tmp_path), expected)
    assert (tmp_path / name).stat().st_size == len(whole)


@pytest.mark.parametrize("texts", [(), ("",), ("x" * 100_000,)])
def test_empty_and_huge(tmp_path: Path, texts: tuple[str, ...]) -> None:
    for _ in range(2):
        counts = count_terms(catalogue(*texts), TOKENIZER, tmp_path)
        assert [one.shape[0] for one in counts.pieces.values()] == [len(texts)] * bool(texts)

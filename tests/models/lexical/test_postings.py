"""BM25 by hand, and what holds for any catalogue."""
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tests.models.bert.tiny import tokenizer_files
from tfrec.config import Config, load_config
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.errors import ConfigError, ModelError
from tfrec.models.lexical.counts import count_terms
from tfrec.models.lexical.lexicon import FIELDS_FILE, Lexicon
from tfrec.models.lexical.postings import TRIGRAMS, postings
from tfrec.models.lexical.terms import LexicalTerms
from tfrec.models.lexical.word_match import WordMatch
from tfrec.models.tokenizer.tokenizer import Tokenizer

TOKENIZER = Tokenizer(tokenizer_files(), max_tokens=8)
TERMS = LexicalTerms(TOKENIZER)
LONG = "the theing " * 6  # no name, so it has no trigrams
TEXTS = st.text("ab ,人é", max_size=12)


def catalogue(*texts: str | dict[str, str]) -> Catalogue:
    return Catalogue([Item(id=str(n), text=text) for n, text in enumerate(texts)])


def lexicon(items: Catalogue, config: Config | None = None) -> Lexicon:
    found = Lexicon.of(config or Config(), items, TOKENIZER)
    assert found is not None
    return found


def graph(of: Lexicon, queries: list[str], order: np.ndarray | None = None) -> np.ndarray:
    match = WordMatch(of, order, keep=lambda name, value: tf.Variable(value, shape=[None]))
    n = of.postings().n_items if order is None else len(order)
    return match(tf.constant(queries, tf.string, [len(queries)]), tf.constant(n)).numpy()


def test_a_match_by_hand() -> None:
    # pieces: "a" in both (idf ln(1 + .5/2.5)), "b" in one (idf ln 2); both fields are of mean length, so a term has 1 / 1.9
    items = catalogue("a b" + 50 * " ", "a c" + 50 * " ")  # 53 characters: no name
    found = postings(count_terms(items, TOKENIZER), {}).matches(["a b", "a", "c c", ""], TERMS)
    idf_a, idf_b = np.log(1.2), np.log(2)
    assert_allclose(found, [[1 / 1.9, idf_a / (idf_a + idf_b) / 1.9], [1 / 1.9] * 2, [0, 1 / 1.9], [0, 0]], rtol=1e-5)


def test_a_longer_field_says_less_of_each_of_its_words() -> None:
    # lengths 1 and 3 of mean 2: tf / (tf + .9 (.25 + .75 length / 2))
    items = catalogue("a" + 50 * " ", "a b c" + 50 * " ")
    found = postings(count_terms(items, TOKENIZER), {}).matches(["a"], TERMS)[0]
    assert_allclose(found, [1 / (1 + 0.9 * 0.625), 1 / (1 + 0.9 * 1.375)], rtol=1e-5)


def test_fields_count_by_their_weights_and_the_first_is_taken_for_the_name() -> None:
    items = catalogue({"title": "a", "plot": "b"}, {"title": "b", "plot": "a"})
    found = lexicon(items)
    assert found.weights == {"title": 3.0, "plot": 1.0}
    at_title, at_plot = found.matches(["a"])[0]
    assert_allclose(at_title, 3 * at_plot, rtol=1e-5)
    chosen = load_config(None, ["search.fields={plot=6}", "search.lexical=0.5"])
    assert lexicon(items, chosen).weights == {"title": 1.5, "plot": 3.0}


def test_names_have_trigrams_and_long_texts_have_none() -> None:
    counts = count_terms(catalogue({"title": "ab", "plot": LONG}), TOKENIZER)
    assert counts.fields == ("title", "plot")
    assert list(counts.trigrams) == ["title"]
    assert counts.trigrams["title"].sum() == 2  # "_ab" and "ab_"


def test_a_typo_in_a_name_still_finds_it() -> None:
    items = catalogue("inception", "interstellar", "memento", "tenet")
    assert lexicon(items).matches(["inceptoin", "intersteler"]).argmax(1).tolist() == [0, 1]


@pytest.mark.parametrize("texts", [(), ("",), ("", "  ")])
def test_a_catalogue_without_texts_is_not_searched_by_words(texts: tuple[str, ...]) -> None:
    assert Lexicon.of(Config(), catalogue(*texts), TOKENIZER) is None or not lexicon(catalogue(*texts)).matches(["a"]).any()


def test_search_by_meaning_alone() -> None:
    assert Lexicon.of(load_config(None, ["search.lexical=0"]), catalogue("a"), TOKENIZER) is None


def test_a_field_that_no_item_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="search.fields: expected text fields .* title, plot; got 'titel'"):
        lexicon(catalogue({"title": "a", "plot": "b"}), load_config(None, ["search.fields={titel=2}"]))


def test_weights_that_were_fitted_with_the_encoder(tmp_path) -> None:
    (tmp_path / FIELDS_FILE).write_text('{"title": 5.5, "gone": 2}')
    items, tuned = catalogue({"title": "a", "plot": "b"}), load_config(None, [f"text.encoder={tmp_path}"])
    assert lexicon(items, tuned).weights == {"title": 5.5, "plot": 1.0}
    (tmp_path / FIELDS_FILE).write_text("[]")
    with pytest.raises(ModelError, match="expected an object of field names and numbers"):
        lexicon(items, tuned)


@settings(deadline=None, max_examples=20)
@given(texts=st.lists(st.dictionaries(st.sampled_from(["title", "plot"]), TEXTS), min_size=1, max_size=5),
       queries=st.lists(TEXTS, max_size=4), seed=st.integers(0, 9))
def test_laws(texts: list[dict[str, str]], queries: list[str], seed: int) -> None:
    items = catalogue(*texts)
    if Lexicon.of(Config(), items, TOKENIZER) is None:
        return
    found = lexicon(items)
    matches = found.matches(queries)
    # a share of each kind and field at most
    assert matches.shape == (len(queries), len(texts))
    assert (matches >= 0).all()
    assert (matches <= (1 + TRIGRAMS) * sum(found.weights.values()) + 1e-5).all()
    assert not matches[[not query.strip(" ,") for query in queries]][:, [not any(text.values()) for text in texts]].any()
    # the graph computes the same, whatever order the items are in, and a row in a batch is the row alone
    assert_allclose(graph(found, queries), matches, atol=1e-5)
    order = np.random.default_rng(seed).permutation([*range(len(texts)), -1, -1])
    moved = graph(found, queries, order)
    assert_allclose(moved[:, order >= 0], matches[:, order[order >= 0]], atol=1e-5)
    assert not moved[:, order < 0].any()
    for row, query in enumerate(queries):
        assert_allclose(graph(found, [query])[0], matches[row], atol=1e-5)


def test_the_shares_of_pieces_add_up_to_the_match_of_pieces() -> None:
    items = catalogue("a b" + 50 * " ", "a c" + 50 * " ", LONG)
    found = lexicon(items)
    match = WordMatch(found, keep=lambda name, value: tf.Variable(value, shape=[None]))
    pieces = TERMS(tf.constant(["a b", "the a"]))[0].to_tensor(-1)
    for position in range(3):
        shares = match.of_pieces(pieces, tf.constant([position] * 2)).numpy()
        assert_allclose(shares.sum(1), found.matches(["a b", "the a"])[:, position], atol=1e-6)

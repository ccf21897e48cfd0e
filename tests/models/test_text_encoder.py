"""Texts in, unit vectors out: alone or in a batch, short or long, in the graph or from the cache of items."""
import shutil

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.bert.tiny import from_saved_model, write_bert, write_json
from tfrec.config import TextConfig
from tfrec.models.text_encoder import TextEncoder, load_encoder

EMPTY = ["", "   ", "\n\t", "\u3000", "\u200b"]


@pytest.fixture(scope="module")
def encoder(tiny_checkpoint) -> TextEncoder:
    return TextEncoder(tiny_checkpoint, max_tokens=16)


def test_vectors_are_of_unit_length(encoder):
    vectors = encoder(tf.constant(["heat", "toy story", "a"])).numpy()
    assert vectors.shape == (3, encoder.width) == (3, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.abs(vectors[0] - vectors[1]).max() > 0.05


def test_an_empty_text_gives_the_zero_vector(encoder):
    assert not encoder(tf.constant(EMPTY)).numpy().any()
    assert not encoder.encode(EMPTY, batch_size=2).any()


def test_no_texts(encoder):
    assert encoder(tf.constant([], tf.string)).shape == (0, 16)
    assert encoder.encode([], batch_size=2).shape == (0, 16)


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(st.text(alphabet="ab1 ,é人", max_size=40), max_size=6), batch_size=st.integers(1, 4))
def test_a_cached_vector_is_the_one_that_is_served(encoder, texts, batch_size):
    served = encoder(tf.constant(texts, tf.string, [len(texts)])).numpy()
    np.testing.assert_allclose(encoder.encode(texts, batch_size=batch_size), served, atol=1e-5)


def test_100_000_characters(encoder):
    long = "the story of " * 8_000
    vectors = encoder.encode([long, "heat"], batch_size=8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors[1], encoder(tf.constant(["heat"]))[0], atol=1e-5)


def test_what_lies_beyond_max_tokens_is_not_read(encoder):
    words = "a b c d e f g h i j k l m n"  # 14 pieces and two edges
    one, other, shorter = encoder(tf.constant([f"{words} x", f"{words} y z", words[:-2]])).numpy()
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert np.abs(one - shorter).max() > 1e-3


def test_no_more_is_read_than_the_checkpoint_has_positions(tiny_checkpoint):
    encoder = TextEncoder(tiny_checkpoint, max_tokens=512)
    assert encoder.tokenizer.max_tokens == 64
    assert np.isfinite(encoder(tf.constant(["a b " * 300]))).all()


def test_pooling_by_the_first_token(tmp_path):
    directory = write_bert(tmp_path / "bert")
    write_json(directory / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})
    encoder = TextEncoder(str(directory), max_tokens=16)
    first = encoder.bert(encoder.tokenizer(tf.constant(["heat"]), pad_to_max=False))[0, 0]
    np.testing.assert_allclose(encoder(tf.constant(["heat", ""])), [first / np.linalg.norm(first), np.zeros(16)], atol=1e-6)


def test_progress_is_advanced_once_a_text(encoder):
    done: list[int] = []
    encoder.encode(["a", "", "b c", "d"], batch_size=2, advance=done.append)
    assert sum(done) == 4


def test_pooling_is_compiled_by_xla(encoder):
    ids = encoder.tokenizer(tf.constant(["heat", "", "toy story"]), pad_to_max=True)
    np.testing.assert_allclose(tf.function(encoder.pool, jit_compile=True)(ids), encoder.pool(ids), atol=1e-5)


def test_it_is_part_of_a_saved_model(encoder, tmp_path):
    again = from_saved_model(encoder, tmp_path / "saved", ["heat", ""])
    np.testing.assert_allclose(again, encoder(tf.constant(["heat", ""])), atol=1e-6)


def test_an_encoder_is_kept_until_its_files_change(tiny_checkpoint, tmp_path):
    directory = shutil.copytree(tiny_checkpoint, tmp_path / "bert")
    settings = TextConfig(encoder=str(directory), max_tokens=12)
    first = load_encoder(settings)
    assert load_encoder(settings) is first
    (directory / "config.json").write_text((directory / "config.json").read_text() + " ")
    assert load_encoder(settings) is not first

"""Tokens taken out, masked and replaced: how many, which never, and the same again for the same seed."""
import numpy as np
import pytest
import tensorflow as tf

from tests.models.bert.tiny import PIECES, tokenizer_files
from tfrec.models.dropout import Noise
from tfrec.models.tokenizer.tokenizer import Tokenizer
from tfrec.training.encoder.augmentation import MASKED_SHARE, drop_tokens, mask_spans, mask_words

START, END, PAD, UNKNOWN = 2, 3, 0, 1
TEXT = [START, *range(10, 30), END, PAD, PAD]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(tokenizer_files(), max_tokens=24)


def noise(seed: int = 3) -> Noise:
    return Noise(tf.constant([seed, 0]))


IDS = tf.constant([TEXT] * 500)
FREE = np.array(TEXT) > 3


def test_a_vocabulary_without_a_mask_has_the_unknown_piece_for_it(tokenizer):
    assert (tokenizer.mask, Tokenizer(tokenizer_files([*PIECES, "[MASK]"]), max_tokens=8).mask) == (UNKNOWN, len(PIECES))


def test_dropped_tokens_are_padding(tokenizer):
    found = drop_tokens(IDS, 0.3, noise(), tokenizer).numpy()
    gone = found != IDS.numpy()
    assert (found[gone] == PAD).all()
    assert not gone[:, ~FREE].any()
    assert not gone[:, 1].any()  # one piece is left of every text
    assert gone[:, FREE][:, 1:].mean() == pytest.approx(0.3, abs=0.02)


def test_masked_spans(tokenizer):
    found = mask_spans(IDS, 0.2, noise(), tokenizer).numpy()
    gone = found != IDS.numpy()
    assert (found[gone] == tokenizer.mask).all()
    assert not gone[:, ~FREE].any()
    assert gone[:, 4:20].mean() == pytest.approx(0.2, abs=0.02)
    after = gone[:, 5:20][gone[:, 4:19]]
    assert after.mean() > 0.6  # a masked piece is followed by one: of a span of 3, two are


def test_words_to_be_guessed(tokenizer):
    shown, positions, predicted = (t.numpy() for t in mask_words(IDS, noise(), tokenizer, vocabulary=len(PIECES)))
    assert positions.shape == predicted.shape == (500, 4)  # 15% of a width of 24 is 3.6
    assert predicted.sum(1).tolist() == [3] * 500  # and of the text's 20 pieces 3
    assert FREE[positions[predicted > 0]].all()
    own = np.take_along_axis(IDS.numpy(), positions, 1)
    now = np.take_along_axis(shown, positions, 1)
    assert (now[predicted == 0] == own[predicted == 0]).all()
    masked, kept = (now == tokenizer.mask)[predicted > 0].mean(), (now == own)[predicted > 0].mean()
    assert masked == pytest.approx(0.8, abs=0.04)
    assert kept == pytest.approx(0.1, abs=0.03)
    assert ((shown != IDS.numpy()).sum(1) <= 3).all()


def test_a_short_text_has_one_word_to_be_guessed(tokenizer):
    ids = tf.constant([[START, 10, END] + [PAD] * 21, [START, END] + [PAD] * 22])
    _, positions, predicted = mask_words(ids, noise(), tokenizer, vocabulary=len(PIECES))
    assert predicted.numpy().sum(1).tolist() == [1, 0]
    assert int(positions[0, 0]) == 1
    assert MASKED_SHARE == 0.15


@pytest.mark.parametrize("augment", [
    lambda n, t: drop_tokens(IDS, 0.5, n, t), lambda n, t: mask_spans(IDS, 0.5, n, t),
    lambda n, t: mask_words(IDS, n, t, vocabulary=len(PIECES))[0],
], ids=["drop_tokens", "mask_spans", "mask_words"])
def test_the_same_seed_does_the_same(tokenizer, augment):
    np.testing.assert_array_equal(augment(noise(), tokenizer), augment(noise(), tokenizer))
    assert (augment(noise(), tokenizer).numpy() != augment(noise(4), tokenizer).numpy()).any()
    compiled = tf.function(lambda: augment(noise(), tokenizer), jit_compile=True, autograph=False)
    first = compiled().numpy()  # XLA draws other numbers than the plain kernels do
    np.testing.assert_array_equal(first, compiled())
    assert (first[:, ~FREE] == IDS.numpy()[:, ~FREE]).all()

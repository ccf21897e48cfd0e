"""Each family that loads gives PyTorch's vectors (golden/make_families.py), and is tuned, written and read again."""
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.models.bert.families import CONFIGS, write_family, write_sentence_modules
from tests.models.bert.test_peft import stir
from tests.models.bert.tiny import from_saved_model
from tfrec.models.bert import peft
from tfrec.models.bert.bert_files import write_encoder
from tfrec.models.bert.peft_config import RANKS, PeftConfig
from tfrec.models.pretrained.prompts import ROLES
from tfrec.models.text_encoder import TextEncoder

GOLDEN = json.loads((Path(__file__).parent / "golden" / "families.json").read_text())
TEXTS = GOLDEN["texts"]


@pytest.fixture(scope="module", params=CONFIGS)
def family(request, tmp_path_factory) -> tuple[str, TextEncoder]:
    directory = write_family(tmp_path_factory.mktemp("family") / "encoder", request.param)
    return request.param, TextEncoder(str(directory), max_tokens=32)


def test_vectors_are_those_of_pytorch(family):
    name, encoder = family
    np.testing.assert_allclose(encoder(tf.constant(TEXTS)), GOLDEN[name], atol=1e-5)  # in a batch, beside padding
    np.testing.assert_allclose(encoder.encode(TEXTS, batch_size=1), GOLDEN[name], atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "adapters", "prefix", "top", "full"])
def test_each_family_is_tuned_by_each_method(tmp_path, family, method):
    name, _ = family
    encoder = TextEncoder(str(write_family(tmp_path / "parent", name)), max_tokens=32)
    tuned = peft.apply(encoder.bert, PeftConfig(method, RANKS.get(method, 0), 1 if method == "top" else 0))
    stir(tuned.trained, by=0.1)
    expected = encoder(tf.constant(TEXTS))
    write_encoder(encoder.bert, encoder.files, tmp_path / "new", tuned=tuned, provenance={})
    np.testing.assert_allclose(TextEncoder(str(tmp_path / "new"), max_tokens=32)(tf.constant(TEXTS)), expected, atol=1e-5)
    assert np.abs(expected - np.array(GOLDEN[name])).max() > 1e-3


@pytest.fixture(scope="module")
def sentence(tmp_path_factory) -> TextEncoder:
    return TextEncoder(str(write_sentence_modules(tmp_path_factory.mktemp("sentence") / "encoder")), max_tokens=32)


@pytest.mark.parametrize("role", ROLES)
def test_dense_and_prompts_are_those_of_sentence_transformers(sentence, role):
    assert sentence.width == 6
    np.testing.assert_allclose(sentence(tf.constant(TEXTS), role=role), GOLDEN[role], atol=1e-5)
    np.testing.assert_allclose(sentence.encode(TEXTS, role=role, batch_size=2), GOLDEN[role], atol=1e-5)


def test_an_empty_text_has_no_prompt(sentence):
    for role in ROLES:
        assert not sentence(tf.constant(["", " \u200b"]), role=role).numpy().any()


def test_a_setting_goes_over_the_prompts_of_the_checkpoint(sentence):
    other = TextEncoder(sentence.checkpoint, max_tokens=32, query_prompt="passage: ", item_prompt="")
    np.testing.assert_allclose(other(tf.constant(TEXTS), role="query"), GOLDEN["item"], atol=1e-5)
    assert np.abs(other(tf.constant(TEXTS), role="item") - np.array(GOLDEN["item"])).max() > 1e-3


def test_sentencepiece_is_part_of_a_saved_model(tmp_path):
    encoder = TextEncoder(str(write_family(tmp_path / "encoder", "xlm-roberta")), max_tokens=32)
    np.testing.assert_allclose(from_saved_model(encoder, tmp_path / "saved", TEXTS), GOLDEN["xlm-roberta"], atol=1e-5)

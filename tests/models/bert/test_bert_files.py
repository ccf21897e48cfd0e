"""A BERT is written and read again: the same states, the same names, nothing lost."""
import json

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

from tests.models.bert.test_peft import IDS, METHODS, name, stir
from tests.models.bert.tiny import arrays, from_saved_model, write_bert, write_json
from tfrec.errors import UsageError
from tfrec.models.bert import peft
from tfrec.models.bert.bert_files import load_bert, write_encoder
from tfrec.models.bert.peft_config import UNMERGEABLE, PeftConfig
from tfrec.models.pretrained.checkpoint_files import read_checkpoint
from tfrec.models.text_encoder import TextEncoder


@pytest.fixture
def parent(tmp_path):
    """A checkpoint with a pooler, which nothing here uses, and pooling by the first token."""
    pooler = {"pooler.dense.weight": np.ones((16, 16), np.float32), "pooler.dense.bias": np.ones(16, np.float32)}
    directory = write_bert(tmp_path / "parent", weights={f"bert.{n}": a for n, a in (arrays() | pooler).items()})
    write_json(directory / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})
    return read_checkpoint(str(directory))


def test_what_is_not_changed_is_written_as_it_was(parent, tmp_path):
    bert = load_bert(parent)
    write_encoder(bert, parent, tmp_path / "new", tuned=peft.apply(bert, PeftConfig("full", 0, 0)), provenance={"parent": "it"})
    new = load_file(tmp_path / "new" / "model.safetensors")
    assert new.keys() == parent.weights().keys()
    for key, array in parent.weights().items():
        np.testing.assert_array_equal(new[key], array)
    assert json.loads((tmp_path / "new" / "config.json").read_text())["hidden_size"] == 16
    assert json.loads((tmp_path / "new" / "tuning.json").read_text()) == {"parent": "it"}
    again = read_checkpoint(str(tmp_path / "new"))
    assert (again.tokenizer.pieces, again.modules.pooling) == (parent.tokenizer.pieces, "cls")


@pytest.mark.parametrize("peft_config", [METHODS[0], METHODS[1], METHODS[4], PeftConfig("top", 0, 1)], ids=name)
def test_a_tuned_encoder_is_read_as_it_was_written(parent, tmp_path, peft_config):
    bert = load_bert(parent)
    tuned = peft.apply(bert, peft_config)
    stir(tuned.trained, by=0.1)
    expected = bert(IDS)
    write_encoder(bert, parent, tmp_path / "new", tuned=tuned, provenance={})
    again = load_bert(read_checkpoint(str(tmp_path / "new")))
    np.testing.assert_allclose(again(IDS)[0], expected[0], atol=1e-5)
    assert np.abs(again(IDS)[0] - load_bert(parent)(IDS)[0]).max() > 1e-3
    plain = peft_config.method not in UNMERGEABLE
    assert (len(again.weights) == 5 + 2 * 12) == plain  # the graph that is served is unchanged, or carries what it must


def test_an_encoder_with_adapters_is_part_of_a_saved_model(parent, tmp_path):
    bert = load_bert(parent)
    tuned = peft.apply(bert, PeftConfig("adapters", 3, 0))
    stir(tuned.trained)
    write_encoder(bert, parent, tmp_path / "new", tuned=tuned, provenance={})
    encoder = TextEncoder(str(tmp_path / "new"), max_tokens=12)
    again = from_saved_model(encoder, tmp_path / "saved", ["heat", ""])
    np.testing.assert_allclose(again, encoder(tf.constant(["heat", ""])), atol=1e-6)


def test_nothing_is_written_over(parent, tmp_path):
    bert = load_bert(parent)
    tuned = peft.apply(bert, PeftConfig("lora", 2, 0))
    (tmp_path / "new").mkdir()
    with pytest.raises(UsageError, match=r"new exists already. Name another output, or remove it."):
        write_encoder(bert, parent, tmp_path / "new", tuned=tuned, provenance={})
    assert list((tmp_path / "new").iterdir()) == []

"""Masked words: a text that follows a rule is guessed better after training, and the head is gone."""
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.eagerly import eagerly
from tests.models.bert.tiny import PIECES
from tfrec.config import Config, load_config
from tfrec.errors import DataError
from tfrec.models.bert.bert_files import load_bert
from tfrec.models.pretrained.checkpoint_files import read_checkpoint
from tfrec.models.text_encoder import TextEncoder
from tfrec.training.encoder.new_encoder import peft_config_of
from tfrec.training.encoder.pretrain import MaskedWords, pretrain, text_batches

TEXTS = [f"{a} {b} {a} {b} {a} {b}" for a in "abcdefgh" for b in "stuvwxyz"]  # two letters, again and again


def config(encoder: str, *words: str) -> Config:
    return load_config(None, [f"text.encoder={encoder}", "text.max_tokens=8", "text.tuning=full", "tuning.batch_size=32",
                              "tuning.epochs=2", "tuning.learning_rate=0.05", "tuning.average=0", *words])


@eagerly()
def test_masked_words_are_learnt_and_the_head_is_dropped(tiny_checkpoint, tmp_path):
    made = pretrain(config(tiny_checkpoint), [*TEXTS, TEXTS[0], " "], tmp_path / "new")
    assert made.examples == 64
    assert made.held_out_loss < made.held_out_loss_before - 0.2
    again = load_bert(read_checkpoint(str(tmp_path / "new")))
    assert len(again.weights) == 5 + 2 * 12
    told = json.loads((tmp_path / "new" / "tuning.json").read_text())
    assert (told["by"], told["trained_parameters"]) == ("pretraining", made.trained_parameters)


def test_the_loss_by_hand(tiny_checkpoint):
    """A head of zeros says every piece is as likely as its bias has it."""
    settled = config(tiny_checkpoint)
    encoder = TextEncoder(tiny_checkpoint, max_tokens=8)
    model = MaskedWords(encoder, peft_config_of(settled, encoder), settings=settled.tuning, seed=0)
    model.norm.gamma.assign(tf.zeros_like(model.norm.gamma))
    ids, batch = model.encoder_inputs(next(iter(text_batches(encoder, TEXTS, config=settled).epoch(0))), None)
    states = [encoder.bert(i) for i in ids]
    assert float(model.batch_loss(batch, ids, states, training=False)) == pytest.approx(np.log(len(PIECES)), rel=1e-5)


@eagerly()
def test_with_replay_whole_texts_stay_where_they_were(tiny_checkpoint, tmp_path):
    parent = TextEncoder(tiny_checkpoint, max_tokens=8).encode(TEXTS, batch_size=64)
    moved = []
    for replay in (0, 30):
        pretrain(config(tiny_checkpoint, f"tuning.replay={replay}"), TEXTS, tmp_path / str(replay))
        vectors = TextEncoder(str(tmp_path / str(replay)), max_tokens=8).encode(TEXTS, batch_size=64)
        moved.append(float(1 - (vectors * parent).sum(1).mean()))
    assert moved[1] < moved[0] / 2


def test_too_few_texts(tiny_checkpoint, tmp_path):
    with pytest.raises(DataError, match=r"pretraining needs at least 11 different texts, got 1"):
        pretrain(config(tiny_checkpoint), ["a b", "a b"], tmp_path / "new")

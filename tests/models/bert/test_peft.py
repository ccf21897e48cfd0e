"""Low-rank matrices, adapters and prefixes: what they compute, what of BERT they train, and that a directory keeps them."""
import numpy as np
import pytest
import tensorflow as tf

from tests.models.bert.tiny import CONFIG, write_bert
from tfrec.errors import ModelError
from tfrec.models.bert import peft
from tfrec.models.bert.bert import Bert
from tfrec.models.bert.bert_files import load_bert
from tfrec.models.bert.peft_config import RANKS, PeftConfig, first_layer
from tfrec.models.bert.peft_layers import Adapted, LowRank, Prefix
from tfrec.models.pretrained.checkpoint_files import read_checkpoint

IDS = tf.constant([[2, 5, 6, 7, 3], [2, 9, 3, 0, 0]])
METHODS = [PeftConfig("lora", 4, 0), PeftConfig("adapters", 3, 0), PeftConfig("prefix", 5, 0), PeftConfig("lora", 2, 1),
           PeftConfig("prefix", 2, 1)]


def name(peft_config: PeftConfig) -> str:
    return f"{peft_config.method}-{peft_config.first}"


@pytest.fixture
def bert(tiny_checkpoint) -> Bert:
    return load_bert(read_checkpoint(tiny_checkpoint))


def stir(variables: list[tf.Variable], *, by: float = 0.3) -> None:
    rng = np.random.default_rng(5)
    for variable in variables:
        variable.assign_add(rng.normal(0, by, variable.shape).astype(np.float32))


def test_a_low_rank_matrix_by_hand():
    dense = tf.keras.layers.Dense(2)
    dense(tf.zeros([1, 3]))
    dense.set_weights([np.array([[1, 0], [0, 1], [1, 1]], np.float32), np.array([0.5, 0], np.float32)])
    layer = LowRank(dense, 1)
    x = tf.constant([[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(layer(x), [[4.5, 5.0]])  # nothing is changed at first
    layer.a.assign([[1.0], [0.0], [-1.0]])
    layer.b.assign([[0.5, 2.0]])
    # x A = -2; times B = [-1, -4]; times s = 2 is [-2, -8]
    np.testing.assert_allclose(layer(x), [[2.5, -3.0]])
    merged = layer.merged()
    np.testing.assert_allclose(merged.kernel, [[2, 4], [0, 1], [0, -3]])  # W + 2 A B
    np.testing.assert_allclose(merged(x), [[2.5, -3.0]])


def test_an_adapter_by_hand():
    dense = tf.keras.layers.Dense(2, use_bias=False)
    dense(tf.zeros([1, 1]))
    dense.set_weights([np.array([[1, 3]], np.float32)])
    layer = Adapted(dense, 1)
    np.testing.assert_allclose(layer(tf.constant([[1.0]])), [[1, 3]])
    layer.down.set_weights([np.array([[2.0], [1.0]]), np.array([-5.0])])
    layer.up.set_weights([np.array([[1.0, 10.0]]), np.array([0.5, 0.0])])
    # z = [1, 3]; z D + d = 0; gelu(0) = 0; only u is added
    np.testing.assert_allclose(layer(tf.constant([[1.0]])), [[1.5, 3]])


def test_a_prefix_by_hand():
    prefix = Prefix(length=1, heads=1, size=2)
    prefix.keys.assign([[[1.0, 0.0]]])
    prefix.values.assign([[[5.0, 6.0]]])
    prefix.logits.assign([[-0.5]])
    k, v, bias = prefix(tf.zeros([1, 1, 2, 2]), tf.ones([1, 1, 2, 2]), tf.constant([[[[0.0, -1e9]]]]))
    assert k.numpy().tolist() == [[[[1, 0], [0, 0], [0, 0]]]]
    assert v.numpy().tolist() == [[[[5, 6], [1, 1], [1, 1]]]]
    np.testing.assert_allclose(bias, [[[[-0.5, 0, -1e9]]]])


@pytest.mark.parametrize("peft_config", METHODS, ids=name)
def test_the_encoder_is_unchanged_at_first_or_nearly(bert, peft_config):
    before = bert(IDS)
    peft.apply(bert, peft_config)
    np.testing.assert_allclose(bert(IDS)[0], before[0], atol=0.2 if peft_config.method == "prefix" else 1e-6)


@pytest.mark.parametrize("peft_config", METHODS, ids=name)
def test_each_trained_variable_changes_the_states(bert, peft_config):
    tuned = peft.apply(bert, peft_config)
    stir(tuned.trained, by=0.1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(bert(IDS)[..., 0] ** 2)
    gradients = tape.gradient(loss, tuned.trained)
    assert all(g is not None and np.abs(tf.convert_to_tensor(g)).max() > 0 for g in gradients)


def test_the_gradient_is_the_slope(bert):
    """Of a direction in all low-rank matrices, against differences."""
    tuned = peft.apply(bert, PeftConfig("lora", 3, 0))
    stir(tuned.trained)

    def loss() -> tf.Tensor:
        return tf.reduce_mean(bert(IDS)[:, :3, 0] ** 2)

    with tf.GradientTape() as tape:
        value = loss()
    rng = np.random.default_rng(1)
    direction = [rng.normal(size=v.shape).astype(np.float32) for v in tuned.trained]
    slope = sum(float(tf.reduce_sum(g * w)) for g, w in zip(tape.gradient(value, tuned.trained), direction, strict=True))
    ends = []
    for step in (1e-3, -2e-3):
        for variable, w in zip(tuned.trained, direction, strict=True):
            variable.assign_add(step * w)
        ends.append(float(loss()))
    assert (ends[0] - ends[1]) / 2e-3 == pytest.approx(slope, rel=0.03)


def test_what_each_method_trains(bert, tiny_checkpoint):
    width, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    counts = {}
    for method, first in (("lora", 0), ("adapters", 0), ("prefix", 0), ("top", 1), ("full", 0)):
        fresh = load_bert(read_checkpoint(tiny_checkpoint))
        counts[method] = peft.apply(fresh, PeftConfig(method, 2, first)).parameters
    # of both layers: A and B of qkv, the attention's output, and both matrices of the feed-forward
    assert counts["lora"] == 2 * 2 * (width + 3 * width + 2 * width + 2 * (width + inner))
    # two adapters and two norms a layer
    assert counts["adapters"] == 2 * (2 * (2 * width * 2 + 2 + width) + 2 * 2 * width)
    # 2 keys and values a layer, and a logit a head
    assert counts["prefix"] == 2 * (2 * 2 * width + 2 * 2)
    layer = 4 * width * width + 4 * width + 2 * width * inner + inner + width + 4 * width
    assert counts["top"] == layer
    embeddings = (CONFIG["vocab_size"] + CONFIG["max_position_embeddings"] + 1) * width + 2 * width
    assert counts["full"] == 2 * layer + embeddings == sum(int(np.prod(w.shape)) for w in bert.weights)


def test_the_share_that_lora_and_adapters_train_of_minilm_is_below_3_percent():
    """6 layers of width 384 and inner width 1536, 30,522 word pieces, 512 positions."""
    layer = 4 * 384 * 384 + 4 * 384 + 2 * 384 * 1536 + 1536 + 384 + 4 * 384
    whole = 6 * layer + (30522 + 512 + 1 + 2) * 384
    lora = 6 * RANKS["lora"] * (384 + 3 * 384 + 2 * 384 + 2 * (384 + 1536))
    adapter = 6 * (2 * (2 * 384 * RANKS["adapters"] + RANKS["adapters"] + 384) + 4 * 384)
    assert max(lora, adapter) / whole < 0.03


def test_merged_equals_unmerged(bert):
    tuned = peft.apply(bert, PeftConfig("lora", 4, 0))
    stir(tuned.trained)
    expected = bert(IDS)
    peft.merge(bert)
    np.testing.assert_allclose(bert(IDS)[:, :3], expected[:, :3], atol=1e-5)
    assert len(bert.weights) == 5 + 2 * 12


def test_the_first_tuned_layer():
    assert [first_layer(method, None, layers=6) for method in ("top", "lora", "full")] == [4, 0, 0]
    assert [first_layer("lora", n, layers=6) for n in (2, 6, 9)] == [4, 0, 0]


@pytest.mark.parametrize("peft_config", METHODS[:3], ids=name)
def test_compiled_by_xla_equals_eager(bert, peft_config):
    stir(peft.apply(bert, peft_config).trained, by=0.1)
    np.testing.assert_allclose(tf.function(bert, jit_compile=True)(IDS)[0], bert(IDS)[0], atol=1e-5)


def test_adapters_go_on_and_others_are_refused(bert):
    peft.apply(bert, PeftConfig("adapters", 3, 0))
    layers = [type(block.output_dense.dense) for block in bert.blocks]
    again = peft.apply(bert, PeftConfig("adapters", 3, 0))
    assert again.parameters > 0
    assert layers == [type(block.output_dense.dense) for block in bert.blocks] == [tf.keras.layers.Dense] * 2
    with pytest.raises(ModelError, match=r"has adapters of size 3 from layer 0 on, .* tuned by lora of size 8"):
        peft.apply(bert, PeftConfig("lora", 8, 0))


def test_adapters_of_the_configuration_must_be_in_the_weights(tmp_path):
    directory = write_bert(tmp_path / "bert", **PeftConfig("prefix", 2, 0).encoder_config())
    with pytest.raises(ModelError, match=r"expected an array 'tfrec.layer.0.prefix.keys', found none"):
        load_bert(read_checkpoint(str(directory)))

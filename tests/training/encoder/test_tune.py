"""Tuning on pairs whose right answer is known: each method learns it, keeps what is frozen, and computes no more than it must."""
import json
import logging

import numpy as np
import pytest
import tensorflow as tf

from tests.eagerly import eagerly
from tests.models.bert.tiny import arrays, write_bert
from tfrec.config import Config, load_config
from tfrec.data.examples.pairs import Pairs
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.errors import DataError, UsageError
from tfrec.models.bert.bert_files import load_bert
from tfrec.models.pretrained.checkpoint_files import read_checkpoint
from tfrec.models.text_encoder import TextEncoder
from tfrec.training.encoder import tuning_loop
from tfrec.training.encoder.example_batches import ExampleBatches
from tfrec.training.encoder.new_encoder import Tuned, peft_config_of
from tfrec.training.encoder.tune import PairModel, pair_batches, tune

WORDS = ("heat", "ice", "dune", "moon", "star", "jaws", "big", "up")
ITEMS = Catalogue([Item(id=f"{a}{b}", text=f"{a} {b}") for a in WORDS for b in ("x", "y")])
# a query is the item's word spelt otherwise, which nothing but pairs can tell
SPELT = {word: chr(ord("0") + n) * 2 for n, word in enumerate(WORDS)}
PAIRS = Pairs.of([(f"{SPELT[a]} {b} {n}", f"{a}{b}", 1.0) for a in WORDS for b in "xy" for n in range(12)], ITEMS)

OLD = [f"{a}{b}" for a in "abcdef" for b in "ghijkl"]  # texts to be kept
RATES = {"lora": 0.1, "prefix": 0.2, "top": 0.05}  # for a BERT of width 16


def config(encoder: str, *words: str) -> Config:
    return load_config(None, [f"text.encoder={encoder}", "text.max_tokens=12", "tuning.batch_size=96", "tuning.epochs=2",
                              "tuning.average=0.5", *words])


def built(settled: Config) -> tuple[PairModel, ExampleBatches]:
    encoder = TextEncoder(settled.text.encoder, max_tokens=12)
    model = PairModel(encoder, peft_config_of(settled, encoder), settings=settled.tuning, seed=0)
    return model, pair_batches(encoder, PAIRS, ITEMS.texts, config=settled)


@pytest.fixture(scope="module")
def tuned(tiny_checkpoint, tmp_path_factory):
    """`tuned("lora")` -> what tuning by it made, once for all tests."""
    made = {}

    def of(method: str, *words: str) -> Tuned:
        if (method, *words) not in made:
            settled = config(tiny_checkpoint, f"text.tuning={method}", f"tuning.learning_rate={RATES[method]}", *words)
            with eagerly():
                made[method, *words] = tune(settled, ITEMS, PAIRS, tmp_path_factory.mktemp(method) / "new", replay=OLD)
        return made[method, *words]

    return of


@pytest.fixture(scope="module")
def one_layer(tmp_path_factory) -> str:
    """Directory of a BERT of one layer: a second one says nothing more of what can be compiled."""
    weights = {name: array for name, array in arrays().items() if "layer.1." not in name}
    return str(write_bert(tmp_path_factory.mktemp("one_layer") / "bert", weights=weights, num_hidden_layers=1))


@pytest.mark.parametrize("method", RATES)
def test_it_learns_and_says_what_it_trained(tiny_checkpoint, tuned, caplog, method):
    caplog.set_level(logging.INFO)
    made = tuned(method)
    assert made.held_out_loss < made.held_out_loss_before - 0.02
    assert f"{method} trains {made.trained_parameters:,} of 7,280 parameters" in caplog.text
    told = json.loads((made.encoder / "tuning.json").read_text())
    assert (told["parent"], told["by"], told["text"]["tuning"]) == (tiny_checkpoint, "tuning", method)
    again = TextEncoder(str(made.encoder), max_tokens=12)
    assert np.abs(again(ITEMS.texts) - TextEncoder(tiny_checkpoint, max_tokens=12)(ITEMS.texts)).max() > 1e-3


def test_what_is_frozen_stays(tiny_checkpoint, tuned):
    before, after = (load_bert(read_checkpoint(str(d))) for d in (tiny_checkpoint, tuned("top").encoder))
    for layer in ("words", "positions", "norm"):
        for a, b in zip(getattr(before, layer).get_weights(), getattr(after, layer).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    same = [np.array_equal(a, b) for a, b in zip(before.blocks[0].get_weights(), after.blocks[0].get_weights(), strict=True)]
    moved = [not np.array_equal(a, b) for a, b in zip(before.blocks[1].get_weights(), after.blocks[1].get_weights(), strict=True)]
    assert all(same)
    assert all(moved)


def test_the_backward_pass_ends_at_the_first_trained_layer(tiny_checkpoint):
    """By the matrix products that a step's gradients need: none below, and no gradient of a frozen matrix."""
    products = {}
    for name, words in {"full": ["text.tuning=full"], "top": ["text.tuning=top"], "lora": ["tuning.layers=1"]}.items():
        model, data = built(config(tiny_checkpoint, "tuning.dropout=0", *words))
        batch = next(iter(data.epoch(0)))

        def step(batch, model=model):
            return [tf.convert_to_tensor(g) for g in model.gradients(batch, tf.constant([0, 0]))[1]]

        graph = tf.function(step).get_concrete_function(batch).graph
        needed, stack = set(), [t.op for t in graph.outputs]
        while stack:
            op = stack.pop()
            if op not in needed:
                needed.add(op)
                stack += [t.op for t in op.inputs]
        products[name] = sum(op.type == "MatMul" for op in needed)
    # two texts: a layer has 4 products forward and 8 backward; the loss 1 and 2. Of `top`, the lower layer has 4 forward
    assert products["full"] == 2 * 2 * 12 + 3 - 0
    assert products["top"] == 2 * (4 + 12 - 1) + 3  # what the layer reads is frozen: its first matrix sends nothing down
    # forward 4 and A B 4; backward of 4: down to the layer's input but for the first 3, of A 2 and of B 2 more each
    assert products["lora"] < products["top"] + 2 * 4 * 5


def test_optimiser_slots_are_those_of_what_is_trained(tiny_checkpoint):
    settled = config(tiny_checkpoint)
    model, _ = built(settled)
    optimizer = tuning_loop.tuning_optimiser(settled, steps=10)
    optimizer.build(model.trained)
    assert len(optimizer.variables) <= 2 * len(model.trained) + 2
    assert model.tuned.parameters == sum(int(np.prod(v.shape)) for v in model.trained)


def test_a_step_compiled_by_xla_does_what_the_plain_one_does(one_layer):
    model, data = built(config(one_layer, "text.tuning=full", "tuning.dropout=0"))
    batch, seed = next(iter(data.epoch(0))), tf.constant([1, 2])

    def step(b):
        loss, gradients = model.gradients(b, seed)
        return loss, tf.linalg.global_norm([tf.convert_to_tensor(g) for g in gradients])

    compiled = tf.function(step, jit_compile=True, autograph=False)
    np.testing.assert_allclose(compiled(batch), step(batch), rtol=2e-3)


def test_training_is_compiled_by_xla_with_all_noise_on(one_layer):
    settled = config(one_layer, "tuning.token_dropout=0.2", "tuning.span_masking=0.2", "tuning.layers=1")
    model, data = built(settled)
    optimizer = tuning_loop.tuning_optimiser(settled, steps=10)
    optimizer.build(model.trained)
    model.compile(optimizer=optimizer)
    before, step = model.values(), tf.function(model.train_step, jit_compile=True, autograph=False)
    losses = [float(step(batch)["loss"]) for batch in data.epoch(0).take(3)]
    assert np.isfinite(losses).all()
    assert all((a != b).any() for a, b in zip(before, model.values(), strict=True))


def test_the_worst_step_is_of_that_length_and_makes_it_worse(tiny_checkpoint):
    losses = {}
    for length in (0.0, 0.5):
        model, data = built(config(tiny_checkpoint, "tuning.dropout=0", f"tuning.adversarial={length}"))
        batch = next(iter(data.epoch(0)))
        seen = []
        real = model.batch_loss
        model.batch_loss = lambda *args, real=real, seen=seen, **kw: seen.append(real(*args, **kw)) or seen[-1]
        model.gradients(batch, tf.constant([0, 0]))
        losses[length] = [float(loss) for loss in seen]
    assert losses[0.0] == pytest.approx(losses[0.5][:1])
    assert losses[0.5][1] > losses[0.5][0] + 0.01


def test_replay_holds_the_vectors_of_old_texts(tiny_checkpoint, tuned):
    parent = TextEncoder(tiny_checkpoint, max_tokens=12)(OLD).numpy()
    moved = []
    for words in ([], ["tuning.replay=20"]):
        vectors = TextEncoder(str(tuned("lora", *words).encoder), max_tokens=12)(OLD).numpy()
        moved.append(float(1 - (vectors * parent).sum(1).mean()))
    assert moved[1] < moved[0] / 2


def test_an_item_s_own_text_as_a_query_has_the_item_for_no_negative(tiny_checkpoint):
    settled = config(tiny_checkpoint)
    after = {ITEMS.texts[n]: str(ITEMS.ids[n - 1]) for n in range(16)}
    others = [("x" * n, "icex", 1.0) for n in range(1, 40)]
    pairs = Pairs.of([*((text, item, 1.0) for text, item in after.items()), *others], ITEMS)
    data = pair_batches(TextEncoder(tiny_checkpoint, max_tokens=12), pairs, ITEMS.texts, config=settled)
    batch = next(iter(data.epoch(0)))
    relevant, item = batch["relevant"].numpy(), batch["item"].numpy()
    assert (relevant[:, 0] == item).all()
    own = relevant[:, -1] >= 0
    assert 0 < own.sum() < len(own)
    assert ((relevant[own, -1] - 1) % 16 == item[own]).all()


def test_batches_are_a_function_of_seed_and_epoch_and_have_one_shape(tiny_checkpoint):
    _, data = built(config(tiny_checkpoint, "tuning.batch_size=50"))
    one, again, other = (list(data.epoch(n)) for n in (0, 0, 1))
    assert len(one) == data.steps
    assert {tuple(b["query_ids"].shape) for b in one} == {(50, 8)}
    assert all((a["item"] == b["item"]).numpy().all() for a, b in zip(one, again, strict=True))
    assert (one[0]["item"] != other[0]["item"]).numpy().any()
    assert sum(float(tf.reduce_sum(b["weight"])) for b in one) == (~PAIRS.held_out(0.1)).sum()


def test_a_schedule_is_as_long_as_the_training_and_lower_where_that_is_short():
    rate = tuning_loop.schedule(1.0, steps=100)
    np.testing.assert_allclose([float(rate(n)) for n in (0, 5, 10, 55, 100)], [0, 0.5, 1, 0.5, 0], atol=1e-6)
    short = tuning_loop.schedule(1.0, steps=8)
    # 1 step up, 7 down; at its highest sqrt(8 / 50) = 0.4
    np.testing.assert_allclose([float(short(n)) for n in (0, 1, 8)], [0, 0.4, 0], atol=1e-6)


@eagerly()
def test_it_ends_when_nothing_gets_better_and_keeps_the_best(tiny_checkpoint, tmp_path, caplog):
    settled = config(tiny_checkpoint, "tuning.learning_rate=3", "tuning.patience=1", "tuning.layers=1")
    made = tune(settled, ITEMS, PAIRS, tmp_path / "new")
    steps = -(-int((~PAIRS.held_out(0.1)).sum()) // 96)
    assert (made.epochs, made.steps, made.held_out_loss) == (0, steps, made.held_out_loss_before)
    assert "no epoch was better than none" in caplog.text
    same = TextEncoder(str(tmp_path / "new"), max_tokens=12)(ITEMS.texts)
    np.testing.assert_allclose(same, TextEncoder(tiny_checkpoint, max_tokens=12)(ITEMS.texts), atol=1e-5)


def test_what_cannot_be_tuned_is_refused(tiny_checkpoint, tmp_path):
    with pytest.raises(UsageError, match=r"text.tuning is frozen: nothing would be trained. Choose prefix, adapters, lora"):
        tune(config(tiny_checkpoint, "text.tuning=frozen"), ITEMS, PAIRS, tmp_path / "new")
    with pytest.raises(UsageError, match=r"tuning.layers is 1. For the topmost layers alone: --set text.tuning=top"):
        tune(config(tiny_checkpoint, "text.tuning=full", "tuning.layers=1"), ITEMS, PAIRS, tmp_path / "new")
    with pytest.raises(DataError, match=r"at least 2 pairs to learn and 2 to validate, got 1 and 0 of 1 pairs"):
        tune(config(tiny_checkpoint), ITEMS, Pairs.of([("q", "heatx", 1.0)], ITEMS), tmp_path / "new")


def test_it_trains_inside_the_scope_of_a_strategy(tiny_checkpoint):
    settled = config(tiny_checkpoint, "text.tuning=top", "tuning.epochs=1", "tuning.replay=1")
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        encoder = TextEncoder(tiny_checkpoint, max_tokens=12)
        data = pair_batches(encoder, PAIRS, ITEMS.texts, config=settled)
        model = PairModel(encoder, peft_config_of(settled, encoder), settings=settled.tuning, seed=0)
        result = tuning_loop.run(model, data, settled, title="tuning")
    assert result.steps == data.steps == int(model.steps.numpy())
    assert np.isfinite(result.losses).all()

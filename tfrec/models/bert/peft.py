"""Ways of changing BERT by few parameters: low-rank matrices, adapters and prefixes in; the list of what is trained out.

    lora       y = x W + b + (x A) B s               A [in, r], B [r, out], s = 2   (Hu et al. 2021, arXiv:2106.09685)
    adapters   y = z + gelu(z D + d) U + u           z the sublayer's output        (Houlsby et al. 2019, arXiv:1902.00751)
    prefix     p keys and values that every token of a layer attends to as well     (Li & Liang 2021, arXiv:2101.00190)
    top, full  the plain weights of some layers, or of all of them and the embeddings

B and U start at zero, so a change starts as none. A prefix cannot; a logit of its own keeps it almost unseen at first. LoRA ends
as plain weights (`W + s A B`). The others stay layers of their own: their arrays lie beside BERT's under the names of
`TunedParameters.own`, and config.json says which.
"""
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.config import Tuning
from tfrec.errors import ModelError
from tfrec.models.bert.bert import Bert, BertLayer

keras = tf.keras

ENTRY = "tfrec_tuning"  # of config.json, where arrays of a change lie beside the plain ones
SCALE = 2.0  # s of LoRA: alpha / r with alpha = 2 r, which keeps the learning rate's meaning when r changes
RANKS: dict[Tuning, int] = {"lora": 8, "adapters": 32, "prefix": 16}  # each 1 to 2% of a small BERT at most
UNSEEN = -4.0  # where the logits of a prefix start: e^-4 = 2% of the weight of a token whose own logit is 0
STAYS: tuple[Tuning, ...] = ("adapters", "prefix")  # that cannot be merged into plain weights


@dataclass(frozen=True)
class PeftConfig:
    """What is changed: the way, its rank (LoRA), width (adapter) or length (prefix), and the layers from `first` on."""

    method: Tuning
    rank: int
    first: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "PeftConfig | None":
        """The one that a checkpoint carries, by its config.json."""
        entry = config.get(ENTRY)
        if entry is None:
            return None
        try:
            found = cls(**entry)
        except TypeError as e:
            raise ModelError(f"config.json: expected {ENTRY} with method, rank and first, got {entry!r}. Tune it again.") from e
        if found.method not in STAYS or not all(isinstance(n, int) for n in (found.rank, found.first)):
            raise ModelError(f"config.json: expected {ENTRY} to say one of {', '.join(STAYS)} and two integers, got {entry!r}. "
                             "Tune the encoder again.")
        return found

    def entry(self) -> dict[str, Any]:
        """What config.json says of it."""
        return {ENTRY: asdict(self)} if self.method in STAYS else {}


@dataclass(frozen=True)
class TunedParameters:
    """A BERT that is ready to be trained: the variables that are, and those of them that are no plain weights, by name."""

    peft_config: PeftConfig
    trained: list[tf.Variable]
    own: dict[str, tf.Variable]

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(int(np.prod(variable.shape)) for variable in self.trained)


@tf.custom_gradient
def _low_rank_product(x: tf.Tensor, kernel: tf.Tensor, a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """x (W + s A B), as one product forward and one backward; W itself has no gradient.

    The sum of the matrices is small beside a product with a batch of tokens.
    """
    whole = kernel + tf.matmul(a, b) * SCALE

    def gradient(up: tf.Tensor) -> tuple[tf.Tensor, None, tf.Tensor, tf.Tensor]:
        narrow = tf.matmul(up, b, transpose_b=True) * SCALE
        return (tf.matmul(up, whole, transpose_b=True), None, tf.matmul(x, narrow, transpose_a=True),
                tf.matmul(tf.matmul(x, a), up, transpose_a=True) * SCALE)

    return tf.matmul(x, whole), gradient


class LowRank(keras.layers.Layer):
    """A dense layer and a low-rank matrix beside it: `[rows, in]` -> `[rows, out]`."""

    def __init__(self, dense: keras.layers.Dense, rank: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = dense
        into, out = dense.kernel.shape
        # uniform in +-1/sqrt(in), as the reference implementation has it
        start = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=int(out))
        self.a = self.add_weight(name="a", shape=[into, rank], initializer=start)
        self.b = self.add_weight(name="b", shape=[rank, out], initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        kernel, a, b = map(tf.convert_to_tensor, (self.dense.kernel, self.a, self.b))
        return tf.nn.bias_add(_low_rank_product(x, kernel, a, b), self.dense.bias)

    def merged(self) -> keras.layers.Dense:
        """The dense layer alone, with the low-rank matrix added to its own."""
        self.dense.kernel.assign_add(tf.matmul(self.a, self.b) * SCALE)
        return self.dense


class Adapted(keras.layers.Layer):
    """A dense layer and an adapter after it: `[rows, in]` -> `[rows, out]`."""

    def __init__(self, dense: keras.layers.Dense, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = dense
        out = int(dense.kernel.shape[1])
        self.down = keras.layers.Dense(width, activation=tf.nn.gelu, kernel_initializer=keras.initializers.RandomNormal(
            stddev=0.02, seed=out), name="down")
        self.up = keras.layers.Dense(out, kernel_initializer="zeros", name="up")
        self.up(self.down(tf.zeros([1, out])))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        z = self.dense(x)
        return z + self.up(self.down(z))


class Prefix(keras.layers.Layer):
    """Keys and values before those of the text: `[batch, heads, tokens, size]` -> `[batch, heads, length + tokens, size]`."""

    def __init__(self, *, length: int, heads: int, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = {"length": length, "heads": heads, "size": size}
        shape, normal = [heads, length, size], keras.initializers.RandomNormal
        self.keys = self.add_weight(name="keys", shape=shape, initializer=normal(stddev=0.02, seed=1))
        self.values = self.add_weight(name="values", shape=shape, initializer=normal(stddev=0.02, seed=2))
        self.logits = self.add_weight(name="logits", shape=shape[:2], initializer=keras.initializers.Constant(UNSEEN))

    def call(self, k: tf.Tensor, v: tf.Tensor, mask_bias: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        batch, tokens = tf.shape(k)[0], tf.shape(k)[2]
        heads, length = self.logits.shape
        k, v = (tf.concat([tf.repeat(own[None], batch, axis=0), x], axis=2) for own, x in ((self.keys, k), (self.values, v)))
        own = tf.broadcast_to(self.logits[None, :, None, :], [batch, heads, 1, length])
        return k, v, tf.concat([own, tf.broadcast_to(mask_bias, [batch, heads, 1, tokens])], axis=3)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | self.sizes


def first_layer(method: Tuning, layers: int | None, *, of: int) -> int:
    """The lowest layer that is tuned, of `of`: the top third of `top`, and all of the others, unless `layers` says how many."""
    if layers is None:
        layers = -(-of // 3) if method == "top" else of
    return max(0, of - layers)


def apply(bert: Bert, peft_config: PeftConfig) -> TunedParameters:
    """Change the layers of `bert` in place, and say what is to be trained.

    A BERT that carries adapters or a prefix already goes on with them.

    Raises:
        ModelError: it carries others than are asked for: those cannot be merged, nor trained beside new ones.
    """
    carried = bert.peft_config
    if carried is not None and carried != peft_config:
        raise ModelError(f"The encoder carries {_words(carried)}, which cannot be merged into its weights, and was to be "
                         f"tuned by {_words(peft_config)}. Ask for the same ones, or tune the encoder that it was made from.")
    blocks = bert.blocks[peft_config.first :]
    if carried is None and peft_config.method in RANKS:
        for block in blocks:
            _change_layer(block, peft_config)
        if peft_config.method in STAYS:
            bert.peft_config = peft_config
    first = peft_config.first
    own = {f"tfrec.layer.{first + i}.{name}": variable for i, block in enumerate(blocks) for name, variable in _own(block)}
    if peft_config.method == "full":
        return TunedParameters(peft_config, list(bert.trainable_weights), own)
    if peft_config.method == "top":
        return TunedParameters(peft_config, [variable for block in blocks for variable in block.trainable_weights], own)
    trained = list(own.values())
    if peft_config.method == "adapters":  # the paper trains the layer norms with them
        trained += [v for block in blocks for norm in (block.attention_norm, block.output_norm) for v in norm.trainable_weights]
    return TunedParameters(peft_config, trained, own)


def merge(bert: Bert) -> None:
    """Turn low-rank matrices into plain weights, in place."""
    for block in bert.blocks:
        for name in SUBLAYERS:
            if isinstance(layer := getattr(block, name), LowRank):
                setattr(block, name, layer.merged())


SUBLAYERS = ("qkv", "attention_output", "intermediate", "output_dense")


def plain(layer: keras.layers.Layer) -> keras.layers.Dense:
    """The dense layer inside one that has an adapter."""
    return layer.dense if isinstance(layer, Adapted) else layer


def _change_layer(block: BertLayer, peft_config: PeftConfig) -> None:
    if peft_config.method == "prefix":
        block.prefix = Prefix(length=peft_config.rank, heads=block.heads, size=block.width // block.heads, name="prefix")
    elif peft_config.method == "lora":
        for name in SUBLAYERS:
            setattr(block, name, LowRank(getattr(block, name), peft_config.rank, name=f"{name}_low_rank"))
    else:
        for name in ("attention_output", "output_dense"):
            setattr(block, name, Adapted(getattr(block, name), peft_config.rank, name=f"{name}_adapted"))


def _own(block: BertLayer) -> Iterator[tuple[str, tf.Variable]]:
    """The variables of a layer that are no plain weights, by name; names are those in a file, so they must not change."""
    if block.prefix is not None:
        yield from ((f"prefix.{name}", getattr(block.prefix, name)) for name in ("keys", "values", "logits"))
    for name in SUBLAYERS:
        layer = getattr(block, name)
        if isinstance(layer, LowRank):
            yield from ((f"{name}.a", layer.a), (f"{name}.b", layer.b))
        elif isinstance(layer, Adapted):
            for part, dense in (("down", layer.down), ("up", layer.up)):
                yield from ((f"{name}.{part}.kernel", dense.kernel), (f"{name}.{part}.bias", dense.bias))


def _words(peft_config: PeftConfig) -> str:
    return f"{peft_config.method} of size {peft_config.rank} from layer {peft_config.first} on"

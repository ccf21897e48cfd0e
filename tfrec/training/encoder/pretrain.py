"""Pretraining of the text encoder on masked words of a catalogue's own texts; `pretrain` writes a directory with a new encoder.

    loss = -log softmax(W h + c)[piece]  at masked positions,  h = norm(gelu(H state)),  W the word embeddings

(Devlin et al. 2019, arXiv:1810.04805). It needs neither queries nor behaviour, so it comes before tuning: the encoder learns the
words of the catalogue. The head H, c is trained alone for the first epoch and dropped at the end. This loss says nothing about
the vectors of whole texts, which would drift. With `tuning.replay`, the vector of a masked text stays near that of the whole text
by the parent.
"""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.config import Config, TuningConfig
from tfrec.errors import DataError
from tfrec.models.bert.peft_config import PeftConfig
from tfrec.models.dropout import Noise
from tfrec.models.text_encoder import TextEncoder
from tfrec.training.devices import compiles
from tfrec.training.encoder.augmentation import mask_words
from tfrec.training.encoder.contrastive import cosine_distance
from tfrec.training.encoder.example_batches import ExampleBatches, multiple_of_replicas, token_ids
from tfrec.training.encoder.new_encoder import Tuned, new_encoder, parent_vectors
from tfrec.training.encoder.tuned_model import Batch, TunedModel
from tfrec.training.progress import bar

keras = tf.keras

HEAD_RATE = 1e-3  # learning rate of the head while it is trained alone
HEAD_EPOCH = -1  # number of that epoch
VALIDATION_SEED = (17, 23)  # of the masks of held-out texts, which are the same after each epoch


class MaskedWords(TunedModel):
    """Learns to predict the word pieces that are masked; see `TunedModel` for the arguments."""

    def __init__(self, encoder: TextEncoder, peft_config: PeftConfig, *, settings: TuningConfig, seed: int) -> None:
        super().__init__(encoder, peft_config, settings=settings, seed=seed)
        sizes = encoder.bert.sizes
        self.dense = keras.layers.Dense(sizes["width"], activation=tf.nn.gelu, kernel_initializer="identity", name="head")
        self.norm = keras.layers.LayerNormalization(epsilon=sizes["epsilon"], name="head_norm")
        self.bias = tf.Variable(tf.zeros([sizes["vocabulary"]]), name="head_bias")
        self.norm(self.dense(tf.zeros([1, sizes["width"]])))
        self.head = [*self.dense.trainable_weights, *self.norm.trainable_weights, self.bias]
        self.encoder_weights = self.trained
        self.train(head_alone=False)

    def train(self, *, head_alone: bool) -> None:
        """Choose what is trained from now on: the head alone, or the head and the tuned part of the encoder."""
        self.trained = self.head if head_alone else [*self.encoder_weights, *self.head]
        self.restart()

    def encoder_inputs(self, batch: Batch, noise: Noise | None) -> tuple[list[tf.Tensor], Batch]:
        """The masked texts; the batch gets the masked `positions` and their `masked_weight`, both `[batch, n]`."""
        noise = Noise(tf.constant(VALIDATION_SEED)) if noise is None else noise
        shown, positions, weight = mask_words(batch["ids"], noise, self.encoder.tokenizer,
                                              vocabulary=int(self.encoder.bert.sizes["vocabulary"]))
        return [shown], batch | {"positions": positions, "masked_weight": weight * batch["weight"][:, None]}

    def batch_loss(self, batch: Batch, ids: list[tf.Tensor], states: list[tf.Tensor], *, training: bool) -> tf.Tensor:
        """The mean cross-entropy of the masked pieces, and in training `tuning.replay` times the distance from the parent."""
        piece, weight = (tf.reshape(x, [-1]) for x in (tf.gather(batch["ids"], batch["positions"], batch_dims=1),
                                                       batch["masked_weight"]))
        hidden = tf.reshape(tf.gather(states[0], batch["positions"], batch_dims=1), [-1, states[0].shape[-1]])
        hidden = self.norm(self.dense(hidden))
        logits = tf.matmul(hidden, self.encoder.bert.words.embeddings, transpose_b=True) + self.bias
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(piece, logits)
        loss = tf.math.divide_no_nan(tf.reduce_sum(each * weight), tf.reduce_sum(weight))
        if training and "vectors" in batch:
            loss += self.settings.replay * cosine_distance(self.encoder.pool_states(states[0], ids[0]), batch["vectors"])
        return loss


def text_batches(encoder: TextEncoder, texts: Sequence[str], *, config: Config) -> ExampleBatches:
    """Return batches of texts as token ids. Call it before the encoder is changed: it reads the vectors to replay.

    Raises:
        DataError: there are too few texts.
    """
    ids, vectors = token_ids(encoder, texts, role="item"), parent_vectors(config, encoder, texts)
    rows = np.random.default_rng(config.training.seed).permutation(len(texts))
    held_out = int(config.tuning.validation_share * len(texts))
    if held_out < 1:
        raise DataError(f"pretraining needs at least {int(1 / config.tuning.validation_share) + 1} different texts, got "
                        f"{len(texts)}. Give a catalogue whose items have texts.")

    def arrays(rows: npt.NDArray[np.int64], _: np.random.Generator) -> dict[str, np.ndarray]:
        batch = {"ids": ids[rows], "weight": np.ones(len(rows), np.float32)}
        return batch if vectors is None else batch | {"vectors": vectors[rows]}

    return ExampleBatches(arrays, training=rows[held_out:], held_out=rows[:held_out], seed=config.training.seed,
                          batch_size=multiple_of_replicas(config.tuning.batch_size), first_epoch=HEAD_EPOCH)


def pretrain(config: Config, texts: Sequence[str], output: Path) -> Tuned:
    """Train `text.encoder` on masked words by the method `text.tuning`.

    Args:
        config: of the run.
        texts: empty ones and repetitions are left out.
        output: directory of the new encoder; it must not exist.

    Raises:
        UsageError: `text.tuning` is frozen, or `output` exists.
        DataError: there are too few texts.
    """
    different = list(dict.fromkeys(text for text in texts if text.strip()))

    def build(encoder: TextEncoder, peft_config: PeftConfig) -> tuple[TunedModel, ExampleBatches]:
        batches = text_batches(encoder, different, config=config)
        model = MaskedWords(encoder, peft_config, settings=config.tuning, seed=config.training.seed)
        _train_head(model, batches)
        return model, batches

    return new_encoder(config, build, output, examples=len(different), title="pretraining")


def _train_head(model: MaskedWords, batches: ExampleBatches) -> None:
    """Train the head alone for an epoch: the gradients of an untrained head would be noise to the encoder."""
    model.train(head_alone=True)
    optimizer = keras.optimizers.Adam(HEAD_RATE, global_clipnorm=1.0)
    optimizer.build(model.trained)
    model.compile(optimizer=optimizer, jit_compile=compiles(None, on_gpu=False))
    with bar("training the head", total=1):
        model.fit(batches.epoch(HEAD_EPOCH), verbose=0)
    model.train(head_alone=False)

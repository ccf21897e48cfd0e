"""Masked-word training of the text encoder on a catalogue's own texts: texts in, a directory with a new encoder out.

    loss = -log softmax(W h + c)[piece]  at places that were masked,  h = norm(gelu(H state)),  W the word embeddings

(Devlin et al. 2019, arXiv:1810.04805). It needs no queries and no behaviour, so it comes before tuning: the encoder learns the
catalogue's words. The head H, c is trained first, alone, and dropped at the end. Of the vectors of whole texts this loss says
nothing, and they would drift; with `tuning.replay`, that of a masked text stays near the parent's of the whole one.
"""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.config import Config
from tfrec.errors import DataError
from tfrec.models.bert import peft
from tfrec.models.dropout import Noise
from tfrec.models.text_encoder import TextEncoder
from tfrec.training.devices import compiles
from tfrec.training.encoder.augmentation import mask_words
from tfrec.training.encoder.new_encoder import Tuned, batches, new_encoder, parent_vectors, token_ids
from tfrec.training.encoder.tuned_model import Batch, TunedModel
from tfrec.training.progress import bar

keras = tf.keras

HEAD_RATE = 1e-3  # at which the head is trained alone
JUDGED_SEED = (17, 23)  # of the masks of held-out texts: the same at each judgement


class MaskedWords(TunedModel):
    """Learns to say which word pieces were masked."""

    def __init__(self, encoder: TextEncoder, peft_config: peft.PeftConfig, *, settings: Any, seed: int) -> None:
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
        """Choose between the head, and all that is tuned with it."""
        self.trained = self.head if head_alone else [*self.encoder_weights, *self.head]
        self._start()

    def texts(self, batch: Batch, noise: Noise | None) -> list[tf.Tensor]:
        shown, _, _ = self._masked(batch, noise)
        return [shown]

    def losses(self, batch: Batch, ids: list[tf.Tensor], states: list[tf.Tensor], noise: Noise | None) -> tf.Tensor:
        places, weight = self._places
        weight *= batch["weight"][:, None]
        asked = tf.gather(batch["ids"], places, batch_dims=1)
        hidden = tf.reshape(tf.gather(states[0], places, batch_dims=1), [-1, states[0].shape[-1]])
        hidden = self.norm(self.dense(hidden))
        logits = tf.matmul(hidden, self.encoder.bert.words.embeddings, transpose_b=True) + self.bias
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.reshape(asked, [-1]), logits)
        loss = tf.math.divide_no_nan(tf.reduce_sum(each * tf.reshape(weight, [-1])), tf.reduce_sum(weight))
        if "vectors" in batch and noise is not None:
            vectors = self.encoder.pool_states(states[0], ids[0])
            loss += self.settings.replay * tf.reduce_mean(1 - tf.reduce_sum(vectors * batch["vectors"], axis=-1))
        return loss

    def _masked(self, batch: Batch, noise: Noise | None) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        noise = Noise(tf.constant(JUDGED_SEED)) if noise is None else noise
        shown, *self._places = mask_words(batch["ids"], noise, self.encoder.tokenizer,
                                          vocabulary=int(self.encoder.bert.sizes["vocabulary"]))
        return shown, *self._places


class TextInput:
    """Texts as batches of token ids, with the vectors that are to be kept."""

    def __init__(self, encoder: TextEncoder, texts: Sequence[str], *, config: Config,
                 vectors: npt.NDArray[np.float32] | None) -> None:
        self._ids, self._vectors, self._config = token_ids(encoder, texts, role="item"), vectors, config
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self.batch_size = max(1, config.tuning.batch_size // replicas) * replicas
        rows = np.random.default_rng(config.training.seed).permutation(len(texts))
        held_out = int(config.tuning.validation_share * len(texts))
        if held_out < 1:
            raise DataError(f"pretraining needs at least {int(1 / config.tuning.validation_share) + 1} different texts, got "
                            f"{len(texts)}. Give a catalogue whose items have texts.")
        self._held_out, self._learnt = rows[:held_out], rows[held_out:]
        self.steps = -(-len(self._learnt) // self.batch_size)

    def epoch(self, number: int) -> tf.data.Dataset:
        """The batches of one epoch."""
        seed = (self._config.training.seed, 1 + number)
        return batches(self._arrays, self._learnt, batch_size=self.batch_size, seed=seed)

    def validation(self) -> tf.data.Dataset:
        """The held-out texts."""
        return batches(self._arrays, self._held_out, batch_size=self.batch_size, seed=(0,))

    def _arrays(self, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> dict[str, np.ndarray]:
        found = {"ids": self._ids[rows], "weight": np.ones(len(rows), np.float32)}
        return found if self._vectors is None else found | {"vectors": self._vectors[rows]}


def pretrain(config: Config, texts: Sequence[str], output: Path) -> Tuned:
    """Train `text.encoder` on masked words of `texts`, by `text.tuning`, into the new directory `output`.

    Raises:
        UsageError: `text.tuning` is frozen.
        DataError: too few texts.
    """
    known = list(dict.fromkeys(text for text in texts if text.strip()))

    def build(encoder: TextEncoder, peft_config: peft.PeftConfig) -> tuple[TunedModel, TextInput]:
        kept = parent_vectors(config, encoder, known)
        made = TextInput(encoder, known, config=config, vectors=None if kept is None else kept[1])
        return MaskedWords(encoder, peft_config, settings=config.tuning, seed=config.training.seed), made

    return new_encoder(config, build, output, examples=len(known), title="pretraining", prepare=_train_head)


def _train_head(model: TunedModel, data: TextInput) -> None:
    """An epoch for the head alone: from a head that knows nothing, the encoder would only get noise."""
    assert isinstance(model, MaskedWords)
    model.train(head_alone=True)
    optimizer = keras.optimizers.Adam(HEAD_RATE, global_clipnorm=1.0)
    optimizer.build(model.trained)
    model.compile(optimizer=optimizer, jit_compile=compiles(None, on_gpu=False))
    with bar("training the head", total=1):
        model.fit(data.epoch(-1), verbose=0)
    model.train(head_alone=False)

"""A text encoder of which some variables are trained: the optimiser step, the moving average, and the held-out loss.

The layers below the first trained one are computed outside the gradient tape, so the backward pass ends there. Only the trained
variables have gradients and optimiser slots. A subclass says what is learnt: pairs (`tune.py`) or masked words (`pretrain.py`).
Noise is a function of (seed, step, replica).
"""
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.config import TuningConfig
from tfrec.models.bert import peft
from tfrec.models.bert.peft_config import PeftConfig
from tfrec.models.dropout import Noise
from tfrec.models.text_encoder import TextEncoder
from tfrec.models.weight_average import WeightAverage

keras = tf.keras
Batch = dict[str, tf.Tensor]


class TunedModel(keras.Model):
    """A Keras model of an encoder that is tuned. Make it inside the scope of the strategy.

    Args:
        encoder: its BERT is changed in place.
        peft_config: the PEFT method, which says what is trained.
        settings: the `tuning` section of the configuration.
        seed: of all noise.
    """

    def __init__(self, encoder: TextEncoder, peft_config: PeftConfig, *, settings: TuningConfig, seed: int) -> None:
        super().__init__()
        self.encoder, self.settings, self.seed = encoder, settings, seed
        self.tuned = peft.apply(encoder.bert, peft_config)
        self.trained = list(self.tuned.trained)
        # `full` alone trains the embeddings too; other methods do not, even where they tune layer 0
        self.trains_embeddings = peft_config.method == "full"
        first = 0 if self.trains_embeddings else peft_config.first
        self.frozen_layers, self.tuned_layers = encoder.bert.blocks[:first], encoder.bert.blocks[first:]
        self.mean_loss = keras.metrics.Mean(name="loss")
        self.restart()

    def restart(self) -> None:
        """Start the moving average and the step count anew; to be called whenever `trained` is replaced."""
        decay = self.settings.average
        self.average = WeightAverage(self.trained, decay=decay) if decay else None
        self.steps = tf.Variable(0, trainable=False, dtype=tf.int64, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

    @property
    def metrics(self) -> list[Any]:
        """The metrics that Keras resets before each epoch."""
        return [self.mean_loss]

    def encoder_inputs(self, batch: Batch, noise: Noise | None) -> tuple[list[tf.Tensor], Batch]:
        """Return the token ids to encode, an array `[batch, tokens]` for each kind of text, and the batch for `batch_loss`.

        Subclasses implement it. `noise` is None in validation.
        """
        raise NotImplementedError

    def batch_loss(self, batch: Batch, ids: list[tf.Tensor], states: list[tf.Tensor], *, training: bool) -> tf.Tensor:
        """Return the loss of the batch, given the hidden states `[batch, tokens, width]` of each array of `encoder_inputs`.

        Subclasses implement it.
        """
        raise NotImplementedError

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch: Batch) -> Any:
        """Take one optimiser step, then move the average of the weights."""
        replica = tf.distribute.get_replica_context()
        number, replicas = (replica.replica_id_in_sync_group, replica.num_replicas_in_sync) if replica else (0, 1)
        step = tf.cast(tf.stack([tf.constant(self.seed, tf.int64), self.steps]), tf.int32)
        seed = tf.random.experimental.stateless_fold_in(step, 1 + number)
        loss, gradients = self.gradients(batch, seed)
        # the optimiser adds up the gradients of all replicas
        gradients = [tf.convert_to_tensor(g) / replicas if g is not None else None for g in gradients]
        self.optimizer.apply_gradients(zip(gradients, self.trained, strict=True))
        self.count_step()
        self.mean_loss.update_state(loss)
        return {"loss": self.mean_loss.result()}

    def count_step(self) -> None:
        """Count an optimiser step: the next one draws other noise, and the moving average of weights moves."""
        self.steps.assign_add(1)
        if self.average is not None:
            self.average.update()

    @tf.autograph.experimental.do_not_convert
    def test_step(self, batch: Batch) -> Any:
        """Compute the loss of a held-out batch, without noise."""
        ids, batch = self.encoder_inputs(batch, None)
        states = [self._tuned_states(x, i, None) for x, i in zip(self._frozen_states(ids), ids, strict=True)]
        self.mean_loss.update_state(self.batch_loss(batch, ids, states, training=False))
        return {"loss": self.mean_loss.result()}

    def gradients(self, batch: Batch, seed: tf.Tensor) -> tuple[tf.Tensor, list[Any]]:
        """Return the loss, and its gradient by each trained variable.

        With `tuning.adversarial`, a second gradient is averaged with the first. It is taken where the state of each token has
        moved by that length in the direction in which the loss grows fastest (FGM: Miyato et al. 2017, arXiv:1605.07725). The
        states are those below the first trained layer, so nothing frozen has a backward pass.
        """
        ids, batch = self.encoder_inputs(batch, Noise(seed))
        frozen = [] if self.trains_embeddings else self._frozen_states(ids)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.trained)
            states = [self.encoder.bert.embed(i) for i in ids] if self.trains_embeddings else frozen
            if self.settings.adversarial:
                tape.watch(states)
            loss = self._loss(batch, ids, states, seed)
        if not self.settings.adversarial:
            return loss, tape.gradient(loss, self.trained)
        gradients, uphill = tape.gradient(loss, (self.trained, states))
        steps = [tf.stop_gradient(self.settings.adversarial * tf.math.l2_normalize(g, axis=-1)) for g in uphill]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.trained)
            states = [self.encoder.bert.embed(i) for i in ids] if self.trains_embeddings else frozen
            worst = self._loss(batch, ids, [x + s for x, s in zip(states, steps, strict=True)], seed)
        pairs = zip(gradients, tape.gradient(worst, self.trained), strict=True)
        return loss, [None if g is None else (tf.convert_to_tensor(g) + tf.convert_to_tensor(w)) / 2 for g, w in pairs]

    def _loss(self, batch: Batch, ids: list[tf.Tensor], states: list[tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        noise = Noise(tf.random.experimental.stateless_fold_in(seed, 0))  # the same in both passes of an adversarial step
        tuned = [self._tuned_states(x, i, noise) for x, i in zip(states, ids, strict=True)]
        return self.batch_loss(batch, ids, tuned, training=True)

    def _frozen_states(self, ids: list[tf.Tensor]) -> list[tf.Tensor]:
        bert = self.encoder.bert
        return [tf.stop_gradient(bert.through(bert.embed(i), i, self.frozen_layers)) for i in ids]

    def _tuned_states(self, x: tf.Tensor, ids: tf.Tensor, noise: Noise | None) -> tf.Tensor:
        rate = self.settings.dropout
        dropout_fn = None if noise is None or not rate else lambda y: noise.dropout(y, rate)
        x = self.encoder.bert.through(x, ids, self.tuned_layers, dropout_fn)
        return tf.reshape(x, tf.concat([tf.shape(ids), [-1]], axis=0))

    def text_vectors(self, ids: tf.Tensor) -> tf.Tensor:
        """Unit vectors `[batch, width]` of token ids `[batch, tokens]`, without noise; a tape need not watch what is frozen."""
        bert = self.encoder.bert
        states = [bert.embed(ids)] if self.trains_embeddings else self._frozen_states([ids])
        return self.encoder.pool_states(self._tuned_states(states[0], ids, None), ids)

    def swap_average(self) -> None:
        """Exchange the weights and their moving average, if there is one; a second call changes them back."""
        if self.average is not None:
            self.average.swap()

    def values(self) -> list[np.ndarray]:
        """Return copies of the trained variables."""
        return [weight.numpy() for weight in self.trained]

    def restore(self, values: list[np.ndarray]) -> None:
        """Set the trained variables to what `values` returned."""
        for weight, value in zip(self.trained, values, strict=True):
            weight.assign(value)

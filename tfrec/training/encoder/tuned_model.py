"""A text encoder of which some variables are trained: batches of token ids in, a loss and one optimiser step out.

What lies below the first trained layer is computed outside the gradient's tape, so the backward pass ends there; of what lies
above, only the trained variables have gradients and optimiser slots. What is learnt is said by the subclasses: pairs (`tune.py`)
or masked words (`pretrain.py`). Noise is a function of (seed, step, replica).
"""
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.config import TuningConfig
from tfrec.models.bert import peft
from tfrec.models.dropout import Noise
from tfrec.models.text_encoder import TextEncoder

keras = tf.keras
Batch = dict[str, tf.Tensor]


class TunedModel(keras.Model):
    """What the ways of tuning share. Make it inside the scope of the strategy.

    Args:
        encoder: its BERT is changed in place.
        change: which part of it is trained.
        settings: rates of noise, and the average.
        seed: of all noise.
    """

    def __init__(self, encoder: TextEncoder, peft_config: peft.PeftConfig, *, settings: TuningConfig, seed: int) -> None:
        super().__init__()
        self.encoder, self.settings, self.seed = encoder, settings, seed
        self.tuned = peft.apply(encoder.bert, peft_config)
        self.trained = list(self.tuned.trained)
        # of `full`, the embeddings are trained too, and of a prefix or an adapter in layer 0 they are not
        self.embeds = peft_config.method == "full"
        self.below, self.above = encoder.bert.blocks[: peft_config.first], encoder.bert.blocks[peft_config.first :]
        if self.embeds:
            self.below, self.above = [], list(encoder.bert.blocks)
        self.mean_loss = keras.metrics.Mean(name="loss")
        self._start()

    def _start(self) -> None:
        """Variables beside those that are trained; to be called again after more of these have been added."""
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.average = [tf.Variable(w, trainable=False, aggregation=first) for w in self.trained]
        self.steps = tf.Variable(0, trainable=False, dtype=tf.int64, aggregation=first)

    @property
    def metrics(self) -> list[Any]:
        return [self.mean_loss]

    # -- what a subclass says

    def texts(self, batch: Batch, noise: Noise | None) -> list[tf.Tensor]:
        """The token ids `[batch, tokens]` to be read, one array a kind of text."""
        raise NotImplementedError

    def losses(self, batch: Batch, ids: list[tf.Tensor], states: list[tf.Tensor], noise: Noise | None) -> tf.Tensor:
        """The loss of the batch, for the states `[batch, tokens, width]` of each array of `texts`."""
        raise NotImplementedError

    # -- steps

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch: Batch) -> Any:
        """One optimiser step, then the moving average of weights."""
        replica = tf.distribute.get_replica_context()
        number, replicas = (replica.replica_id_in_sync_group, replica.num_replicas_in_sync) if replica else (0, 1)
        step = tf.cast(tf.stack([tf.constant(self.seed, tf.int64), self.steps]), tf.int32)
        seed = tf.random.experimental.stateless_fold_in(step, 1 + number)
        loss, gradients = self.gradients(batch, seed)
        # the optimiser adds up what replicas have
        gradients = [tf.convert_to_tensor(g) / replicas if g is not None else None for g in gradients]
        self.optimizer.apply_gradients(zip(gradients, self.trained, strict=True))
        self.steps.assign_add(1)
        if self.settings.average:
            done = tf.cast(self.steps, tf.float32)
            keep = tf.minimum(self.settings.average, done / (done + 10.0))  # the first steps are forgotten fast
            for average, weight in zip(self.average, self.trained, strict=True):
                average.assign(keep * average + (1 - keep) * weight)
        self.mean_loss.update_state(loss)
        return {"loss": self.mean_loss.result()}

    @tf.autograph.experimental.do_not_convert
    def test_step(self, batch: Batch) -> Any:
        ids = self.texts(batch, None)
        states = [self._read(x, i, None) for x, i in zip(self._frozen(ids), ids, strict=True)]
        self.mean_loss.update_state(self.losses(batch, ids, states, None))
        return {"loss": self.mean_loss.result()}

    def gradients(self, batch: Batch, seed: tf.Tensor) -> tuple[tf.Tensor, list[Any]]:
        """The loss, and its gradient by each trained variable.

        With `adversarial`, the mean of that and the gradient where each token's state has taken the step of that length that
        makes the loss worst, to first order (FGM: Miyato et al. 2017, arXiv:1605.07725). The step is taken below the first
        trained layer, so nothing frozen has a backward pass for it.
        """
        noise = Noise(seed)
        ids = self.texts(batch, noise)
        frozen = [] if self.embeds else self._frozen(ids)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.trained)
            inputs = [self.encoder.bert.embed(i) for i in ids] if self.embeds else frozen
            if self.settings.adversarial:
                tape.watch(inputs)
            loss = self._loss(batch, ids, inputs, seed)
        if not self.settings.adversarial:
            return loss, tape.gradient(loss, self.trained)
        gradients, uphill = tape.gradient(loss, (self.trained, inputs))
        steps = [tf.stop_gradient(self.settings.adversarial * tf.math.l2_normalize(g, axis=-1)) for g in uphill]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.trained)
            inputs = [self.encoder.bert.embed(i) for i in ids] if self.embeds else frozen
            worst = self._loss(batch, ids, [x + s for x, s in zip(inputs, steps, strict=True)], seed)
        pairs = zip(gradients, tape.gradient(worst, self.trained), strict=True)
        return loss, [None if g is None else (tf.convert_to_tensor(g) + tf.convert_to_tensor(w)) / 2 for g, w in pairs]

    def _loss(self, batch: Batch, ids: list[tf.Tensor], inputs: list[tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        noise = Noise(tf.random.experimental.stateless_fold_in(seed, 0))  # the same at each call
        return self.losses(batch, ids, [self._read(x, i, noise) for x, i in zip(inputs, ids, strict=True)], noise)

    def _frozen(self, ids: list[tf.Tensor]) -> list[tf.Tensor]:
        bert = self.encoder.bert
        return [tf.stop_gradient(bert.through(bert.embed(i), i, self.below)) for i in ids]

    def _read(self, x: tf.Tensor, ids: tf.Tensor, noise: Noise | None) -> tf.Tensor:
        rate = self.settings.dropout
        dropout_fn = None if noise is None or not rate else lambda y: noise.dropout(y, rate)
        x = self.encoder.bert.through(x, ids, self.above, dropout_fn)
        return tf.reshape(x, tf.concat([tf.shape(ids), [-1]], axis=0))

    # -- the moving average, and the best weights so far

    def swap_average(self) -> None:
        """Exchange the weights and their moving average, where there is one; again to change back."""
        if self.settings.average:
            for average, weight in zip(self.average, self.trained, strict=True):
                kept = tf.identity(weight)
                weight.assign(average)
                average.assign(kept)

    def values(self) -> list[np.ndarray]:
        """Copies of what is trained."""
        return [weight.numpy() for weight in self.trained]

    def restore(self, values: list[np.ndarray]) -> None:
        """Give back what `values` gave."""
        for weight, value in zip(self.trained, values, strict=True):
            weight.assign(value)

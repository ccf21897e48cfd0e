"""Joint training: the retrieval loss trains the text encoder together with the towers (`training.text`).

A step encodes the texts of some items of its batch, `training.texts` at most and drawn anew in each step. All other items have
stored vectors, which are made anew after each epoch. Memory is bounded by gradient caching (Gao et al. 2021, arXiv:2101.06983):

    1. encode the texts, some at a time and outside of any tape: vectors t
    2. loss of the whole batch, and its gradients by the towers' weights and by t
    3. encode again, some at a time, each part with a tape of its own that turns the gradient by t into one by the encoder

The result is the gradient of the whole batch, but no more than `CHUNK` texts have their layers in memory. The encoder has no
dropout, so 1 and 3 agree. At the end the encoder is written to a directory of the run, by which everything else goes on.
"""
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.config import Config
from tfrec.data.items.catalogue import Catalogue
from tfrec.errors import DataError, UsageError
from tfrec.models.bert.bert_files import TRAINING, write_encoder
from tfrec.models.bert.peft_config import RANKS as SIZES
from tfrec.models.bert.peft_config import PeftConfig, first_layer
from tfrec.models.item_store import LiveTexts
from tfrec.models.lexical.lexicon import FIELDS_FILE
from tfrec.models.pretrained.checkpoint_files import fingerprint
from tfrec.models.recommender import Recommender, encode_catalogue, with_encoder
from tfrec.models.text_encoder import TextEncoder
from tfrec.models.two_tower import Batch, TwoTower
from tfrec.training.encoder.example_batches import token_ids
from tfrec.training.encoder.tuned_model import TunedModel
from tfrec.training.encoder.tuning_loop import RATES, encoder_optimiser
from tfrec.training.loop import Trainer

log = logging.getLogger(__name__)
keras = tf.keras

ENCODERS = "encoders"  # in a run directory: the encoders that trainings have made, by a digest of their files
CHUNK = 32  # texts whose layers are in memory at once
WARM_UP = 20  # steps in which the rate rises to its value


class TextState(tf.Module):
    """What an interrupted training goes on from: the optimiser of the towers, and all that is trained of the encoder."""

    def __init__(self, towers: keras.optimizers.Optimizer, encoder: keras.optimizers.Optimizer, text: TunedModel) -> None:
        super().__init__(name="text_state")
        self.towers, self.encoder = towers, encoder
        self.trained, self.average, self.steps = text.trained, text.average, text.steps

    def build(self, variables: list[tf.Variable]) -> None:
        """Make the variables of the optimisers; `variables` are the towers'."""
        self.towers.build(variables)


class JointModel(keras.Model):
    """Towers and a text encoder that are trained together. Make it inside the scope of the strategy.

    Args:
        towers: the model, which is changed.
        text: the encoder, of which a part is trained.
        tokens: `[n_items, tokens]`, the token ids of the items' texts.
        optimizer: of the encoder.
        texts: items of a step whose texts are encoded.
    """

    def __init__(self, towers: TwoTower, text: TunedModel, tokens: np.ndarray, *, optimizer: keras.optimizers.Optimizer,
                 texts: int) -> None:
        super().__init__()
        self.towers, self.text, self.texts = towers, text, texts
        self.tokens, self.pad = tf.constant(tokens), text.encoder.tokenizer.pad
        self.text_optimizer = optimizer
        self.text_optimizer.build(text.trained)
        self.mean_loss = keras.metrics.Mean(name="loss")

    @property
    def constants(self) -> str:
        """What a traced step has as constants: where it differs, a step must be traced anew."""
        return self.towers.constants

    @property
    def metrics(self) -> list[Any]:
        """The metrics that Keras resets before each epoch."""
        return [self.mean_loss]

    @tf.autograph.experimental.do_not_convert
    def train_step(self, inputs: Batch) -> dict[str, tf.Tensor]:
        """One step of both optimisers, then the moving averages of their weights."""
        loss, of_towers, of_encoder = self.gradients(inputs)
        self.optimizer.apply_gradients(zip(of_towers, self.towers.trainable_variables, strict=True))
        self.text_optimizer.apply_gradients(zip(of_encoder, self.text.trained, strict=True))
        self.towers.count_step()
        self.text.count_step()
        self.mean_loss.update_state(loss * tf.distribute.get_strategy().num_replicas_in_sync)
        return {"loss": self.mean_loss.result()}

    def gradients(self, inputs: Batch) -> tuple[tf.Tensor, list[Any], list[tf.Tensor]]:
        """The loss of a batch, and its gradients by the variables of the towers and by those that are trained of the encoder."""
        item = self.chosen(inputs)
        ids = tf.gather(self.tokens, item)
        vectors = self._encoded(ids)
        towers = self.towers.trainable_variables
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            loss = self.towers.compute_loss(inputs, training=True, live=LiveTexts(item, vectors))
        *of_towers, by_vectors = tape.gradient(loss, [*towers, vectors])
        return loss, of_towers, self._encoder_gradients(ids, tf.convert_to_tensor(by_vectors))

    def chosen(self, inputs: Batch) -> tf.Tensor:
        """The items of a batch whose texts are encoded, `[n]`, drawn by the step; sorted by length, so that padding is little."""
        item = tf.reshape(tf.concat([inputs["item"], inputs["target"]], axis=1), [-1])
        item = tf.unique(tf.boolean_mask(item, item >= 0)).y
        seed = tf.cast(tf.stack([tf.constant(self.towers.seed, tf.int64), self.towers.steps]), tf.int32)
        item = tf.gather(item, tf.argsort(tf.random.stateless_uniform(tf.shape(item), seed))[: self.texts])
        return tf.gather(item, tf.argsort(self._lengths(tf.gather(self.tokens, item))))

    def _lengths(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(ids != self.pad, tf.int32), axis=1)

    def _part(self, ids: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
        """The token ids of `CHUNK` texts, without columns that are padding in all of them."""
        part = ids[start : start + CHUNK]
        return part[:, : tf.reduce_max(self._lengths(part))]

    def _encoded(self, ids: tf.Tensor) -> tf.Tensor:
        """Text vectors `[n, width]` of token ids `[n, tokens]`."""
        width, count = self.text.encoder.width, tf.shape(ids)[0]
        parts = tf.TensorArray(tf.float32, size=-(-count // CHUNK), infer_shape=False, element_shape=[None, width])

        def body(start: tf.Tensor, made: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            return start + CHUNK, made.write(start // CHUNK, self.text.text_vectors(self._part(ids, start)))

        return tf.while_loop(lambda start, _: start < count, body, (0, parts), parallel_iterations=1)[1].concat()

    def _encoder_gradients(self, ids: tf.Tensor, by_vectors: tf.Tensor) -> list[tf.Tensor]:
        """Gradients by what is trained of the encoder, from token ids `[n, tokens]` and the gradient by their vectors."""
        def body(start: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(self.text.trained)
                vectors = self.text.text_vectors(self._part(ids, start))
            found = tape.gradient(vectors, self.text.trained, output_gradients=by_vectors[start : start + CHUNK],
                                  unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return start + CHUNK, *(total + tf.convert_to_tensor(g) for total, g in zip(sums, found, strict=True))

        zeros = [tf.zeros(variable.shape) for variable in self.text.trained]
        count = tf.shape(ids)[0]
        return list(tf.while_loop(lambda start, *_: start < count, body, (0, *zeros), parallel_iterations=1)[1:])


class JointTrainer(Trainer):
    """A `Trainer` of the towers that trains their text encoder as well; its arguments are those of `Trainer`.

    Raises:
        NothingToLearn: no target has an earlier event of the same user.
        UsageError, DataError, ModelError: as for `loaded`.
    """

    def __init__(self, recommender: Recommender, *behaviour: Any, **settings: Any) -> None:
        super().__init__(recommender, *behaviour, **settings)
        config, texts = recommender.config, recommender.catalogue.texts
        text = loaded(config, recommender.catalogue)
        rate = config.tuning.learning_rate or RATES[config.training.text]
        rises = keras.optimizers.schedules.PolynomialDecay(0.0, WARM_UP, end_learning_rate=rate)
        tokens = token_ids(text.encoder, texts, role="item")
        self.joint = JointModel(recommender.model, text, tokens, optimizer=encoder_optimiser(config, rises),
                                texts=config.training.texts)
        self.model, self._read_at = self.joint, 0

    def resumable(self, optimizer: keras.optimizers.Optimizer) -> Any:
        """What of the training is saved beside the recommender."""
        return TextState(optimizer, self.joint.text_optimizer, self.joint.text)

    def refresh(self) -> None:
        """Make the stored text vectors anew, by the moving average of the encoder, if it has moved since."""
        text, recommender = self.joint.text, self.recommender
        if self._read_at == (steps := int(text.steps.numpy())):
            return
        text.swap_average()
        recommender.text = text.encoder.encode_ids(self.joint.tokens.numpy(), batch_size=recommender.config.text.batch_size)
        text.swap_average()
        recommender.refresh()
        self._read_at = steps

    def finish(self) -> None:
        """Leave all weights at their averages, write the encoder, and read the texts of the recommender by it."""
        super().finish()
        text, recommender = self.joint.text, self.recommender
        text.swap_average()
        recommender.config = with_encoder(recommender.config, str(_written(text, recommender.config)))
        recommender.text = encode_catalogue(recommender.config, recommender.catalogue.texts)
        recommender.refresh()


def loaded(config: Config, catalogue: Catalogue) -> TunedModel:
    """The text encoder with what `training.text` trains of it.

    Raises:
        UsageError: the settings contradict one another.
        DataError: no item has a text.
        ModelError: the encoder cannot be read, or has layers that cannot be trained so.
    """
    method, settings = config.training.text, config.tuning
    if config.training.jit_compile:
        raise UsageError(f"training.jit_compile is true, but with training.text = {method} a step cannot be compiled: its texts "
                         "have many shapes. Take training.jit_compile out, or tune the encoder before: tfrec tune.")
    if not any(catalogue.texts):
        raise DataError(f"training.text = {method} trains the text encoder, but none of the {len(catalogue)} items has a text. "
                        "Give the items texts, or: --set training.text=frozen.")
    encoder = TextEncoder(config.text.encoder, max_tokens=config.text.max_tokens, query_prompt=config.text.query_prompt,
                          item_prompt=config.text.item_prompt)
    first = first_layer(method, settings.layers, layers=len(encoder.bert.blocks))
    if method == "full" and first:
        raise UsageError(f"training.text is full, which trains every layer, but tuning.layers is {settings.layers}. Take "
                         "tuning.layers out, or: --set training.text=lora.")
    return TunedModel(encoder, PeftConfig(method, settings.rank or SIZES.get(method, 0), first), settings=settings,
                      seed=config.training.seed)


def _written(text: TunedModel, config: Config) -> Path:
    """The directory of the encoder in the run, by a digest of its files: what a published version needs is never overwritten."""
    parent, encoder = config.text.encoder, text.encoder
    made = config.run / ENCODERS / "new"
    shutil.rmtree(made, ignore_errors=True)

    def keep_words(staged: Path) -> None:
        if (fields := Path(parent) / FIELDS_FILE).is_file():  # the weights of text fields, which a tuned encoder brings
            shutil.copyfile(fields, staged / FIELDS_FILE)

    provenance = {"by": TRAINING, "parent": parent, "trained_parameters": text.tuned.parameters,
                  "text": config.text.model_dump(mode="json"), "training": config.training.model_dump(mode="json"),
                  "tuning": config.tuning.model_dump(mode="json")}
    write_encoder(encoder.bert, encoder.files, made, tuned=text.tuned, provenance=provenance, finish=keep_words)
    named = made.with_name(fingerprint(str(made))[:16])
    if named.is_dir():
        shutil.rmtree(made)
    else:
        made.rename(named)
    log.info("%s trained %s parameters of the text encoder, which is in %s", config.training.text,
             f"{text.tuned.parameters:,}", named)
    return named

"""The loop that tunes an encoder: a learning rate schedule, early stopping by the held-out loss, and the best weights at the end.

The schedule is as long as the training, however short. A tenth of the steps warm up, and the rest follow half a cosine down to 0
(the first period of SGDR: Loshchilov & Hutter 2017, arXiv:1608.03983). A training of few steps has a lower rate, since the
moments of Adam are mostly noise at first.
"""
import logging
from dataclasses import dataclass

import tensorflow as tf

from tfrec.config import Config, Tuning
from tfrec.models.bert.precision import tensor_float_32
from tfrec.training.devices import compiles
from tfrec.training.early_stopping import EarlyStopping
from tfrec.training.encoder.example_batches import ExampleBatches
from tfrec.training.encoder.tuned_model import TunedModel
from tfrec.training.loop import StepProgress
from tfrec.training.progress import bar

log = logging.getLogger(__name__)
keras = tf.keras

RATES: dict[Tuning, float] = {"full": 5e-5, "top": 1e-4, "lora": 1e-3, "adapters": 1e-3, "prefix": 1e-2}
FEW_STEPS = 50  # below it, the rate falls with the square root of their number
CLIP = 1.0  # the largest norm of a gradient


@dataclass(frozen=True)
class TuningResult:
    """The held-out loss before tuning and after each epoch, and the epoch whose weights the model has (0: those before)."""

    losses: list[float]
    best: int
    steps: int


def schedule(rate: float, *, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Rise to `rate` over a tenth of the steps, and fall to 0 at the last; below `FEW_STEPS` steps the peak is lower."""
    peak = rate * min(1.0, steps / FEW_STEPS) ** 0.5
    warm = max(1, steps // 10)
    return keras.optimizers.schedules.CosineDecay(0.0, max(1, steps - warm), warmup_target=peak, warmup_steps=warm)


def tuning_optimiser(config: Config, *, steps: int) -> keras.optimizers.Optimizer:
    """The optimiser of a training of some steps. Call it inside the scope of the strategy."""
    return encoder_optimiser(config, schedule(config.tuning.learning_rate or RATES[config.text.tuning], steps=steps))


def encoder_optimiser(config: Config, rate: keras.optimizers.schedules.LearningRateSchedule) -> keras.optimizers.Optimizer:
    """AdamW without decay of biases and norms. Call it inside the scope of the strategy."""
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config.tuning.weight_decay, global_clipnorm=CLIP)
    optimizer.exclude_from_weight_decay(var_names=["bias", "norm", "logits"])
    return optimizer


def run(model: TunedModel, batches: ExampleBatches, config: Config, *, title: str) -> TuningResult:
    """Train until the held-out loss has not fallen for `tuning.patience` epochs. The model is left with its best weights.

    Args:
        model: to train, in the scope of the strategy.
        batches: to train on, and to validate on.
        config: its `tuning` section has rates and lengths.
        title: of the progress bar.
    """
    epochs = config.tuning.epochs
    optimizer = tuning_optimiser(config, steps=batches.steps * epochs)
    optimizer.build(model.trained)
    model.compile(optimizer=optimizer, jit_compile=compiles(config.training.jit_compile, on_gpu=True))
    validation = batches.validation()
    losses = [_held_out_loss(model, validation)]
    stopping = EarlyStopping(patience=config.tuning.patience, scores=[-losses[0]])
    best_weights = model.values()
    with bar(title, total=batches.steps * epochs) as advance:
        for epoch in range(epochs):
            with tensor_float_32():
                model.fit(batches.epoch(epoch), epochs=epoch + 1, initial_epoch=epoch, verbose=0,
                          callbacks=[StepProgress(advance)])
            model.swap_average()
            losses.append(_held_out_loss(model, validation))
            stopping.record(-losses[-1])
            if stopping.improved:
                best_weights = model.values()
            model.swap_average()
            log.info("epoch %d: held-out loss %.4f (before: %.4f)", epoch + 1, losses[-1], losses[0])
            if stopping.should_stop:
                break
    model.restore(best_weights)
    if stopping.best == 0:
        log.warning("no epoch was better than none: the encoder stays as it was. Try another tuning.learning_rate, or more data.")
    return TuningResult(losses, stopping.best, batches.steps * (len(losses) - 1))


def _held_out_loss(model: TunedModel, validation: tf.data.Dataset) -> float:
    return float(model.evaluate(validation, verbose=0, return_dict=True)["loss"])

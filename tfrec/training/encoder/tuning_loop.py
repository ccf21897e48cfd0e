"""Epochs of tuning with a rate that fits their number of steps, stopped when held-out texts say so; the best weights stay.

The schedule is as long as the training, however small: a tenth of the steps warms up, the rest follows half a cosine down to
nothing (SGDR's first period: Loshchilov & Hutter 2017, arXiv:1608.03983). Where there are few steps, the rate is lower as well:
the moments of Adam are mostly noise at first.
"""
import logging
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from tfrec.config import Config, Tuning
from tfrec.models.bert.precision import tensor_float_32
from tfrec.training.devices import compiles
from tfrec.training.encoder.tuned_model import TunedModel
from tfrec.training.loop import Ticks
from tfrec.training.progress import bar

log = logging.getLogger(__name__)
keras = tf.keras

RATES: dict[Tuning, float] = {"full": 5e-5, "top": 1e-4, "lora": 1e-3, "adapters": 1e-3, "prefix": 1e-2}
FEW = 50  # steps, below which the rate falls with their root
CLIP = 1.0  # the largest norm of a gradient


@dataclass(frozen=True)
class TuningResult:
    """How a tuning went: the held-out loss before it and after each epoch, and the epoch whose weights were kept (0: none)."""

    losses: list[float]
    best: int
    steps: int


def schedule(rate: float, *, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Up to `rate` over a tenth of the steps, and down to 0 at the last; a training of fewer than `FEW` steps stays lower."""
    peak = rate * min(1.0, steps / FEW) ** 0.5
    warm = max(1, steps // 10)
    return keras.optimizers.schedules.CosineDecay(0.0, max(1, steps - warm), warmup_target=peak, warmup_steps=warm)


def optimiser(config: Config, *, steps: int) -> keras.optimizers.Optimizer:
    """AdamW without decay of biases and norms. Call inside the scope of the strategy."""
    t = config.tuning
    rate = t.learning_rate or RATES[config.text.tuning]
    made = keras.optimizers.AdamW(schedule(rate, steps=steps), weight_decay=t.weight_decay, global_clipnorm=CLIP)
    made.exclude_from_weight_decay(var_names=["bias", "norm", "logits"])
    return made


def run(model: TunedModel, epoch: Callable[[int], tf.data.Dataset], validation: tf.data.Dataset, config: Config, *,
        steps: int, title: str) -> TuningResult:
    """Train until the held-out loss has not fallen for `tuning.patience` epochs; the model is left with its best weights.

    Args:
        epoch: the batches of an epoch, by its number.
        validation: the held-out batches.
        steps: of an epoch.
        title: of the progress bar.
    """
    t = config.tuning
    optimizer = optimiser(config, steps=steps * t.epochs)
    optimizer.build(model.trained)
    model.compile(optimizer=optimizer, jit_compile=compiles(config.training.jit_compile, on_gpu=True))
    losses = [_judge(model, validation)]
    best = model.values()
    done = 0
    with bar(title, total=steps * t.epochs) as advance:
        for number in range(t.epochs):
            with tensor_float_32():
                model.fit(epoch(number), epochs=number + 1, initial_epoch=number, verbose=0, callbacks=[Ticks(advance)])
            done += steps
            model.swap_average()
            losses.append(_judge(model, validation))
            if losses[-1] <= min(losses[:-1]):
                best = model.values()
            model.swap_average()
            log.info("epoch %d: held-out loss %.4f (before: %.4f)", number + 1, losses[-1], losses[0])
            if len(losses) - 1 - losses.index(min(losses)) >= t.patience:
                break
    model.restore(best)
    kept = losses.index(min(losses))
    if kept == 0:
        log.warning("no epoch was better than none: the encoder stays as it was. Try another tuning.learning_rate, or more data.")
    return TuningResult(losses, kept, done)


def _judge(model: TunedModel, validation: tf.data.Dataset) -> float:
    return float(model.evaluate(validation, verbose=0, return_dict=True)["loss"])

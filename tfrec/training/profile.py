"""Where the time of a training goes: reading texts, preparation, tracing, waiting for batches, steps, validation, saving.

A batch is made in the background while the step before it runs. So a step waits for its input only as long as its batch is not
ready when the step could begin, and only that time is the input pipeline's. The first step of a pass traces its graph, and its
batch is made at the same time: what it takes longer than a usual one is tracing, and likewise for the first validation.
"""
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import tensorflow as tf

from tfrec.training.window_batches import WindowBatches

keras = tf.keras

TRACED = (2, 22)  # steps of the first pass that the TensorBoard profile shows, after the one that traces
BOTTLENECK = 0.1  # of the time of steps: waiting longer than that for batches is worth a remark
TEXTS, PREPARATION, TRACING, INPUT, STEPS = "reading texts", "preparation", "tracing", "waiting for batches", "steps"
VALIDATION, SAVING, PROFILING, OTHER = "validation", "saving the state", "writing the profile", "everything else"
PARTS = (TEXTS, PREPARATION, TRACING, INPUT, STEPS, VALIDATION, SAVING, PROFILING)


class Profile:
    """The seconds of each part of a training, and a TensorBoard profile of some steps.

    Args:
        log_dir: where the TensorBoard profile goes; None writes none.
    """

    def __init__(self, log_dir: Path | None = None) -> None:
        self.log_dir = log_dir
        self.seconds: dict[str, list[float]] = {part: [] for part in PARTS}
        self.steps = 0
        self._began = time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The block is of the part `name`."""
        began = time.perf_counter()
        yield
        self.seconds[name].append(time.perf_counter() - began)

    def report(self) -> dict[str, Any]:
        """The parts until now with their seconds and shares, the largest first, and a sentence about the input pipeline.

        The shares are of the time since the profile was made.
        """
        whole = time.perf_counter() - self._began
        sums = {part: sum(self.seconds[part]) for part in PARTS}
        if len(validations := self.seconds[VALIDATION]) > 2:
            first = max(0.0, validations[0] - median(validations[1:]))
            sums[VALIDATION] -= first
            sums[TRACING] += first
        sums[OTHER] = max(0.0, whole - sum(sums.values()))
        parts = sorted(sums.items(), key=lambda part: -part[1])
        return {"parts": [{"part": part, "seconds": round(seconds, 2), "share": f"{seconds / whole:.1%}"}
                          for part, seconds in parts if seconds > 0],
                "input": _verdict(sums[INPUT], sums[STEPS], self.steps)}


def _verdict(waited: float, worked: float, steps: int) -> str:
    if not steps:
        return "no step was taken"
    share = waited / max(waited + worked, 1e-9)
    said = f"{steps:,} steps of {1000 * worked / steps:.1f} ms waited {1000 * waited / steps:.1f} ms each for their batch"
    if share < BOTTLENECK:
        return f"{said}: the input pipeline is no bottleneck"
    return (f"{said}: the input pipeline is a bottleneck. Raise training.batch_size, or leave the processor that makes batches "
            "less other work")


class PassProfile:
    """Enters the steps of one pass of a training in a profile.

    Args:
        profile: of the training.
        batches: of the pass; they tell when a batch is ready.
        traced: whether this is the pass whose steps the TensorBoard profile shows.
    """

    def __init__(self, profile: Profile, batches: WindowBatches, *, traced: bool) -> None:
        self._profile, self._traced = profile, traced and profile.log_dir is not None
        self._ready: dict[int, float] = {}  # when a batch of the epoch was made
        self._took: list[float] = []
        self._began = 0.0
        self._running = False
        batches.made = self._made

    def _made(self, step: int) -> None:
        self._ready[step] = time.perf_counter()

    @property
    def callback(self) -> Any:
        """A callback of Keras, for `fit`."""
        return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: self._ready.clear(),
                                              on_batch_begin=lambda batch, logs: self._begin(),
                                              on_batch_end=lambda batch, logs: self._end(batch))

    def _begin(self) -> None:
        if self._traced and len(self._took) == TRACED[0]:
            with self._profile.part(PROFILING):
                tf.profiler.experimental.start(str(self._profile.log_dir))
            self._running = True
        self._began = time.perf_counter()

    def _end(self, batch: int) -> None:
        over = time.perf_counter()
        waited = min(max(0.0, self._ready.pop(batch, 0.0) - self._began), over - self._began) if self._took else 0.0
        self._took.append(over - self._began - waited)
        self._profile.seconds[INPUT].append(waited)
        if len(self._took) >= TRACED[1]:
            self._stop()

    def finish(self) -> None:
        """The pass is over: enter its steps, less what tracing took."""
        self._stop()
        if self._took:
            tracing = max(0.0, self._took[0] - median(self._took[1:])) if len(self._took) > 1 else 0.0
            self._profile.seconds[TRACING].append(tracing)
            self._profile.seconds[STEPS].append(sum(self._took) - tracing)
            self._profile.steps += len(self._took)

    def _stop(self) -> None:
        if self._running:
            self._running = self._traced = False
            with self._profile.part(PROFILING):
                tf.profiler.experimental.stop()

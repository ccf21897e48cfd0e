"""Batches of behaviour windows, in an order that is a function of (seed, epoch).

Windows of similar length share a batch, so that a log of short histories is not mostly padding. A batch has one of a few shapes
with about the same number of positions; with `one_shape` (a TPU) all have the full length. A batch that is not full is filled up
with windows of weight 0, so no window is dropped and each shape is compiled once.
"""
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.data.examples.sequences import Windows
from tfrec.training.dataset_from_function import dataset_from_function

SHORTEST = 4  # positions of the narrowest shape; each wider one is twice as long, up to the length of the windows


class WindowBatches:
    """Batches as dictionaries of arrays `[windows, length]`, where windows * length is at most about `batch_size` full windows.

    Args:
        windows: of behaviour.
        codes: `[actions]`, the model's code of each action code in the windows.
        snapshot: `[events]`, the newest prior snapshot before each event.
        log_p: `[events]`, log p of each event's own item in that snapshot.
        context: `[events, features]`, what was known of person and moment; by default there are no features.
        batch_size: number of full-length windows in a batch, over all replicas.
        replicas: the number of windows in each batch is a multiple of this.
        one_shape: whether all batches have the full length.
    """

    def __init__(self, windows: Windows, codes: npt.NDArray[np.int32], snapshot: npt.NDArray[np.int32],
                 log_p: npt.NDArray[np.float32], *, batch_size: int, replicas: int = 1, one_shape: bool = False,
                 context: npt.NDArray[np.float32] | None = None) -> None:
        full = windows.item.shape[1]
        lengths = [full]
        while not one_shape and lengths[-1] > SHORTEST:
            lengths.append(max(SHORTEST, -(-lengths[-1] // 2)))
        self._lengths = lengths[::-1]
        self._rows = [max(replicas, batch_size * full // length // replicas * replicas) for length in self._lengths]
        self._shape_of_window = np.searchsorted(self._lengths, windows.used)
        self._windows, self._codes, self._snapshot, self._log_p = windows, codes, snapshot, log_p
        self._context = context if context is not None and context.shape[1] else None
        self._static_shape = (self._rows[-1], full) if one_shape else (None, None)
        self.made: Callable[[int], None] | None = None  # is told the number of each batch of an epoch that is ready
        self.steps = len(self._split(np.random.default_rng(0)))  # batches in each epoch

    def epoch(self, seed: int, epoch: int) -> tf.data.Dataset:
        """Return the batches of one epoch."""
        dtypes = {"item": tf.int32, "action": tf.int32, "gap": tf.int64, "target": tf.int32, "read_at": tf.int32,
                  "weight": tf.float32, "snapshot": tf.int32, "log_p": tf.float32}
        signature = {name: tf.TensorSpec(self._static_shape, dtype) for name, dtype in dtypes.items()}
        if self._context is not None:
            signature["context"] = tf.TensorSpec((*self._static_shape, self._context.shape[1]), tf.float32)
        rng = np.random.default_rng([seed, epoch])
        parts = self._split(rng)
        order = rng.permutation(len(parts))

        def make_batch(step: int) -> dict[str, np.ndarray]:
            shape, windows = parts[order[step]]
            batch = self._batch(windows, rows=self._rows[shape], length=self._lengths[shape])
            if self.made is not None:
                self.made(step)
            return batch

        return dataset_from_function(make_batch, signature, steps=self.steps)

    def _split(self, rng: np.random.Generator) -> list[tuple[int, npt.NDArray[np.int64]]]:
        """The shape and the windows of each batch.

        Windows that do not fill a batch of their shape go to the next wider one: a step with few targets is mostly noise.
        """
        parts, rest = [], np.zeros(0, np.int64)
        for shape, rows in enumerate(self._rows):
            order = np.concatenate([rest, rng.permutation(np.flatnonzero(self._shape_of_window == shape))])
            end = len(order) if shape == len(self._rows) - 1 else len(order) // rows * rows
            parts += [(shape, order[start : start + rows]) for start in range(0, end, rows)]
            rest = order[end:]
        return parts

    def _batch(self, windows: npt.NDArray[np.int64], *, rows: int, length: int) -> dict[str, np.ndarray]:
        picked = self._windows.take(np.resize(windows, rows))
        event, weight = picked.event[:, :length], picked.weight[:, :length].copy()
        weight[len(windows) :] = 0
        context = {} if self._context is None else {"context": self._context[event]}
        return context | {
            "item": picked.item[:, :length],
            "action": self._codes[picked.action[:, :length]],
            "gap": picked.gap[:, :length],
            "target": picked.target[:, :length],
            "read_at": picked.read_at[:, :length],
            "weight": weight,
            "snapshot": self._snapshot[event],
            "log_p": self._log_p[event],
        }

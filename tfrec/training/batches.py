"""Windows in, batches out, in an order that is a function of (seed, epoch).

Windows of like length stand together in one of a few shapes of the same number of places, so that a log of short histories is
not mostly padding; with `one_shape` (a TPU) there is only the longest. A batch that runs short is filled up with windows of
weight 0: no window is dropped, and a shape is compiled once.
"""
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.data.examples.sequences import Windows
from tfrec.training.generated_dataset import dataset

SHORTEST = 4  # places of the narrowest shape; each next one is twice as long, up to the windows' length


class WindowBatches:
    """Batches of dictionaries of arrays `[windows, places]` with windows * places = `batch_size` * length, or just below.

    Args:
        windows: of behaviour.
        codes: the model's action code of each action code in the windows.
        snapshot: `[events]`, the newest prior snapshot before each event.
        log_p: `[events]`, each event's own log p in that snapshot.
        batch_size: full windows a batch, over all replicas.
        replicas: a divisor of every batch.
        one_shape: whether all batches have the full length.
    """

    def __init__(self, windows: Windows, codes: npt.NDArray[np.int32], snapshot: npt.NDArray[np.int32],
                 log_p: npt.NDArray[np.float32], *, batch_size: int, replicas: int = 1, one_shape: bool = False) -> None:
        length = windows.item.shape[1]
        shapes = [length]
        while not one_shape and shapes[-1] > SHORTEST:
            shapes.append(max(SHORTEST, -(-shapes[-1] // 2)))
        self._shapes = shapes[::-1]
        self._bucket = np.searchsorted(self._shapes, windows.used)
        self._rows = [max(replicas, batch_size * length // places // replicas * replicas) for places in self._shapes]
        self._windows, self._codes, self._snapshot, self._log_p = windows, codes, snapshot, log_p
        self.steps = len(self._chunks(np.random.default_rng(0)))  # batches an epoch, the same for each
        self._one_shape = one_shape

    def epoch(self, seed: int, epoch: int) -> tf.data.Dataset:
        """The batches of one epoch."""
        places = self._shapes[-1] if self._one_shape else None
        rows = self._rows[-1] if self._one_shape else None
        kinds = {"item": tf.int32, "action": tf.int32, "gap": tf.int64, "target": tf.int32, "read_at": tf.int32,
                 "weight": tf.float32, "snapshot": tf.int32, "log_p": tf.float32}
        signature = {name: tf.TensorSpec([rows, places], kind) for name, kind in kinds.items()}
        rng = np.random.default_rng([seed, epoch])
        chunks = self._chunks(rng)
        order = rng.permutation(len(chunks))

        def batch(step: int) -> dict[str, np.ndarray]:
            bucket, windows = chunks[order[step]]
            return self._batch(windows, rows=self._rows[bucket], places=self._shapes[bucket])

        return dataset(batch, signature, steps=self.steps)

    def _chunks(self, rng: np.random.Generator) -> list[tuple[int, npt.NDArray[np.int64]]]:
        """Windows by batch. What does not fill a batch goes to the next wider shape: a step of few targets is mostly noise."""
        chunks, left = [], np.zeros(0, np.int64)
        for bucket, rows in enumerate(self._rows):
            order = np.concatenate([left, rng.permutation(np.flatnonzero(self._bucket == bucket))])
            end = len(order) if bucket == len(self._rows) - 1 else len(order) // rows * rows
            chunks += [(bucket, order[start : start + rows]) for start in range(0, end, rows)]
            left = order[end:]
        return chunks

    def _batch(self, order: npt.NDArray[np.int64], *, rows: int, places: int) -> dict[str, np.ndarray]:
        picked = self._windows.take(np.resize(order, rows))
        event, weight = picked.event[:, :places], picked.weight[:, :places].copy()
        weight[len(order) :] = 0
        return {
            "item": picked.item[:, :places],
            "action": self._codes[picked.action[:, :places]],
            "gap": picked.gap[:, :places],
            "target": picked.target[:, :places],
            "read_at": picked.read_at[:, :places],
            "weight": weight,
            "snapshot": self._snapshot[event],
            "log_p": self._log_p[event],
        }

"""Item arrays of the model: what the catalogue and the popularity prior bring, by catalogue position.

They are no weights, so they are not in a checkpoint of weights. Arrays are padded to a few capacities, so that a step is traced
and compiled anew only once in a while as the catalogue grows.
"""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.models.query_tower import HIDDEN
from tfrec.models.sampled_softmax import proposal

CAPACITY_STEP = 1024  # rows of the item arrays grow in such steps


def capacity_for(n_items: int) -> int:
    """Rows of the item arrays: `n_items` rounded up, with room for one more."""
    return (n_items // CAPACITY_STEP + 1) * CAPACITY_STEP


class LiveTexts(NamedTuple):
    """Texts that a step has encoded itself, so that their vectors have a gradient."""

    item: tf.Tensor  # [n] catalogue positions, each once
    text: tf.Tensor  # [n, text_width]


class ItemStore(tf.Module):
    """Variables that a traced step reads; new values go into the same variables where their shapes allow it.

    Attributes:
        n_items: Items of the catalogue; the rows beyond are padding.
        generation: Counts the times that a variable was replaced: a step that was traced before reads the old one.
        size: `n_items`, as a variable.
        text: `[rows, text_width]`, text vectors.
        features: `[rows, features]`, of `ItemFeatures`.
        slot: `[rows]`, residual slots; 0 for none.
        log_p: `[snapshots, rows]`, popularity; `HIDDEN` for an item that no event had touched by then.
        q: `[rows]`, chance of each item to be drawn as a negative.
        q_below: `[rows]`, the cumulative sum of `q`.
    """

    size: tf.Variable
    text: tf.Variable
    features: tf.Variable
    slot: tf.Variable
    log_p: tf.Variable
    q: tf.Variable
    q_below: tf.Variable

    def __init__(self) -> None:
        super().__init__(name="item_store")
        self.n_items = self.generation = 0

    @property
    def rows(self) -> int:
        """Rows of the item arrays, padding included."""
        return int(self.slot.shape[0])

    def text_vectors(self, rows: tf.Tensor | None = None, live: LiveTexts | None = None) -> tf.Tensor:
        """Text vectors `[n, text_width]` of catalogue positions `[n]`, by default of all rows; `live` ones replace the stored."""
        stored = tf.convert_to_tensor(self.text) if rows is None else tf.gather(self.text, rows)
        if live is None:
            return stored
        if rows is None:
            return tf.tensor_scatter_nd_update(stored, live.item[:, None], live.text)
        numbers = tf.range(tf.shape(live.item)[0])
        at = tf.gather(tf.tensor_scatter_nd_update(tf.fill([self.rows], -1), live.item[:, None], numbers), rows)
        return tf.where(at[:, None] >= 0, tf.gather(live.text, tf.maximum(at, 0)), stored)

    def set_catalogue(
        self, text: npt.NDArray[np.float32], features: npt.NDArray[np.float32], slot: npt.NDArray[np.integer]
    ) -> None:
        """Take over the catalogue's arrays, each `[n_items, ...]`."""
        self.n_items = len(text)
        self._hold("size", np.array(self.n_items))
        padding = capacity_for(len(text)) - len(text)
        for name, array in {"text": text, "features": features, "slot": slot}.items():
            self._hold(name, np.concatenate([array, np.zeros((padding, *array.shape[1:]), array.dtype)]))

    def set_prior(self, log_p: npt.NDArray[np.float32], first_touch: npt.NDArray[np.integer]) -> None:
        """Take over popularity, and the chances of negatives by its newest snapshot.

        Args:
            log_p: `[snapshots, n_items]`.
            first_touch: `[n_items]`, the first snapshot by which an event had touched the item; `snapshots` for never.
        """
        beyond = (0, self.rows - self.n_items)
        visible = np.where(first_touch[None, :] <= np.arange(len(log_p))[:, None], log_p, HIDDEN).astype(np.float32)
        self._hold("log_p", np.pad(visible, [(0, 0), beyond], constant_values=HIDDEN), shape=[None, self.rows])
        q = proposal(log_p[-1])
        self._hold("q", np.pad(q, beyond).astype(np.float32))
        self._hold("q_below", np.pad(np.cumsum(q), beyond, mode="edge").astype(np.float32))

    def _hold(self, name: str, array: np.ndarray, *, shape: Sequence[int | None] | None = None) -> None:
        """Keep an array in a variable of its shape, or of one that leaves some of its lengths open."""
        if array.dtype == np.int32:  # such a variable stays on the CPU, where a step that XLA compiled for a GPU cannot read it
            array = array.astype(np.int64)
        held = getattr(self, name, None)
        if held is not None and held.shape.is_compatible_with(array.shape) and held.dtype == array.dtype:
            held.assign(array)
        else:
            self.generation += 1
            setattr(self, name, tf.Variable(array, trainable=False, name=name, shape=shape))

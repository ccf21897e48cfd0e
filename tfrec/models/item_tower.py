"""The item tower: unit vectors of items from text, tags and numbers, and a residual for each item that has had feedback.

    v = normalise(P text + F features + id[slot])

The text carries an item from the moment it exists; the residual learns what text does not say. Residuals live in a fixed number
of slots, which are assigned at the first feedback (`residual_slots.py`). Slot 0 is the zero vector of items without feedback.
"""
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.models.dropout import Noise

keras = tf.keras


class ItemTower(keras.layers.Layer):
    """Unit vectors `[items, dim]` of text vectors `[items, text_width]`, features `[items, features]` and slots `[items]`.

    Args:
        dim: Dimension of the shared space.
        text_width: Dimension of the text vectors.
        feature_width: Columns of `ItemFeatures`.
        slots: Number of slots for residuals, slot 0 included.
        id_dropout: Share of items whose residual is hidden in a training step, so that text and features learn to stand alone.
            An item that has neither keeps its residual.
    """

    def __init__(self, *, dim: int, text_width: int, feature_width: int, slots: int, id_dropout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes: dict[str, Any] = {"dim": dim, "text_width": text_width, "feature_width": feature_width, "slots": slots,
                                      "id_dropout": id_dropout}
        self.id_dropout = id_dropout
        self.project_text = keras.layers.Dense(dim, name="project_text", kernel_initializer="glorot_uniform")
        self.project_features = keras.layers.Dense(dim, use_bias=False, name="project_features", kernel_initializer="zeros")
        near_zero = keras.initializers.RandomNormal(stddev=0.01)
        self.residual = self.add_weight(name="residual", shape=[slots, dim], initializer=near_zero)
        self.project_text.build([None, text_width])
        self.project_features.build([None, feature_width])

    def call(self, text: tf.Tensor, features: tf.Tensor, slot: tf.Tensor, noise: Noise | None = None) -> tf.Tensor:
        """Unit vectors `[n, dim]` of text `[n, text_width]`, features `[n, feature_width]` and slots `[n]`."""
        shown = tf.cast(slot > 0, tf.float32)[:, None]
        if noise is not None:
            described = tf.reduce_any(text != 0.0, axis=1, keepdims=True) | tf.reduce_any(features != 0.0, axis=1, keepdims=True)
            # of an item that nothing describes, the residual is all that there is
            shown *= tf.where(described, noise.keep_rows(tf.shape(slot)[0], self.id_dropout), 1.0)
        v = self.text_part(text) + self.project_features(features) + tf.gather(self.residual, slot) * shown
        return tf.math.l2_normalize(v, axis=-1)

    def text_part(self, text: tf.Tensor) -> tf.Tensor:
        """What text alone contributes, `[n, dim]`. A query is read by the same projection, so it meets the items it describes."""
        return self.project_text(text)

    def start_from(self, text_vectors: np.ndarray) -> None:
        """Set the projection to the principal components of the text vectors `[n, text_width]`, so that near texts start near."""
        kernel, bias = principal_components(text_vectors, dim=self.sizes["dim"])
        self.project_text.set_weights([kernel, bias])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return super().get_config() | self.sizes


def principal_components(vectors: np.ndarray, *, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """The kernel `[width, dim]` and bias `[dim]` that project vectors `[n, width]` onto their first principal components."""
    centre = vectors.mean(0)
    _, directions = np.linalg.eigh(np.cov(vectors - centre, rowvar=False))
    kernel = np.zeros([vectors.shape[1], dim], np.float32)
    kept = directions[:, ::-1][:, : min(dim, directions.shape[1])]
    kernel[:, : kept.shape[1]] = kept
    return kernel, -(centre @ kernel)

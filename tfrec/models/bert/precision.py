"""Matrix products in whole float32, on every device, from the import of the towers on.

GPUs since Ampere round the factors of a float32 product to 10 bits (TensorFloat-32) unless told otherwise. Scores of one model on
GPU and CPU were then 3e-3 apart (H200), where a published version has to give the answers that were recorded at its export.
Tuning a text encoder is where it pays, and there alone it is allowed.
"""
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

tf.config.experimental.enable_tensor_float_32_execution(False)


@contextmanager
def tensor_float_32() -> Iterator[None]:
    """Products may be rounded inside."""
    tf.config.experimental.enable_tensor_float_32_execution(True)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(False)

"""Float32 precision: importing this module makes all matrix products use full float32, on every device.

GPUs since Ampere round the factors of a float32 product to 10 bits (TensorFloat-32) by default. The scores of one model on GPU
and CPU were then 3e-3 apart (H200), but a published version has to give the answers that were recorded at its export. The
rounding pays off when a text encoder is tuned, and is allowed only there.
"""
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

tf.config.experimental.enable_tensor_float_32_execution(False)


@contextmanager
def tensor_float_32() -> Iterator[None]:
    """Allow rounded products inside a `with` block."""
    tf.config.experimental.enable_tensor_float_32_execution(True)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(False)

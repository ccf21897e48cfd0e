"""Few steps of a tiny model cost less operator by operator than the graph that they would be traced into."""
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf


@contextmanager
def eagerly() -> Iterator[None]:
    """No `tf.function` is traced and Keras trains without a graph; `@eagerly()` over a test, or `with eagerly():`.

    To trace a step of training costs as much as to run about ten of them. So this pays where a handful of steps is all that a
    test needs. That a step can be traced, or compiled, is for other tests to say.
    """
    with warnings.catch_warnings():
        # what maps over a dataset is traced all the same, and TensorFlow warns of it
        warnings.filterwarnings("ignore", message="Even though the `tf.config.experimental_run_functions_eagerly`")
        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(False)

"""Which devices train: TPU, several GPUs, one GPU or the CPU, in this order, as a `tf.distribute` strategy.

The model is built and trained in the strategy's scope; nothing else in the package knows what it runs on.
"""
import os

import tensorflow as tf


def choose_strategy() -> tf.distribute.Strategy:
    """The strategy for what is there.

    A TPU is looked for where its runtime announces itself (Colab and Cloud TPU set `TPU_NAME` or `COLAB_TPU_ADDR`): asking
    without one costs a minute of waiting for a metadata server.
    """
    if os.environ.get("TPU_NAME") or os.environ.get("COLAB_TPU_ADDR"):
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
        return tf.distribute.TPUStrategy(resolver)
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.OneDeviceStrategy("/gpu:0") if gpus else tf.distribute.get_strategy()


def describe(strategy: tf.distribute.Strategy) -> str:
    """One phrase for people: `2 x GPU`, `CPU`."""
    kind = next((k for k in ("TPU", "GPU") if tf.config.list_logical_devices(k)), "CPU")
    n = strategy.num_replicas_in_sync
    return kind if n == 1 else f"{n} x {kind}"


def compiles(wanted: bool | None) -> bool:
    """Whether a step is compiled by XLA: as wanted, by default on accelerators only.

    On two CPU cores a compiled step took twice as long as the plain one (245 against 120 ms), and 13 s to compile.
    """
    return bool(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU")) if wanted is None else wanted

"""The devices that train, as a `tf.distribute` strategy: a TPU, several GPUs, one GPU or the CPU.

The model is built and trained in the strategy's scope; nothing else in the package knows what it runs on. GPU and CPU are what
TensorFlow 2.21 supports. No TensorFlow of that version can drive a TPU: the package tensorflow-tpu ends at 2.20, and the TPU
runtime of Colab has no TensorFlow. A TPU is still tried where libtpu is installed: every step compiles by XLA with
static shapes, so a TensorFlow that has the operators for a TPU would work.
"""
import ctypes
import importlib.util
import logging
import os
import sys

import tensorflow as tf

from tfrec.config import Device
from tfrec.errors import TfrecError

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's <malloc.h>
_TRIM_THRESHOLD = 1 << 30  # free bytes at the top of the heap that the process keeps
NO_TPU = ("TensorFlow 2.21 cannot use the TPU: tensorflow-tpu ends at version 2.20, and the TPU runtime of Colab has no "
          "TensorFlow. Train on a GPU (in Colab: Runtime, Change runtime type, a GPU) or on the CPU")


def choose_strategy(wanted: Device = "auto") -> tf.distribute.Strategy:
    """Return the strategy for a kind of device.

    Args:
        wanted: `auto` takes a TPU if one works, otherwise all GPUs, otherwise the CPU.

    Raises:
        TfrecError: the device that is named is not there or cannot be used.
    """
    if wanted == "cpu":
        _hide_gpus()
        return _cpu_strategy()
    if wanted == "tpu" or (wanted == "auto" and _has_libtpu()):
        try:
            return _tpu_strategy()
        except Exception as e:  # TensorFlow and libtpu raise errors of many types here
            message = (str(e).splitlines() or [""])[0].partition(" used by ")[0]
            why = f"{NO_TPU}. The error was: {type(e).__name__}: {message}"
            if wanted == "tpu":
                raise TfrecError(f"training.device is tpu, but {why}") from e
            log.warning("the TPU library (libtpu) is installed, but %s", why)
    gpus = tf.config.list_logical_devices("GPU")
    if wanted == "gpu" and not gpus:
        raise TfrecError("training.device is gpu, but TensorFlow finds no GPU. Expected an NVIDIA driver (nvidia-smi) and its "
                         "libraries: pip install 'tensorflow[and-cuda]>=2.21,<2.22'. Or set training.device=cpu.")
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.OneDeviceStrategy("/gpu:0") if gpus else _cpu_strategy()


def describe(strategy: tf.distribute.Strategy) -> str:
    """Return the devices in words for people, such as `2 x GPU` or `CPU`."""
    kind = next((k for k in ("TPU", "GPU") if tf.config.list_logical_devices(k)), "CPU")
    n = strategy.num_replicas_in_sync
    return kind if n == 1 else f"{n} x {kind}"


def compiles(wanted: bool | None, *, on_gpu: bool) -> bool:
    """Return whether XLA compiles a step: as `wanted`, or else on a TPU, and `on_gpu` on a GPU as well.

    Compiling pays for text encoders: on an H200, 141 steps of LoRA on MiniLM took 1 s rather than 5 s, after a minute of
    compiling. It does not pay for the towers: 20,000 events of MovieLens took 3 s an epoch rather than 2 s, after a minute that
    a retrain of two epochs never gets back. On two CPU cores a compiled step took twice as long (245 against 120 ms), and 13 s to
    compile.
    """
    kinds = ["TPU", "GPU"] if on_gpu else ["TPU"]
    return any(tf.config.list_logical_devices(kind) for kind in kinds) if wanted is None else wanted


def _has_libtpu() -> bool:
    return importlib.util.find_spec("libtpu") is not None


def _cpu_strategy() -> tf.distribute.Strategy:
    """TensorFlow's default strategy, in a process that keeps freed memory for the next step.

    A step frees scores of tens of megabytes, which the next one allocates again. glibc would give them back to the system, whose
    pages are then zeroed and faulted in anew: a training on MovieLens took 1.4 times as long on two cores. Nothing is changed
    where the C library is not glibc. See mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)
    return tf.distribute.get_strategy()


def _tpu_strategy() -> tf.distribute.Strategy:
    """The TPU that TPU_NAME names, or the one of this machine."""
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(tpu=os.environ.get("TPU_NAME", "local"))
    return tf.distribute.TPUStrategy(resolver)


def _hide_gpus() -> None:
    """Hide the GPUs from TensorFlow in this process."""
    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError as e:
        raise TfrecError("training.device is cpu, but this process has used a GPU already. Set it before the first work of the "
                         "process, or start with CUDA_VISIBLE_DEVICES=-1.") from e

"""The messages and stubs of TensorFlow Serving's protocol, imported without TensorFlow.

They are plain protobuf modules, but those inside the package `tensorflow` run its `__init__` when they are imported: 3 to 6 s of
processor time and 400 MB, for a client that only sends and reads messages. So the package is found but not run while they are
imported. A later `import tensorflow` runs it as usual, and finds these modules loaded.
"""
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without_running(package: str) -> Iterator[None]:
    """Let modules inside `package` be imported, and `package` itself not be run. Nothing changes where it has been imported."""
    if package in sys.modules:
        yield
        return
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    sys.modules[package] = importlib.util.module_from_spec(spec)  # it has the path by which modules inside it are found
    try:
        yield
    finally:
        del sys.modules[package]


with _without_running("tensorflow"):
    from tensorflow.core.framework import tensor_pb2, types_pb2
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

__all__ = ["get_model_metadata_pb2", "get_model_status_pb2", "model_pb2", "model_service_pb2_grpc", "predict_pb2",
           "prediction_service_pb2_grpc", "tensor_pb2", "types_pb2"]

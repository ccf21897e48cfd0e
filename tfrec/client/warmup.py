"""The requests that a version carries: the server replays them before it serves, and `release.verify` before it is published.

The warm-up file is a TFRecord of PredictionLog with at most 1000 records. Only a warm-up finds out at load that the server lacks
an op: without one the model is AVAILABLE and its requests fail. The probes of the manifest are the same requests with the answers
of the model in memory.
"""
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.saved_model import loader_impl
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tfrec.client.contract import Probe, Signature, TensorSpec
from tfrec.client.tensors import text_array, to_proto, to_values
from tfrec.errors import ServingError

WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
MAX_RECORDS = 1000  # the real server refuses the model above this


@dataclass(frozen=True)
class Request:
    """One call of a signature. Text may be an array or nested lists of str."""

    signature: str
    inputs: Mapping[str, Any]

    def arrays(self) -> dict[str, np.ndarray]:
        """The inputs as TensorFlow takes them, with text as bytes objects."""
        found = {name: np.asarray(value) for name, value in self.inputs.items()}
        return {name: text_array(array) if array.dtype.kind in "OUS" else array for name, array in found.items()}


def predict_request(request: Request, *, model: str) -> predict_pb2.PredictRequest:
    """The message that asks `model` for `request`."""
    message = predict_pb2.PredictRequest()
    message.model_spec.name = model
    message.model_spec.signature_name = request.signature
    for name, array in request.arrays().items():
        message.inputs[name].CopyFrom(to_proto(array))
    return message


def write_warmup(export_dir: str | Path, requests: Sequence[Request], *, model: str = "tfrec") -> Path:
    """Write the warm-up file of a SavedModel and return its path. Include each kind of request that will be sent.

    Raises:
        ServingError: there are no requests, or more than `MAX_RECORDS`.
    """
    if not 1 <= len(requests) <= MAX_RECORDS:
        raise ServingError(f"{export_dir}: a warm-up must have 1 to {MAX_RECORDS} requests, got {len(requests)}.")
    path = Path(export_dir) / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(predict_request(request, model=model))
            writer.write(log.SerializeToString())
    return path


def read_warmup(version_dir: str | Path) -> Iterator[prediction_log_pb2.PredictionLog]:
    """The records of a version's warm-up file, if it has one. A damaged file raises an error of TensorFlow or protobuf."""
    path = Path(version_dir) / WARMUP_FILE
    if not path.is_file():
        return
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        yield prediction_log_pb2.PredictionLog.FromString(record)


def record_probes(functions: Mapping[str, Callable[..., Any]], requests: Sequence[Request]) -> tuple[Probe, ...]:
    """Answer `requests` with the model in memory: `functions[signature](inputs)` takes and gives named tensors.

    The answers come from the model before the export, as those of the export would agree with whatever was written. They are
    computed eagerly: that is faster than to optimise the graphs of all signatures, and it checks these graphs.
    """
    probes = []
    for request in requests:
        arrays = request.arrays()
        with _eagerly():
            answer = functions[request.signature]({name: tf.constant(array) for name, array in arrays.items()})
        probes.append(
            Probe(
                signature=request.signature,
                inputs={name: to_values(array) for name, array in arrays.items()},
                outputs={name: to_values(tensor.numpy()) for name, tensor in answer.items()},
            )
        )
    return tuple(probes)


@contextmanager
def _eagerly() -> Iterator[None]:
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def read_signatures(export_dir: str | Path) -> dict[str, Signature]:
    """The signatures of a SavedModel as a manifest describes them. The model is not loaded."""
    graph = loader_impl.parse_saved_model(str(export_dir)).meta_graphs[0]
    return {
        name: Signature(inputs=_specs(signature.inputs), outputs=_specs(signature.outputs))
        for name, signature in graph.signature_def.items()
        if name != "__saved_model_init_op"
    }


def _specs(tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(
            dtype=tf.dtypes.as_dtype(info.dtype).name,
            shape=tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim),
        )
        for name, info in sorted(tensors.items())
    }

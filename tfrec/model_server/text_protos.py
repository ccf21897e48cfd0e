"""Text protobuf files that a server's flags name: models, batching, monitoring and certificates.

`tensorflow-serving-api` has the message of the model config only. The messages of the others are described here, field by
field as in the real server's session_bundle_config.proto, monitoring_config.proto and ssl_config.proto. A field that is not
supported (splitting of large batches, priorities) is left out, so that a file that sets it is refused with the field's name.
"""
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from tfrec.errors import UsageError

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "tensorflow.serving"
_WRAPPED_INT = f".{wrappers_pb2.Int64Value.DESCRIPTOR.full_name}"
_WRAPPED_TEXT = f".{wrappers_pb2.StringValue.DESCRIPTOR.full_name}"
_MESSAGES: dict[str, dict[str, tuple[int, int, str]]] = {  # message -> field -> number, type, name of its message
    "BatchingParameters": {
        "max_batch_size": (1, _Field.TYPE_MESSAGE, _WRAPPED_INT),
        "batch_timeout_micros": (2, _Field.TYPE_MESSAGE, _WRAPPED_INT),
        "max_enqueued_batches": (3, _Field.TYPE_MESSAGE, _WRAPPED_INT),
        "num_batch_threads": (4, _Field.TYPE_MESSAGE, _WRAPPED_INT),
        "thread_pool_name": (5, _Field.TYPE_MESSAGE, _WRAPPED_TEXT),
        "allowed_batch_sizes": (6, _Field.TYPE_INT64, ""),
        "pad_variable_length_inputs": (7, _Field.TYPE_BOOL, ""),
    },
    "PrometheusConfig": {"enable": (1, _Field.TYPE_BOOL, ""), "path": (2, _Field.TYPE_STRING, "")},
    "SSLConfig": {
        "server_key": (1, _Field.TYPE_STRING, ""),
        "server_cert": (2, _Field.TYPE_STRING, ""),
        "custom_ca": (3, _Field.TYPE_STRING, ""),
        "client_verify": (4, _Field.TYPE_BOOL, ""),
    },
    "MonitoringConfig": {"prometheus_config": (1, _Field.TYPE_MESSAGE, f".{_PACKAGE}.PrometheusConfig")},
}
_REPEATED = {"allowed_batch_sizes"}


@dataclass(frozen=True)
class Batching:
    """How requests are merged; the defaults are those of the real server's scheduler."""

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10  # of one signature of one version
    num_batch_threads: int = os.cpu_count() or 1  # of all models together
    thread_pool_name: str = "model_server_batch_threads"  # a label of the metrics
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False


def read_batching(path: str) -> Batching:
    """The parameters in `path`, or the defaults if it is empty. Raises `UsageError` when they cannot be used."""
    if not path:
        return Batching()
    message = _parsed(path, message_of("BatchingParameters"))
    wrapped = {field.name: value.value for field, value in message.ListFields() if hasattr(value, "value")}
    found = Batching(
        **{"thread_pool_name": "", **wrapped},
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length_inputs=message.pad_variable_length_inputs,
    )
    numbers = {name: value for name, value in wrapped.items() if not isinstance(value, str)}
    wrong = [f"{name}: {value}" for name, value in numbers.items() if value < (name != "batch_timeout_micros")]
    if wrong:
        raise UsageError(f"{path}: expected positive numbers, got {', '.join(wrong)}.")
    sizes = found.allowed_batch_sizes
    if sizes and (sizes[-1] != found.max_batch_size or list(sizes) != sorted(set(sizes))):
        raise UsageError(
            f"{path}: allowed_batch_sizes must grow and end with max_batch_size ({found.max_batch_size}), got {list(sizes)}."
        )
    return found


def read_metrics_path(path: str) -> str:
    """The HTTP path of the metrics in a monitoring config; empty if they are not enabled."""
    prometheus = _parsed(path, message_of("MonitoringConfig")).prometheus_config if path else None
    if prometheus is None or not prometheus.enable:
        return ""
    return prometheus.path or "/monitoring/prometheus/metrics"


def read_ssl(path: str) -> Any:
    """The SSLConfig in `path`. Its errors do not quote the file, which holds a private key."""
    return _parsed(path, message_of("SSLConfig"), quoted=False)


def read_models(path: str) -> ModelServerConfig:
    """The model config in `path`."""
    return _parsed(path, ModelServerConfig())


def _parsed(path: str, message: Any, *, quoted: bool = True) -> Any:
    name = message.DESCRIPTOR.full_name
    try:
        return text_format.Parse(Path(path).read_text(encoding="utf-8"), message)
    except text_format.ParseError as error:  # as protobuf's C++ words it, known from the real server
        said = str(error) if quoted else f"{error.GetLine()}:{error.GetColumn()}"
        raise UsageError(f"{path}: Error parsing text-format {name}: {said}") from (error if quoted else None)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a {name}: {error}") from error


def message_of(name: str) -> Any:
    """An empty message. Its pool is separate, so that a package with the real description can still register it."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="tfrec_serving.proto", package=_PACKAGE, syntax="proto3", dependency=[wrappers_pb2.DESCRIPTOR.name]
    )
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for field, (number, kind, type_name) in fields.items():
            label = _Field.LABEL_REPEATED if field in _REPEATED else _Field.LABEL_OPTIONAL
            message.field.add(name=field, number=number, type=kind, type_name=type_name or None, label=label)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))()

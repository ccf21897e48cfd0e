"""The gRPC half of the embedded server: PredictionService and ModelService of TensorFlow Serving.

Predict, GetModelMetadata, GetModelStatus and HandleReloadConfigRequest answer as the real server does, and so does the health
service if it is enabled. Other calls are refused as UNIMPLEMENTED, with their name in the message.
"""
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfrec.client.tensors import from_proto, to_proto
from tfrec.errors import ServingError
from tfrec.model_server.grpc_status import invalid, status_error_of
from tfrec.model_server.metrics import ServerMetrics
from tfrec.model_server.model_configs import model_configs
from tfrec.model_server.registry import Registry
from tfrec.model_server.saved_model import DEFAULT_SIGNATURE

log = logging.getLogger(__name__)
_MAX_MESSAGE = (1 << 31) - 1  # bytes: the real server's limit
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a second server behind the same port
)


_Method = Callable[[Any, Any, grpc.ServicerContext], Any]


def _answered(method: _Method) -> _Method:
    @wraps(method)
    def handler(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request, context)
        except Exception as error:
            status_error = status_error_of(error)
            if status_error.code is grpc.StatusCode.INTERNAL:
                log.exception("%s failed", method.__name__)
            context.abort(status_error.code, status_error.message)

    return handler


def _refused(name: str) -> _Method:
    def handler(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, f"tfrec's embedded server has no {name}; tensorflow_model_server has.")

    return handler


def _spec(request: Any) -> model_pb2.ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec


def _target(request: Any) -> tuple[str, int | None, str | None]:
    """Name, version number and label. An empty label that is set counts as a label."""
    spec = _spec(request)
    number = spec.version.value if spec.HasField("version") else None
    return spec.name, number, spec.version_label if spec.HasField("version_label") else None


class PredictionService:
    """Predict and GetModelMetadata."""

    def __init__(self, registry: Registry, metrics: ServerMetrics) -> None:
        self._registry = registry
        self._metrics = metrics

    @_answered
    def Predict(self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext) -> predict_pb2.PredictResponse:  # noqa: N802  the service's name
        """Run one signature of the version that is asked for."""
        with self._metrics.request(request.model_spec.name, api="Predict", entrypoint="GRPC"):
            return self._predict(request)

    def _predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        target = _target(request)
        signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
        with self._registry.use(*target) as (number, model):
            inputs = {}
            for alias in model.wanted(signature, request.inputs):  # wrong names are reported before wrong tensors
                try:
                    inputs[alias] = from_proto(request.inputs[alias])
                except ValueError as error:
                    raise invalid(f"tensor parsing error: {alias}") from error
            with self._metrics.run(target[0]):
                outputs = model.run(signature, inputs, output_filter=request.output_filter)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = target[0]
        response.model_spec.version.value = number
        response.model_spec.signature_name = signature
        for alias, array in outputs.items():
            response.outputs[alias].CopyFrom(to_proto(array))
        return response

    @_answered
    def GetModelMetadata(  # noqa: N802  the service's name
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of the version that is asked for."""
        target = _target(request)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid(f"Metadata field {name} is not supported")
        return metadata(self._registry, *target)

    Classify = _refused("Classify")
    Regress = _refused("Regress")
    MultiInference = _refused("MultiInference")


class ModelService:
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    @_answered
    def GetModelStatus(  # noqa: N802  the service's name
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The states of a model's versions."""
        name, number, _ = _target(request)  # whatever the label: as the real server
        return status(self._registry, name, number)

    @_answered
    def HandleReloadConfigRequest(  # noqa: N802  the service's name
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """Serve the models of the request's config and no others; returns once they answer."""
        self._registry.reload(model_configs(request.config), wanted=context.is_active)
        return model_management_pb2.ReloadConfigResponse(status={"error_code": 0})


def metadata(
    registry: Registry, name: str, number: int | None, label: str | None
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The signatures of a version, as both protocols send them."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    signatures = get_model_metadata_pb2.SignatureDefMap()
    with registry.use(name, number, label) as (found, model):
        for signature_name, signature in model.signatures.items():
            signatures.signature_def[signature_name].CopyFrom(signature)
    response.model_spec.name = name
    response.model_spec.version.value = found
    response.metadata["signature_def"].Pack(signatures)
    return response


def status(registry: Registry, name: str, number: int | None) -> get_model_status_pb2.GetModelStatusResponse:
    """The states of a model's versions, as both protocols send them."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for found, state, failure in registry.status(name, number):
        version = response.model_version_status.add(version=found, state=state.value)
        if failure is None:
            version.status.error_code = 0
        else:
            version.status.error_code = failure.number
            version.status.error_message = failure.message
    return response


def start_grpc(registry: Registry, addresses: Sequence[str], *, threads: int, metrics: ServerMetrics, health: bool,
               arguments: Sequence[tuple[str, int | str]] = (), credentials: grpc.ServerCredentials | None = None) -> grpc.Server:
    """Serve both services at `addresses`.

    Args:
        registry: of the models.
        addresses: host:port or unix:path.
        threads: requests at once; further ones are refused as RESOURCE_EXHAUSTED.
        metrics: count the requests.
        health: whether to serve the health service as well.
        arguments: of the channel; they override our own.
        credentials: of TLS, at each address; None: none.

    Raises:
        ServingError: an address is taken.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="grpc")
    server = grpc.server(pool, options=list({**dict(_OPTIONS), **dict(arguments)}.items()), maximum_concurrent_rpcs=threads)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(registry, metrics), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(registry), server)
    if health:
        servicer = HealthServicer()
        for name in ("", "ModelService", "PredictionService"):
            servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for address in addresses:
        try:
            if credentials is None:
                server.add_insecure_port(address)
            else:
                server.add_secure_port(address, credentials)
        except RuntimeError as error:
            flag = "--grpc_socket_path" if address.startswith("unix:") else "--port"
            pair = "" if credentials is None else " Or the key of --ssl_config_file is not that of its certificate."
            raise ServingError(
                f"{address}: cannot listen for gRPC, as another server may. Choose another {flag}.{pair}") from error
    server.start()
    return server

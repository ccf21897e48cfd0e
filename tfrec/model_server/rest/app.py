"""The REST paths of TensorFlow Serving as one small ASGI application.

    POST /v1/models/M[/versions/N|/labels/L]:predict       GET /v1/models/M[/versions/N|/labels/L][/metadata]

A body has at most `MAX_BODY` bytes, packed and unpacked, and all bodies in memory together at most `_MAX_HELD`; more is refused
before it is read or unpacked. Requests for a model's state have threads of their own, so that they are answered while predictions
take all others.
"""
import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

from google.protobuf.json_format import MessageToDict
from grpc import StatusCode
from tensorflow_serving.apis import get_model_metadata_pb2

from tfrec.model_server import grpc_api
from tfrec.model_server.grpc_status import StatusError, invalid, status_error_of
from tfrec.model_server.metrics import ServerMetrics
from tfrec.model_server.registry import Registry
from tfrec.model_server.rest.body import MAX_BODY, MAX_DIGITS, announced_length, content_encoding, unpacked
from tfrec.model_server.rest.document import parse, signature_name
from tfrec.model_server.rest.inputs import read_inputs
from tfrec.model_server.rest.outputs import write_outputs

log = logging.getLogger(__name__)
_MAX_HELD = 16 * MAX_BODY
# letters of either case, as the real server has it, but the method and "metadata" only in small ones
_TARGET = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_PREDICTION = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_TARGET}:(?P<method>classify|regress|predict)", re.IGNORECASE | re.ASCII
)
_STATUS = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_TARGET}(?:/(?P<what>metadata))?", re.IGNORECASE | re.ASCII)
_METHODS = ("classify", "regress", "predict")
_MAX_INT64 = (1 << 63) - 1
_NOT_FOUND = b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"

Answer = tuple[int, bytes]  # status code and body
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class RestApi:
    """An ASGI application.

    Args:
        registry: of the models.
        threads: predictions at once.
        metrics: count the predictions.
        metrics_path: where the metrics are shown; empty for nowhere.
        timeout: seconds that a prediction may take, including its wait for a thread; None for no limit.
    """

    def __init__(self, registry: Registry, *, threads: int, metrics: ServerMetrics, metrics_path: str,
                 timeout: float | None) -> None:
        self._registry = registry
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self._status_pool = ThreadPoolExecutor(2, thread_name_prefix="rest-status")
        self._metrics = metrics
        self._metrics_path = metrics_path
        self._timeout = timeout
        self._held = 0  # bytes of all bodies in memory

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, unless its client has gone."""
        path, question_mark, query = scope["target"].decode("latin-1").partition("?")
        if not path.startswith("/"):  # a target with scheme and host, as for a proxy
            path = scope["raw_path"].decode("latin-1")
        target = path + question_mark + query  # the real server takes a query for a part of the path
        if self._metrics_path and path == self._metrics_path:
            if question_mark:
                wrong = f"Unexpected path: {target}. Should be {path}".encode("latin-1")
                await _send(send, (400, wrong), content_type="text/plain")
                return
            await _send(send, (200, self._metrics.page().encode()), content_type="text/plain")
            return
        if not path.lower().startswith("/v1/"):
            await _send(send, (404, _NOT_FOUND), content_type="text/html")
            return
        if announced_length(scope["headers"]) > MAX_BODY:
            await _send(send, _too_large())
            return
        body = bytearray()  # not a list of parts, which may be one byte each
        try:
            answer = await self._read(receive, body)
            if answer is None:
                answer = await self._worked(scope["method"], target, bytes(body), content_encoding(scope["headers"]))
            await _send(send, answer)
        except _Gone:
            pass
        finally:
            self._held -= len(body)

    async def _read(self, receive: Receive, body: bytearray) -> Answer | None:
        """Read into `body`; returns the error answer if it is too large."""
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise _Gone
            part = message.get("body", b"")
            if len(body) + len(part) > MAX_BODY:  # chunked, so it announced no length
                return _too_large()
            if self._held + len(part) > _MAX_HELD:
                return 503, _error(f"Requests of {_MAX_HELD} bytes are being worked on. Try again.")
            body += part
            self._held += len(part)
            more = message.get("more_body", False)
        return None

    async def _worked(self, method: str, target: str, body: bytes, encoding: bytes) -> Answer:
        predicts = method == "POST"
        pool, timeout = (self._pool, self._timeout) if predicts else (self._status_pool, None)
        work = asyncio.get_running_loop().run_in_executor(pool, self.answer, method, target, body, encoding)
        try:
            return await asyncio.wait_for(work, timeout)
        except TimeoutError:
            return 504, _error(f"Timed out after {timeout:g} s (--rest_api_timeout_in_ms).")

    def close(self) -> None:
        """Wait for the running requests and end the threads."""
        self._pool.shutdown()
        self._status_pool.shutdown()

    def answer(self, method: str, target: str, body: bytes, encoding: bytes = b"") -> Answer:
        """Status code and body for one request."""
        try:
            prediction = _PREDICTION.fullmatch(target) if method == "POST" else None
            if prediction and prediction["method"] in _METHODS:
                return 200, self._measured(prediction, body, encoding)
            status = _STATUS.fullmatch(target) if method == "GET" else None
            if status:
                return 200, self._status(status)
            raise invalid(f"Malformed request: {method} {target}")
        except _NoNumber:
            return 400, b""  # so the real server, which has a message for it and does not send it
        except Exception as error:
            status_error = status_error_of(error)
            if status_error.code is StatusCode.INTERNAL:
                log.exception("%s %s failed", method, target)
            return status_error.http, _error(status_error.message)

    def _measured(self, match: re.Match[str], body: bytes, encoding: bytes) -> bytes:
        target = _target(match)
        with self._metrics.request(target[0], api=match["method"], entrypoint="REST"):
            return self._predict(match["method"], target, unpacked(body, encoding))

    def _predict(self, method: str, target: tuple[str, int | None, str | None], body: bytes) -> bytes:
        if method != "predict":
            raise StatusError(StatusCode.UNIMPLEMENTED, f"tfrec's embedded server has no {method}; tensorflow_model_server has.")
        document = parse(body)
        name = signature_name(document)
        with self._registry.use(*target) as (_, model):
            signature = model.signatures.get(name)
            if signature is None:
                raise invalid(f'Serving signature name: "{name}" not found in signature def')
            types = {alias: info.dtype for alias, info in sorted(signature.inputs.items())}
            inputs, by_row = read_inputs(document, types)
            with self._metrics.run(target[0]):
                outputs = model.run(name, inputs)
        return write_outputs(outputs, by_row=by_row)

    def _status(self, match: re.Match[str]) -> bytes:
        if not match["name"]:
            _target(match)  # a version that is no number is told first
            raise invalid("Missing model name in request.")
        name, number, label = _target(match)
        if match["what"] == "metadata":
            return _metadata_json(grpc_api.metadata(self._registry, name, number, label))
        response = grpc_api.status(self._registry, name, number)  # whatever the label: as the real server
        document = MessageToDict(response, always_print_fields_with_no_presence=True)
        return json.dumps(document, indent=1).encode()


class _NoNumber(Exception):
    """The version in a path is no int64."""


class _Gone(Exception):
    """The client has closed the connection."""


def _target(match: re.Match[str]) -> tuple[str, int | None, str | None]:
    version, label = match["version"], match["label"]
    if version and (len(version) > MAX_DIGITS or int(version) > _MAX_INT64):
        raise _NoNumber
    return unquote(match["name"] or ""), int(version) if version else None, None if label is None else unquote(label)


def _metadata_json(response: get_model_metadata_pb2.GetModelMetadataResponse) -> bytes:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)

    def plain(message: Any) -> Any:
        return MessageToDict(message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True)

    document = {"model_spec": plain(response.model_spec), "metadata": {"signature_def": plain(signatures)}}
    return json.dumps(document, indent=1).encode()


def _too_large() -> Answer:
    return 413, _error(f"The body has more than {MAX_BODY} bytes. Send fewer rows at a time, or ask over gRPC.")


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


async def _send(send: Send, answer: Answer, *, content_type: str = "application/json") -> None:
    status, body = answer
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""The REST half of the embedded server: the paths of TensorFlow Serving as one small ASGI application.

    POST /v1/models/M[/versions/N|/labels/L]:predict       GET /v1/models/M[/versions/N|/labels/L][/metadata]
"""
import asyncio
import json
import logging
import re
import socket
import threading
import time
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any
from urllib.parse import unquote

import uvicorn
from google.protobuf.json_format import MessageToDict
from grpc import StatusCode
from tensorflow_serving.apis import get_model_metadata_pb2

from tfrec.errors import ServingError
from tfrec.serving import grpc_api, rest_json
from tfrec.serving.refusal import Refusal, invalid, refusal_of
from tfrec.serving.registry import Registry
from tfrec.serving.server_metrics import ServerMetrics

log = logging.getLogger(__name__)
_TARGET = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_PREDICTION = re.compile(rf"/v1/models/(?P<name>[^/:]+){_TARGET}:(?P<method>classify|regress|predict)", re.IGNORECASE)
_STATUS = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_TARGET}(?:/(?P<what>metadata))?", re.IGNORECASE)
_MAX_INT64 = (1 << 63) - 1
_MAX_DIGITS = 100  # Python converts no number of some thousand digits
_MAX_UNZIPPED = 1 << 28  # bytes
_NOT_FOUND = b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class RestApi:
    """ASGI: one request in, one JSON document out; the model runs in `pool`."""

    def __init__(self, registry: Registry, pool: ThreadPoolExecutor, metrics: ServerMetrics | None, metrics_path: str) -> None:
        self._registry = registry
        self._pool = pool
        self._metrics = metrics
        self._metrics_path = metrics_path

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        path = scope["raw_path"].decode("latin-1").partition("?")[0]
        if self._metrics is not None and path == self._metrics_path:
            await _send(send, 200, self._metrics.page().encode(), content_type="text/plain")
            return
        if not path.lower().startswith("/v1/"):
            await _send(send, 404, _NOT_FOUND, content_type="text/html")
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        encoding = dict(scope["headers"]).get(b"content-encoding", b"")
        loop = asyncio.get_running_loop()
        await _send(send, *await loop.run_in_executor(self._pool, self.answer, scope["method"], path, body, encoding))

    def answer(self, method: str, path: str, body: bytes, encoding: bytes = b"") -> tuple[int, bytes]:
        """Status code and body for one request."""
        try:
            prediction = _PREDICTION.fullmatch(path) if method == "POST" else None
            if prediction:
                return 200, self._measured(prediction, body, encoding)
            status = _STATUS.fullmatch(path) if method == "GET" else None
            if status:
                return 200, self._status(status)
            raise invalid(f"Malformed request: {method} {path}")
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.code is StatusCode.INTERNAL:
                log.exception("%s %s failed", method, path)
            return refusal.http, json.dumps({"error": refusal.message}).encode()

    def _measured(self, match: re.Match[str], body: bytes, encoding: bytes) -> bytes:
        if self._metrics is None:
            return self._predict(match, _unzipped(body, encoding))
        with self._metrics.request(_target(match)[0], api=match["method"].lower(), entrypoint="REST"):
            return self._predict(match, _unzipped(body, encoding))

    def _predict(self, match: re.Match[str], body: bytes) -> bytes:
        method = match["method"].lower()
        if method != "predict":
            raise Refusal(StatusCode.UNIMPLEMENTED, f"tfrec's embedded server has no {method}; tensorflow_model_server has.")
        parsed = rest_json.parse(body)
        target = _target(match)
        with self._registry.use(*target) as (_, model):
            signature = model.signatures.get(parsed.signature)
            if signature is None:
                raise invalid(f'Serving signature name: "{parsed.signature}" not found in signature def')
            inputs = rest_json.read_inputs(parsed, {name: info.dtype for name, info in sorted(signature.inputs.items())})
            with nullcontext() if self._metrics is None else self._metrics.run(target[0]):
                outputs = model.run(parsed.signature, inputs)
        return rest_json.write_outputs(outputs, by_row=parsed.by_row)

    def _status(self, match: re.Match[str]) -> bytes:
        if not match["name"]:
            raise invalid("Missing model name in request.")
        name, number, label = _target(match)
        if match["what"]:
            return _metadata_json(grpc_api.metadata(self._registry, name, number, label))
        response = grpc_api.status(self._registry, name, self._registry.version(name, number, label))
        document = MessageToDict(response, always_print_fields_with_no_presence=True)
        return json.dumps(document, indent=1).encode()


def _target(match: re.Match[str]) -> tuple[str, int | None, str]:
    version = match["version"]
    if version and (len(version) > _MAX_DIGITS or int(version) > _MAX_INT64):
        raise invalid(f"Failed to convert version: {version} to numeric.")
    return unquote(match["name"]), int(version) if version else None, unquote(match["label"] or "")


def _metadata_json(response: get_model_metadata_pb2.GetModelMetadataResponse) -> bytes:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)

    def plain(message: Any) -> Any:
        return MessageToDict(message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True)

    document = {"model_spec": plain(response.model_spec), "metadata": {"signature_def": plain(signatures)}}
    return json.dumps(document, indent=1).encode()


def _unzipped(body: bytes, encoding: bytes) -> bytes:
    if encoding.lower() != b"gzip":
        return body
    unzip = zlib.decompressobj(wbits=31)
    try:
        whole = unzip.decompress(body, _MAX_UNZIPPED)
    except zlib.error as error:
        raise invalid(f"Failed to uncompress the gzipped body: {error}") from error
    if not unzip.eof:
        raise invalid(f"Failed to uncompress the gzipped body: it is cut off, or has more than {_MAX_UNZIPPED} bytes")
    return whole


async def _send(send: Send, status: int, body: bytes, *, content_type: str = "application/json") -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class RestServer:
    """uvicorn in a thread of its own, listening at `host:port` once constructed."""

    def __init__(
        self, registry: Registry, host: str, port: int, *, threads: int, metrics: ServerMetrics | None, metrics_path: str
    ) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        api = RestApi(registry, self._pool, metrics, metrics_path)
        config = uvicorn.Config(api, lifespan="off", log_level="warning", access_log=False)
        self._server = uvicorn.Server(config)
        try:
            self._socket = socket.create_server((host, port), backlog=2048)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each answer waits 40 ms for an ACK
        except OSError as error:
            message = f"{host}:{port}: cannot listen for REST: {error.strerror}. Choose another --rest_api_port."
            raise ServingError(message) from error
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="rest", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the running requests end, then close."""
        while self._thread.is_alive() and not self._server.started:  # told before it started, uvicorn would not hear it
            time.sleep(0.01)
        self._server.should_exit = True
        self._thread.join()
        self._pool.shutdown()

"""The gRPC channel to a model server, with its retries.

A call ends within `timeout` seconds, retries included, or at the deadline of the work that it is part of (`deadline.py`). Only
what the server refused to begin is tried again, so nothing is computed twice: a few times when the server is down, and until
the time is up when it is busy.
"""
import json
import time
from typing import Any

import grpc

from tfrec.client.deadline import allowed
from tfrec.client.request_errors import RequestFailed

_BUSY_SECONDS = (0.05, 0.5)  # between two tries of a busy server: the first pause, and the longest
_ADVICE = {"UNAVAILABLE": "Is the model server running? Start it with `tfrec serve`.", "DEADLINE_EXCEEDED": "It had {:.3g} s."}


class Transport:
    """A channel to `address`; the socket is opened at the first call. Safe to share between threads."""

    def __init__(self, address: str, *, timeout: float, attempts: int) -> None:
        self._address = address
        self._timeout = timeout
        self._retries = attempts > 1
        policy = {
            "maxAttempts": max(2, attempts),  # gRPC refuses 1; `enable_retries` turns retries off
            "initialBackoff": "0.02s",
            "maxBackoff": "0.2s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
        }
        self.channel = grpc.insecure_channel(address, options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_retries", int(self._retries)),
            ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})),
            ("grpc.max_reconnect_backoff_ms", 1000),  # a server that comes back is found within a second
        ])

    def call(self, method: Any, request: Any) -> Any:
        """Send `request` by `method` of a stub on `channel`, and return the response.

        Raises:
            RequestFailed: with the gRPC status of the last try, or of the one before it where the last ran out of time.
        """
        seconds = allowed(self._timeout)
        end, (pause, longest) = time.monotonic() + seconds, _BUSY_SECONDS
        refusal: grpc.RpcError | None = None
        while True:
            try:
                return method(request, timeout=max(0.001, end - time.monotonic()))
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and self._retries and time.monotonic() + pause < end:
                    time.sleep(pause)
                    pause, refusal = min(2 * pause, longest), error
                    continue
                told = refusal if refusal is not None and error.code() == grpc.StatusCode.DEADLINE_EXCEEDED else error
                code, advice = told.code().name, _ADVICE.get(told.code().name, "").format(seconds)
                message = f"{self._address}: model {request.model_spec.name} did not answer: {code}: {told.details()} {advice}"
                raise RequestFailed(message.rstrip(), code=code) from error

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()

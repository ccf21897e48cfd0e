"""The gRPC channel to a model server, with its retries.

A call ends within `timeout` seconds, retries included, or at the deadline of the work that it is part of (`deadline.py`). Only
what the server refused to begin is tried again, so nothing is computed twice: a few times when the server is down, and until
the time is up when it is busy.
"""
import json
import time
from typing import Any

import grpc

from tfrec.client.certificates import channel_credentials
from tfrec.client.deadline import allowed
from tfrec.client.request_errors import RequestFailed
from tfrec.config import ClientTls

_BUSY_SECONDS = (0.05, 0.5)  # between two tries of a busy server: the first pause, and the longest
_NOT_RUNNING = "Is the model server running? Start it with `tfrec serve`."
_FAULTS_OF_TLS = {  # words of gRPC -> what to do
    "WRONG_VERSION_NUMBER": "The server speaks without TLS: give it a certificate (serving.tls), or leave out gateway.tls.",
    "certificate has expired": "The server's certificate has expired: give it a new one, and start it again.",
    "certificate is not yet valid": "The server's certificate is not valid yet: are both clocks right?",
    "Hostname Verification": "The server's certificate is for another name: make one whose subjectAltName has the name or IP "
                             "address that it is asked by, or ask it by the name in its certificate.",
    "CERTIFICATE_VERIFY_FAILED": "{ca} (gateway.tls.ca) has not signed the server's certificate: name the one that has.",
}


class Transport:
    """A channel to `address`; the socket is opened at the first call. Safe to share between threads."""

    def __init__(self, address: str, *, timeout: float, attempts: int, tls: ClientTls) -> None:
        self._address = address
        self._timeout = timeout
        self._tls = tls
        self._retries = attempts > 1
        policy = {
            "maxAttempts": max(2, attempts),  # gRPC refuses 1; `enable_retries` turns retries off
            "initialBackoff": "0.02s",
            "maxBackoff": "0.2s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
        }
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_retries", int(self._retries)),
            ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})),
            ("grpc.max_reconnect_backoff_ms", 1000),  # a server that comes back is found within a second
        ]
        credentials = channel_credentials(tls)
        self.channel = (grpc.insecure_channel(address, options) if credentials is None
                        else grpc.secure_channel(address, credentials, options))

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
                code, advice = told.code().name, self._advice(told, seconds)
                message = f"{self._address}: model {request.model_spec.name} did not answer: {code}: {told.details()} {advice}"
                raise RequestFailed(message.rstrip(), code=code) from error

    def _advice(self, error: grpc.RpcError, seconds: float) -> str:
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"It had {seconds:.3g} s."
        if error.code() != grpc.StatusCode.UNAVAILABLE:
            return ""
        for words, advice in _FAULTS_OF_TLS.items():
            if words in error.details():
                return advice.format(ca=self._tls.ca)
        if "Socket closed" not in error.details() and "reset by peer" not in error.details():
            return _NOT_RUNNING
        # this is all that a server with TLS lets somebody know whom it does not want
        if self._tls.ca is None:
            asked = "does it want TLS (serving.tls)? Then set gateway.tls.ca."
        elif self._tls.cert is None:
            asked = "does it ask for a certificate (serving.tls.client_ca)? Then set gateway.tls.cert and gateway.tls.key."
        else:
            asked = f"has its serving.tls.client_ca signed {self._tls.cert} (gateway.tls.cert), and is that valid?"
        return f"{_NOT_RUNNING} If it is, {asked}"

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()

"""The HTTP server of the REST protocol: uvicorn in a thread of its own."""
import socket
import threading
import time

import uvicorn

from tfrec.errors import ServingError
from tfrec.model_server.rest.app import RestApi
from tfrec.model_server.rest.http_limits import LimitedHttp


class RestServer:
    """uvicorn in a thread of its own, listening at `host:port` once constructed."""

    def __init__(self, api: RestApi, host: str, port: int) -> None:
        self._api = api
        config = uvicorn.Config(api, http=LimitedHttp, lifespan="off", log_level="warning", access_log=False)
        self._server = uvicorn.Server(config)
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family, backlog=2048)
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
        self._api.close()

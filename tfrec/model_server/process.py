"""A model server in a process of its own, for verifying a version, the demo and the tests.

    with ServerProcess(ServeOptions(port=free_port(), model_base_path=path, model_name="tfrec")) as server:
        Client(server.address).status()

It has started when its model answers. A server that dies or is too slow raises a `ServingError` that ends with its last output.
"""
import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tfrec.errors import ServingError
from tfrec.model_server.options import LOOPBACK, ServeOptions

_TAIL = 2000  # characters of the server's output in an error


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """The embedded server in a new Python process, or the `installed` binary; a context manager that starts and stops it."""

    def __init__(self, options: ServeOptions, *, start_seconds: float = 120.0, installed: Path | None = None) -> None:
        self.options = dataclasses.replace(options, host=LOOPBACK, parent=os.getpid())
        self.address = f"127.0.0.1:{options.port}" if options.port else f"unix:{options.grpc_socket_path}"
        self._start_seconds = start_seconds
        self._installed = installed
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed on leaving

    def begin(self) -> "ServerProcess":
        """Start it without waiting; it looks for its base path until there is one."""
        if self._installed is None:
            command = [sys.executable, "-m", "tfrec.model_server.server", *self.options.flags()]
        else:
            real = dataclasses.replace(self.options, host="", poll_seconds=0.0, parent=0)
            command = [sys.executable, "-m", "tfrec.model_server.process", str(os.getpid()), str(self._installed), *real.flags()]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}  # a training parent may hold all memory of the GPU
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=environment,
            start_new_session=self._installed is not None,  # a group of its own, which `stop` ends whole
        )
        return self

    def __enter__(self) -> "ServerProcess":
        self.begin()
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The id of the server's process."""
        return self._process.pid

    def stop(self, seconds: float = 10.0) -> int:
        """End it with SIGTERM, and with SIGKILL after `seconds`; returns its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        code = self._process.wait()
        if self._installed is not None:  # its supervisor may have been killed before it could end it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        if not self._log.closed:
            self._log.close()
        return code

    def last_words(self) -> str:
        """The end of what the server wrote."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace").strip()

    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def check(self) -> None:
        """Raise `ServingError` when it has ended."""
        if self._process.poll() is not None:
            raise ServingError(f"The model server ended with code {self._process.returncode}: {self.last_words()}")

    def wait(self, *, patience: Callable[[], None] | None = None) -> None:
        """Wait until it answers. Raises `ServingError` when it ends before that, or takes longer than `patience` allows."""
        deadline = time.monotonic() + self._start_seconds
        while patience is not None or time.monotonic() < deadline:
            self.check()
            if patience is not None:
                patience()
            try:
                self._connect()
                return
            except OSError:
                time.sleep(0.02)
        raise ServingError(f"The model server did not answer within {self._start_seconds:g} s: {self.last_words()}")

    def _connect(self) -> None:
        """Connect to what opens last, once every model answers: REST, or else gRPC. Raises `OSError` before that."""
        port = self.options.rest_api_port or self.options.port
        family, address = (socket.AF_INET, ("127.0.0.1", port)) if port else (socket.AF_UNIX, self.options.grpc_socket_path)
        with socket.socket(family) as probe:
            probe.settimeout(1.0)
            probe.connect(address)


def _supervise(parent: int, command: list[str]) -> int:
    """Run a server binary, and end it when `parent` or this process ends."""
    child = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    while (code := child.poll()) is None:
        if os.getppid() != parent:
            child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.5)
    return code


if __name__ == "__main__":
    sys.exit(_supervise(int(sys.argv[1]), sys.argv[2:]))

"""The contract of a model server, held against every server there is: the embedded one, and the real one where it is installed.

Each case says in its docstring which row of the table of the real server's behaviour it holds to. What only the embedded server
says (what it does not have, and in which words) is tested outside this directory.
"""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from tests.model_server.tiny import save_two
from tfrec.model_server.embedded import EmbeddedServer
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import free_port

REAL = shutil.which(os.environ.get("TFREC_MODEL_SERVER") or "tensorflow_model_server")
SERVERS = [
    "embedded",
    pytest.param(
        "real",
        marks=pytest.mark.skipif(
            REAL is None, reason="no tensorflow_model_server on the PATH, and TFREC_MODEL_SERVER does not name one"
        ),
    ),
]


@dataclass(frozen=True)
class Running:
    """A server's stubs; `http` speaks to its REST port."""

    predictions: Any
    models: Any
    http: httpx.Client
    channel: grpc.Channel
    address: str


Launch = Callable[..., AbstractContextManager[Running]]


@contextmanager
def _embedded(options: ServeOptions) -> Iterator[None]:
    server = EmbeddedServer(options, stopping=threading.Event())
    try:
        server.start()
        yield
    finally:
        server.stop(grace=0.5)


@contextmanager
def _real(options: ServeOptions) -> Iterator[None]:
    assert REAL is not None
    options = replace(options, host="", poll_seconds=0.0)  # our own
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen([REAL, *options.flags()], stdout=words, stderr=words)
        try:
            eventually(lambda: process.poll() is not None or _listens(options.rest_api_port), seconds=60)
            assert process.poll() is None, os.pread(words.fileno(), 4000, 0).decode()
            yield
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="package", params=SERVERS)
def launch(request: pytest.FixtureRequest) -> Launch:
    """Starts the server under test with flags in the real one's words; port numbers are chosen here."""
    begin = _embedded if request.param == "embedded" else _real

    @contextmanager
    def started(**flags: Any) -> Iterator[Running]:
        options = ServeOptions(port=free_port(), rest_api_port=free_port(), host="127.0.0.1", **flags)
        with (
            begin(options),
            grpc.insecure_channel(f"127.0.0.1:{options.port}") as channel,
            httpx.Client(base_url=f"http://127.0.0.1:{options.rest_api_port}", trust_env=False) as http,
        ):
            yield Running(
                prediction_service_pb2_grpc.PredictionServiceStub(channel),
                model_service_pb2_grpc.ModelServiceStub(channel),
                http,
                channel,
                f"127.0.0.1:{options.port}",
            )

    return started


@pytest.fixture(scope="package")
def served(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serves what `save_two` saves."""
    config = save_two(tmp_path_factory.mktemp("models"))
    with launch(model_config_file=str(config), allow_version_labels_for_unavailable_models=True) as running:
        yield running


@pytest.fixture(scope="package")
def predictions(served: Running) -> Any:
    return served.predictions


@pytest.fixture(scope="package")
def models(served: Running) -> Any:
    return served.models


@pytest.fixture(scope="package")
def http(served: Running) -> httpx.Client:
    return served.http


def eventually(question: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Wait until the answer is yes."""
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "it did not become so in time"
        time.sleep(0.02)


def path_of(root: Path, name: str, text: str) -> str:
    """A file with `text`, as a flag names it."""
    (root / name).write_text(text)
    return str(root / name)

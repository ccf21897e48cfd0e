"""The demo's gateway and model server, each in a process of its own, and the clients that ask them."""
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tfrec.client.client import Client
from tfrec.config import Config
from tfrec.demo.clock import ReplayClock
from tfrec.demo.traffic import GatewayClient
from tfrec.errors import ServingError
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import ServerProcess, free_port

HOST = "127.0.0.1"
SETTINGS = "demo.toml"  # in a run directory: the gateway's settings. It marks the directory as a demo's, which the next may clear
CLOCK, GATEWAY_LOG = "clock", "gateway.log"  # in a run directory
WAIT_SECONDS = 180.0  # a busy machine takes its time


@dataclass(frozen=True)
class Servers:
    """Both servers, which may still be starting (`wait`)."""

    clock: ReplayClock  # of the gateway
    model_server: ServerProcess
    client: Client
    gateway: GatewayClient
    gateway_port: int
    gateway_log: Path

    @classmethod
    @contextmanager
    def begun(cls, config: Config, *, second: int) -> Iterator["Servers"]:
        """Start both for a run whose settings are in its directory, at a second of the replay; stop them after the block."""
        options = ServeOptions(port=free_port(), model_name=config.serving.model_name,
                               model_base_path=str(config.models_dir.absolute()))
        with ExitStack() as stack:
            clock = ReplayClock(config.run / CLOCK)
            stack.callback(clock.close)
            clock.tell(second)
            port = stack.enter_context(gateway_process(config.run, f"{HOST}:{options.port}"))
            server = ServerProcess(options).begin()
            stack.callback(server.stop)
            client = stack.enter_context(Client(server.address, model=config.serving.model_name, timeout=10.0))
            gateway = GatewayClient(HOST, port)
            stack.callback(gateway.close)
            yield cls(clock, server, client, gateway, port, config.run / GATEWAY_LOG)

    def wait(self) -> None:
        """Return when the gateway answers with the model's words."""
        self.model_server.wait()
        wait_until(self._answers, f"an answer of the gateway (see {self.gateway_log})")

    def _answers(self) -> bool:
        try:
            self.gateway.recommend({"user": "demo", "k": 1})
        except ServingError:
            return False
        return True


def wait_until(done: Callable[[], bool], what: str) -> None:
    """Return when `done()` is true.

    Raises:
        ServingError: it was not, for `WAIT_SECONDS`.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise ServingError(f"demo: waited {WAIT_SECONDS:g} s in vain for {what}.")
        time.sleep(0.1)


@contextmanager
def gateway_process(run: Path, server: str) -> Iterator[int]:
    """Yield the port on which a gateway will soon listen, for the run and the model server at an address."""
    port = free_port()
    words = [sys.executable, "-m", "tfrec.demo.gateway", str(run / SETTINGS), server, str(port), str(run / CLOCK)]
    with (run / GATEWAY_LOG).open("wb") as out:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(30)

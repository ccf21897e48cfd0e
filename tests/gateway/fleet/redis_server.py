"""A Redis server that a test starts, kills and starts again, on a port of its own."""
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tfrec.model_server.process import free_port

PROGRAM = shutil.which("redis-server")
WHY_NOT = "redis-server is not installed: apt-get install redis-server"


class RedisServer:
    """It keeps nothing on the disk, so what it held is gone with it."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it listens."""
        assert PROGRAM is not None
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._directory)]
        self._process = subprocess.Popen([PROGRAM, *words], stdout=subprocess.DEVNULL)
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("redis-server did not start")

    def kill(self) -> None:
        """As kill -9 does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

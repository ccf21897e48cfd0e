"""A gateway that is killed again and again while outcomes arrive: what was acknowledged, and what the log holds in the end.

    python tests/gateway/kills.py [--kills 20] [--seed 0]

Clients send batches and send them again until they are acknowledged, as clients do. The gateways are forks of one process that
has imported all of it, so that a start takes half a second.
"""
import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.demo.traffic import GatewayClient
from tfrec.errors import ServingError
from tfrec.model_server.process import free_port

CLIENTS = 3
FORKS = """
import os, sys
from tfrec.config import Config
from tfrec.gateway.serve import serve_gateway
run, port = sys.argv[1], int(sys.argv[2])
for _ in sys.stdin:
    if (pid := os.fork()) == 0:
        serve_gateway(Config(run=run), model_server="127.0.0.1:1", port=port)
        os._exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Clients:
    """Threads that send outcomes through whichever gateway listens; each event is known by its id."""

    def __init__(self, port: int) -> None:
        self.acknowledged: list[str] = []
        self.repeated = 0
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(me,)) for me in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _run(self, me: int) -> None:
        connection, n, rng = GatewayClient("127.0.0.1", self._port), 0, random.Random(me)
        while not self._stop.is_set():
            ids = [f"{me}-{n + i}" for i in range(rng.randint(1, 20))]
            n += len(ids)
            body = [{"user": f"u{me}", "item": "a", "action": "click", "event_id": event} for event in ids]
            while True:
                try:
                    connection.post("/v1/outcomes", body)
                    break
                except ServingError:
                    self.repeated += 1
                    time.sleep(0.02)
            self.acknowledged += ids
        connection.close()

    def stop(self) -> None:
        """Returns when everything that was begun is acknowledged."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


def answers(port: int, path: str) -> bool:
    with contextlib.suppress(OSError, HTTPException):
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", path)
        answered = connection.getresponse().status == 200
        connection.close()
        return answered
    return False


def kill_again_and_again(run: Path, *, kills: int, seed: int) -> dict[str, Any]:
    """The counts of what happened. The last one is told to end, and all it has acknowledged should be in the log by then.

    `lost`, `repeated_in_log` and `exit_code` should be 0.
    """
    port, rng = free_port(), random.Random(seed)
    parent = subprocess.Popen([sys.executable, "-c", FORKS, str(run), str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True)
    assert parent.stdin is not None
    assert parent.stdout is not None
    clients = None
    with parent:
        for number in range(kills + 1):
            parent.stdin.write("start\n")
            parent.stdin.flush()
            pid = int(parent.stdout.readline())
            while not answers(port, "/healthz"):
                time.sleep(0.02)
            clients = clients or Clients(port)
            before = len(clients.acknowledged)
            if number < kills:
                time.sleep(rng.uniform(0.1, 1.5))  # the log is committed once a second
                os.kill(pid, signal.SIGKILL)
            else:
                while len(clients.acknowledged) == before:
                    time.sleep(0.02)
                clients.stop()
                os.kill(pid, signal.SIGTERM)
            exit_code = int(parent.stdout.readline())
        parent.stdin.close()
    assert clients is not None
    found = Counter(FeedbackLog(run / "log").read("outcomes")["event_id"].to_pylist())
    return {
        "kills": kills,
        "exit_code": exit_code,
        "acknowledged": len(clients.acknowledged),
        "acknowledged_by_the_last": len(clients.acknowledged) - before,
        "calls_without_answer": clients.repeated,
        "lost": len(set(clients.acknowledged) - found.keys()),
        "repeated_in_log": sum(found.values()) - len(found),
        "unknown_in_log": len(found.keys() - set(clients.acknowledged)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(kill_again_and_again(Path(directory), kills=options.kills, seed=options.seed), indent=1))


if __name__ == "__main__":
    main()

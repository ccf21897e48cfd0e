"""What the gateway costs: the same question over gRPC and through it, in one run; the most that it answers; outcomes a second.

    python tests/benchmarks/gateway.py [--seconds 10] [--items 9000] [--config CONFIG.toml]

The model server, the gateway and the clients are processes of their own, on one machine. Without --config (of a run that has
published something) the model has random weights, the shape of the defaults and a catalogue as large as MovieLens'.
"""
import argparse
import contextlib
import http.client
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tfrec.client.client import Client
from tfrec.config import Config, ModelConfig, TextConfig, load_config
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.demo.traffic import GatewayClient
from tfrec.errors import ServingError
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import ServerProcess, free_port
from tfrec.models.recommender import Recommender
from tfrec.models.text_encoder import TextEncoder
from tfrec.release.export import export
from tfrec.release.popularity_files import read_prior
from tfrec.release.publish import newest_dir

USERS = 200
CLIENTS = (1, 4, 8)  # more would meet the 8 threads of a model server on 2 cores
EVENTS = 25  # of each user, as many as the model reads
K = 50
write_bert = runpy.run_path(str(Path(__file__).parents[1] / "models/bert/tiny.py"))["write_bert"]  # `tests` is no package
TICKS = os.sysconf("SC_CLK_TCK")


def publish(run: Path, *, items: int) -> Config:
    """A version of random weights in a new run."""
    encoder = str(write_bert(run / "bert"))
    config = Config(run=run, text=TextConfig(encoder=encoder), model=ModelConfig(history=EVENTS))
    catalogue = Catalogue([Item(id=f"i{n}", text=f"the film {n}") for n in range(items)])
    text = TextEncoder(encoder, max_tokens=config.text.max_tokens).encode(catalogue.texts, batch_size=256)
    export(Recommender.build(config, catalogue, text, actions=("click",)), config.models_dir / "1", created_at=int(time.time()))
    return config


@contextlib.contextmanager
def gateway(config: Config, server: str) -> Iterator[tuple[int, int]]:
    """A gateway's process: its id and port, once it listens."""
    port, path = free_port(), config.run / "benchmark.toml"
    path.write_text(config.to_toml())
    words = [sys.executable, "-m", "tfrec", "gateway", "--config", str(path), "--server", server, "--port", str(port),
             "--writer", f"benchmark-{os.getpid()}"]
    process = subprocess.Popen(words)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port)
                connection.request("GET", "/healthz")
                connection.getresponse().read()
                break
            time.sleep(0.1)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(30)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def quantiles(milliseconds: list[float]) -> dict[str, float]:
    return {name: round(float(np.quantile(milliseconds, q)), 2) for name, q in (("p50", 0.5), ("p99", 0.99))}


def load(clients: int, seconds: float, ask: Callable[[Any, int], int], connect: Callable[[], Any],
         pids: dict[str, int]) -> dict[str, Any]:
    """Clients that ask one request after another: what was done a second, how long each call took, and processors used."""
    done, failed, took = [0] * clients, [0] * clients, [[] for _ in range(clients)]
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    began = time.monotonic()

    def run(me: int) -> None:
        connection, n = connect(), me
        while time.monotonic() < began + seconds:
            start = time.monotonic()
            try:
                done[me] += ask(connection, n)
            except ServingError:
                failed[me] += 1
            took[me].append(1000 * (time.monotonic() - start))
            n += clients
        connection.close()

    threads = [threading.Thread(target=run, args=(me,)) for me in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.monotonic() - began
    cpu = {name: round((cpu_seconds(pid) - before[name]) / spent, 2) for name, pid in pids.items()}
    rate = {"clients": clients, "per_second": round(sum(done) / spent), "failed": sum(failed)}
    return rate | quantiles(sum(took, [])) | {"cpu": cpu}


def outcomes(first: int, n: int, ids: list[str]) -> list[dict[str, Any]]:
    now = int(time.time())
    return [
        {"event_id": f"b{os.getpid()}-{i}", "user": f"user{i % USERS}", "item": ids[i * 7 % len(ids)], "action": "click",
         "time": now - EVENTS + i % EVENTS}
        for i in range(first, first + n)
    ]


def measure(config: Config, *, seconds: float) -> dict[str, Any]:
    """All figures, one after another, against one server and one gateway."""
    directory = newest_dir(config.models_dir)
    assert directory is not None, f"nothing is published in {config.models_dir}"
    ids = read_prior(directory)[1]
    name = config.serving.model_name
    options = ServeOptions(port=free_port(), model_name=name, model_base_path=str(config.models_dir.absolute()))
    report: dict[str, Any] = {"items": len(ids)}
    with ServerProcess(options) as server, gateway(config, server.address) as (pid, port):
        connection = GatewayClient("127.0.0.1", port)
        connection.post("/v1/outcomes", outcomes(0, USERS * EVENTS, ids))
        histories = [[ids[(u + USERS * e) * 7 % len(ids)] for e in range(EVENTS)] for u in range(USERS)]
        rows: dict[str, list[float]] = {"grpc": [], "gateway": []}

        def direct(to: Client, n: int) -> int:
            history = histories[n % USERS]
            to.recommend(history=[history], history_action=[["click"] * EVENTS], history_age_s=[list(range(EVENTS, 0, -1))],
                         exclude=[history], k=K)
            return 1

        def through(to: GatewayClient, n: int) -> int:
            to.recommend({"user": f"user{n % USERS}", "k": K})
            return 1

        def over_grpc() -> Client:
            return Client(server.address, model=name)

        def over_http() -> GatewayClient:
            return GatewayClient("127.0.0.1", port)

        with over_grpc() as client:
            calls = {"grpc": partial(direct, client), "gateway": partial(through, connection)}
            until, n = time.monotonic() + seconds, -50
            while time.monotonic() < until:
                for way in sorted(calls, reverse=bool(n % 2)):
                    start = time.monotonic()
                    calls[way](n)
                    if n >= 0:  # the first warm up
                        rows[way].append(1000 * (time.monotonic() - start))
                n += 1
        report["recommend"] = {"requests": n} | {way: quantiles(took) for way, took in rows.items()}
        report["recommend"]["added_to_median"] = round(float(np.median(rows["gateway"]) - np.median(rows["grpc"])), 2)
        pids = {"gateway": pid, "model_server": server.pid}

        report["throughput, gRPC"] = [load(n, seconds, direct, over_grpc, {"model_server": server.pid}) for n in CLIENTS]
        report["throughput, gateway"] = [load(n, seconds, through, over_http, pids) for n in CLIENTS]
        for size in (1, 100, 500):
            def send(to: GatewayClient, n: int, size: int = size) -> int:
                to.post("/v1/outcomes", outcomes(10**9 + size * 10**8 + n * size, size, ids))
                return size

            report[f"outcomes_by_{size}"] = load(4, min(5, seconds), send, over_http, {"gateway": pid})
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--items", type=int, default=9000)
    parser.add_argument("--config", type=Path, help="of a run that has published a version")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        config = load_config(options.config) if options.config else publish(Path(directory), items=options.items)
        print(json.dumps(measure(config, seconds=options.seconds), indent=1))


if __name__ == "__main__":
    main()

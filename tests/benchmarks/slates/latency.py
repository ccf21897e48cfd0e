"""What numeric bounds, caps and diversity add to the time of `recommend`, over gRPC, by one client.

    python tests/benchmarks/slates/latency.py VERSION_DIR [--seconds 20] [--column year]

The ways of asking take turns, so that whatever else the machine does falls on all of them alike. Histories are full windows of
catalogue items. The processor's time is that of the server, the mean of all calls.
"""
import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from tfrec.client.client import Client
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import ServerProcess, free_port
from tfrec.release.popularity_files import read_prior

LENGTH = 25  # events of a history


def ways(batch: int, column: str) -> dict[str, dict[str, Any]]:
    """What is asked besides, by name."""
    bounds, caps = {"bounds": [{column: (1990.0, None)}] * batch}, {"caps": [{"": 4}] * batch}
    return {"plain": {}, "bounds": bounds, "caps": caps, "diversity": {"diversity": 0.2},
            "all": bounds | caps | {"diversity": 0.2}}


def processor_seconds(pid: int) -> float:
    """That a process has used, in steps of the kernel's clock, which the mean of many calls evens out."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each batch and k")
    parser.add_argument("--column", default="year", help="numeric, of the catalogue")
    options = parser.parse_args()
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (base / "1").symlink_to(options.directory.absolute())
        serve = ServeOptions(port=free_port(), model_base_path=str(base), model_name="tfrec")
        server = stack.enter_context(ServerProcess(serve, start_seconds=300))
        client = stack.enter_context(Client(server.address, timeout=30))
        ids, rng = read_prior(options.directory)[1], np.random.default_rng(0)
        print(f"{len(ids):,} items\nbatch  k    way         p50      p99   processor, ms a call")
        for batch, k in ((1, 10), (1, 50), (32, 10)):
            took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways(batch, options.column)}
            end = time.perf_counter() + options.seconds
            while time.perf_counter() < end:
                for name, asked in ways(batch, options.column).items():
                    history = rng.choice(ids, size=(batch, LENGTH)).tolist()
                    began, used = time.perf_counter(), processor_seconds(server.pid)
                    client.recommend(history=history, k=k, **asked)
                    took[name].append((1000 * (time.perf_counter() - began), 1000 * (processor_seconds(server.pid) - used)))
            for name, pairs in took.items():
                wall, cpu = np.array(pairs[1:]).T
                p50, p99 = np.percentile(wall, [50, 99])
                print(f"{batch:5}  {k:3}  {name:10} {p50:6.2f}  {p99:7.2f}  {cpu.mean():6.2f}", flush=True)


if __name__ == "__main__":
    main()

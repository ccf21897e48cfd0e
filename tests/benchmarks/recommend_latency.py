"""How long `recommend` and `explore` take over gRPC, for one or more version directories in one run.

    python tests/benchmarks/recommend_latency.py VERSION_DIR [VERSION_DIR ...] [--seconds 5]

Each directory gets an embedded server in a process of its own. One client asks them in turns, so that whatever else the machine
does falls on all of them alike. Histories are full windows of catalogue items, queries have about eight word pieces. The
processor's time is that of the server's process, a call.
"""
import argparse
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from tfrec.client.client import Client
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import ServerProcess, free_port
from tfrec.release.manifest import read_manifest
from tfrec.release.popularity_files import read_prior

QUERIES = ("a quiet love story in old new york", "space pirates fight robots for lost gold", "the true story of a boxer")
LENGTH = 25  # events of a history


def calls(client: Client, ids: list[str], *, explore: bool) -> dict[str, Callable[[np.random.Generator], object]]:
    """What is timed, by name."""

    def ask(rng: np.random.Generator, *, batch: int, text: bool, method: str) -> object:
        inputs = {
            "history": rng.choice(ids, size=(batch, LENGTH)).tolist(),
            "history_action": [["rating"] * LENGTH] * batch,
            "history_age_s": np.sort(rng.integers(0, 10**7, size=(batch, LENGTH)))[:, ::-1].tolist(),
            "query": [str(query) for query in rng.choice(QUERIES, size=batch)] if text else None,
        }
        if method == "explore":
            return client.explore(**inputs, seed=rng.integers(2**40, size=batch).tolist())
        return client.recommend(**inputs)

    methods = ["recommend", "explore"] if explore else ["recommend"]
    return {
        f"{method}, batch {batch:2}, {'with' if text else 'no'} query": partial(ask, batch=batch, text=text, method=method)
        for method in methods
        for batch in (1, 32)
        for text in (False, True)
    }


def processor_seconds(pid: int) -> float:
    """User and system time of a process until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each line and directory")
    options = parser.parse_args()
    with ExitStack() as stack:
        timed: list[dict[str, Callable[[np.random.Generator], object]]] = []
        pids: list[int] = []
        for directory in options.directories:
            base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (base / "1").symlink_to(directory.absolute())
            serve = ServeOptions(port=free_port(), model_base_path=str(base), model_name="tfrec")
            begun = time.perf_counter()
            server = stack.enter_context(ServerProcess(serve, start_seconds=300))
            print(f"{directory}: up after {time.perf_counter() - begun:.1f} s")
            pids.append(server.pid)
            client = stack.enter_context(Client(server.address, timeout=30))
            ids = read_prior(directory)[1]
            timed.append(calls(client, ids, explore="explore" in read_manifest(directory).signatures))
        for name in dict.fromkeys(name for names in timed for name in names):
            took: list[list[float]] = [[] for _ in timed]
            end, used = time.perf_counter() + options.seconds * len(timed), [processor_seconds(pid) for pid in pids]
            rng = np.random.default_rng(0)
            while time.perf_counter() < end:
                for number, names in enumerate(timed):
                    if name in names:
                        begun = time.perf_counter()
                        names[name](rng)
                        took[number].append(1000 * (time.perf_counter() - begun))
            used = [1000 * (processor_seconds(pid) - before) / max(len(each), 1)
                    for pid, before, each in zip(pids, used, took, strict=True)]
            cells = ["p50 {:6.2f}  p99 {:6.2f}  processor {:6.2f} ms".format(*np.percentile(each, [50, 99]), own) if each else "-"
                     for each, own in zip(took, used, strict=True)]
            print(f"{name:32}", " | ".join(cells), flush=True)


if __name__ == "__main__":
    main()

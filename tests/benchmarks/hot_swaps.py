"""What a hot swap costs the requests that run meanwhile: ten versions in a minute, asked without a pause and without retries.

    python tests/benchmarks/hot_swaps.py runs/demo/models/tfrec/2 [--swaps 10] [--seconds 60] [--clients 1]

The versions are hard links to the one that is named; the requests are the `recommend` probes of its manifest. A request counts as
one during a swap when it overlaps the time from the rename that publishes a version to the unloading of the one before.
"""
import argparse
import itertools
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from tfrec.client.client import Client
from tfrec.client.tensors import from_values
from tfrec.errors import ServingError
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import ServerProcess, free_port
from tfrec.release.manifest import read_manifest


class Load:
    """One client that asks the probes over and over; `spans` holds (begin, end) of each answer."""

    def __init__(self, address: str, version: Path) -> None:
        self.spans: list[tuple[float, float]] = []
        self.failures: list[str] = []
        self._client = Client(address, model="tfrec", timeout=10.0, attempts=1)
        manifest = read_manifest(version)
        specs = manifest.signatures["recommend"].inputs
        self._requests = [
            {name: from_values(values, specs[name].dtype) for name, values in probe.inputs.items()}
            for probe in manifest.probes
            if probe.signature == "recommend"
        ]

    def run(self, stop: threading.Event) -> None:
        """Ask until told to stop."""
        for request in itertools.cycle(self._requests):
            if stop.is_set():
                return
            begin = time.monotonic()
            try:
                self._client.predict("recommend", request)
            except ServingError as error:
                self.failures.append(str(error))
            self.spans.append((begin, time.monotonic()))


def swap(watcher: Client, base: Path, source: Path, number: int) -> tuple[float, float]:
    """Publish version `number` and wait until it is the only one; returns the begin and the end."""
    link = base.parent / f"next{number}"
    shutil.copytree(source, link, copy_function=os.link)
    begin = time.monotonic()
    link.rename(base / str(number))
    while [(v.version, v.state) for v in watcher.status() if v.state != "END"] != [(number, "AVAILABLE")]:
        time.sleep(0.02)
    end = time.monotonic()
    shutil.rmtree(base / str(number - 1))
    return begin, end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", type=Path)
    parser.add_argument("--swaps", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=1)
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=wish.version.parent.parent) as root:  # on one file system, for the hard links
        base = Path(root) / "tfrec"
        base.mkdir()
        shutil.copytree(wish.version, base / "1", copy_function=os.link)
        options = ServeOptions(port=free_port(), model_name="tfrec", model_base_path=str(base))
        with ServerProcess(options) as server, Client(server.address, model="tfrec", timeout=10.0) as watcher:
            loads = [Load(server.address, wish.version) for _ in range(wish.clients)]
            stop = threading.Event()
            threads = [threading.Thread(target=load.run, args=(stop,)) for load in loads]
            for thread in threads:
                thread.start()
            began, swaps = time.monotonic(), []
            for number in range(wish.swaps):
                time.sleep(max(0.0, began + (number + 0.3) * wish.seconds / wish.swaps - time.monotonic()))
                swaps.append(swap(watcher, base, wish.version, number + 2))
            time.sleep(max(0.0, began + wish.seconds - time.monotonic()))
            stop.set()
            for thread in threads:
                thread.join()
    failures = [failure for load in loads for failure in load.failures]
    within: list[float] = []
    outside: list[float] = []
    for begin, end in (span for load in loads for span in load.spans):
        inside = any(begin < swap_end and end > swap_begin for swap_begin, swap_end in swaps)
        (within if inside else outside).append((end - begin) * 1e3)
    print(f"{len(within) + len(outside)} requests, {len(failures)} failed {failures[:1]}; {len(swaps)} swaps, "
          f"median {np.median([end - begin for begin, end in swaps]):.2f} s each")
    for name, milliseconds in (("outside", outside), ("during", within)):
        told = " ".join(f"p{p:g} {np.percentile(milliseconds, p):.2f}" for p in (50, 90, 99, 99.9))
        print(f"{name} swaps: {len(milliseconds)} requests, {told}, most {max(milliseconds):.1f} ms")
    print(f"p99 during / outside: {np.percentile(within, 99) / np.percentile(outside, 99):.2f}")


if __name__ == "__main__":
    main()

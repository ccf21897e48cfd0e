"""How long a gateway takes to start on a long log, how much memory it takes, and how soon it answers the first users.

    python tests/benchmarks/gateway_start.py [--outcomes 1000000] [--users 50000] [--items 20000] [--interactions 0]

The gateway is the command `tfrec gateway` in a process of its own. It has a published popularity and no model server, so it
answers from popularity. The clock begins before Python does, and stops when /healthz is answered. The memory is the kernel's
figure of the most that was resident (VmHWM). A gateway on an empty log comes first, for comparison.
"""
import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
import pyarrow as pa

from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.schema import SCHEMAS
from tfrec.data.people.pseudonym import Pseudonyms, load_pseudonyms
from tfrec.model_server.process import free_port
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.release.popularity_files import write_prior

DAYS = 30
ROWS_AT_ONCE = 100_000


def write_log(run: Path, pseudonyms: Pseudonyms, *, outcomes: int, users: int, items: int, now: int) -> None:
    """Outcomes of a month by two gateways; a few users and items have most of them, as everywhere."""
    rng, log = np.random.default_rng(0), FeedbackLog(run / "log")
    names = np.array([pseudonyms.of(f"u{user}") for user in range(users)])
    user = (users * rng.random(outcomes) ** 2).astype(int)
    item = (items * rng.random(outcomes) ** 3).astype(int)
    time_ = np.sort(rng.integers(now - DAYS * 86_400, now, outcomes))
    action = rng.choice(["click", "view", "purchase", "skip"], outcomes, p=[0.5, 0.3, 0.05, 0.15])
    for start in range(0, outcomes, ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        n = len(user[part])
        rows = pa.table({
            "event_id": [hashlib.md5(b"e%d" % k).hexdigest() for k in range(start, start + n)],  # noqa: S324
            "request_id": [hashlib.md5(b"r%d" % (k // 3)).hexdigest() for k in range(start, start + n)],  # noqa: S324
            "user": names[user[part]], "item": [f"item-{one}" for one in item[part]], "action": action[part],
            "value": np.ones(n), "time": time_[part], "writer": [f"gateway{start // ROWS_AT_ONCE % 2}"] * n,
            "seq": np.arange(start + 1, start + n + 1),
        })  # fmt: skip
        rows = rows.select(SCHEMAS["outcomes"].names).cast(SCHEMAS["outcomes"])
        log.tables["outcomes"].append(rows, writer=rows["writer"][0].as_py())
    log.maintain()


def write_interactions(path: Path, rows: int, *, users: int, items: int, now: int) -> None:
    """A file of what people did before there was a log."""
    rng = np.random.default_rng(1)
    user, item, when = rng.integers(users, size=rows), rng.integers(items, size=rows), rng.integers(now - 10**7, now, rows)
    with path.open("w") as file:
        file.write("user,item,time\n")
        file.writelines(f"u{u},item-{i},{t}\n" for u, i, t in zip(user, item, when, strict=True))


def publish_popularity(run: Path, items: int, now: int) -> None:
    """The files by which a gateway knows the popularity of version 1, which was made a day ago."""
    version = run / "models" / "tfrec" / "1"
    version.mkdir(parents=True)
    prior = PopularityPrior(items)
    prior.update(np.arange(items), np.full(items, now - 86_400))
    write_prior(version, prior, [f"item-{item}" for item in range(items)])


def status_of(pid: int, name: str) -> float:
    """A size of /proc/PID/status, in MB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1000


def cpu_of(pid: int) -> float:
    """Seconds of processor that a process took."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def started(run: Path, settings: list[str]) -> dict[str, Any]:
    """Start a gateway, ask it for some users who have not come since, and end it."""
    port, began = free_port(), time.perf_counter()
    words = [word for one in (f"run={run}", *settings) for word in ("--set", one)]
    command = [sys.executable, "-m", "tfrec", "gateway", "--server", "127.0.0.1:1", "--port", str(port), *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as gateway, httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        while True:
            with suppress(httpx.TransportError):
                if http.get("/healthz").status_code == 200:
                    break
            assert gateway.poll() is None, gateway.communicate()[1]
            time.sleep(0.01)
        found: dict[str, Any] = {"seconds": time.perf_counter() - began, "cpu_seconds": cpu_of(gateway.pid),
                                 "peak_mb": status_of(gateway.pid, "VmHWM")}
        times = []
        for user in range(0, 2000, 10):
            began = time.perf_counter()
            http.post("/v1/recommend", json={"user": f"u{user}", "k": 10}).raise_for_status()
            times.append(1e3 * (time.perf_counter() - began))
        found |= {"first_answer_ms": times[0], "median_answer_ms": median(times[1:]), "worst_answer_ms": max(times[1:]),
                  "peak_mb_after": status_of(gateway.pid, "VmHWM")}
        gateway.terminate()
    return {name: round(value, 2) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outcomes", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--interactions", type=int, default=0, help="rows of a file in data.interactions")
    parser.add_argument("--times", type=int, default=3)
    wish = parser.parse_args()
    now = int(time.time())
    for outcomes in (0, wish.outcomes):
        with tempfile.TemporaryDirectory() as directory:
            run, settings = Path(directory), []
            write_log(run, load_pseudonyms(run), outcomes=outcomes, users=wish.users, items=wish.items, now=now)
            publish_popularity(run, wish.items, now)
            if outcomes and wish.interactions:
                write_interactions(run / "interactions.csv", wish.interactions, users=wish.users, items=wish.items, now=now)
                settings = [f"data.interactions={run / 'interactions.csv'}"]
            for _ in range(wish.times):
                print(json.dumps({"outcomes": outcomes, **started(run, settings)}), flush=True)


if __name__ == "__main__":
    main()

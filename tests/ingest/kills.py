"""Kills `tfrec ingest` while messages arrive, and counts what is then lost or twice."""
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.ingest.broker import Broker, click, slate
from tfrec.data.feedback_log.log import FeedbackLog

TOPIC, PARTITIONS = "mixed", 4


def command(broker: Broker, run: Path, *more: str) -> list[str]:
    """The program that reads the topic."""
    return [sys.executable, "-m", "tfrec", "ingest", "--from", "kafka", TOPIC, "--servers", broker.address,
            "--set", f"run={run}", "--set", "ingest.commit_seconds=0.02", *more]


def kill_while_sending(broker: Broker, run: Path, *, kills: int, seconds: float, seed: int = 0) -> dict[str, int]:
    """Send impressions and outcomes to all partitions, kill the ingest `kills` times, let it end, and compare.

    Args:
        broker: of the topic.
        run: the run directory.
        kills: SIGKILLs.
        seconds: how long a process lives at most, once it has begun to commit.
        seed: of when it dies.

    Returns:
        `sent`, `lost` and `twice` in records, and the `kills` after which one table was ahead of the other.
    """
    chance, sent, between = random.Random(seed), Counter[str](), 0
    log = FeedbackLog(run / "log")

    def send() -> None:
        for partition in range(PARTITIONS):
            n = sent.total()
            messages = [slate(n), click(n), [click(n + 1), slate(n + 1)], click(n + 2)]
            broker.send(TOPIC, messages, partition=partition)
            sent.update([f"r{n}", f"e{n}", f"e{n + 1}", f"r{n + 1}", f"e{n + 2}"])

    def positions() -> list[dict[str, int]]:
        return [{f"{p}": table.last_seq(f"kafka:{TOPIC}:{p}") for p in range(PARTITIONS)} for table in log.tables.values()]

    for _ in range(kills):
        before = positions()[1]
        process = subprocess.Popen(command(broker, run, "--follow"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        give_up = time.monotonic() + 60
        while positions()[1] == before and process.poll() is None and time.monotonic() < give_up:
            send()
        dies = time.monotonic() + chance.random() * seconds
        while time.monotonic() < dies:
            send()
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        shown, done = positions()
        between += any(shown[p] > done[p] for p in shown)
    subprocess.run(command(broker, run), check=True, capture_output=True, timeout=120)
    found = _found(log)
    return {"kills": kills, "between_the_tables": between, "sent": sent.total(), "lost": len(sent - found),
            "twice": (found - sent).total()}


def _found(log: FeedbackLog) -> Counter[str]:
    shown, done = log.read("impressions"), log.read("outcomes")
    rows: list[dict[str, Any]] = shown.select(["request_id", "position"]).to_pylist()
    slates = Counter(f"{row['request_id']}" for row in rows if row["position"] == 0)
    assert all(count == slates[name] for name, count in Counter(row["request_id"] for row in rows if row["position"]).items())
    return slates + Counter(done["event_id"].to_pylist())

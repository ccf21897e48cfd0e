"""Kills `tfrec ingest` twenty times while messages arrive, and measures its rows a second.

    python tests/benchmarks/ingest_kills.py [--kills 20] [--rows 300000]

The broker is librdkafka's own, over real sockets, with four partitions, impressions and outcomes mixed. Each process is killed by
SIGKILL at a random moment after its first commit. At the end, every record that was sent is looked up in the log. The last lines
are outcomes a second of JSON lines and of a topic, by processes of their own, from the first that they read to the last commit.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
import tests  # noqa: E402

tests.__path__ = [str(ROOT / "tests"), *tests.__path__]  # an installed package may have this name, too

from tests.ingest.broker import Broker, click  # noqa: E402
from tests.ingest.kills import kill_while_sending  # noqa: E402

_SOURCE_PARTS = 20_000  # of rows that are sent and read at a time: the broker keeps 5 MB of a partition


def _rate(run: Path, *words: str) -> tuple[int, float]:
    """Outcomes that came to the log, and the seconds that it took."""
    command = [sys.executable, "-m", "tfrec", "ingest", *words, "--json", "--set", f"run={run}"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return sum(part["outcomes"] for part in report["parts"]), report["seconds"]


def _outcomes(start: int, stop: int) -> list[dict[str, object]]:
    return [{**click(n), "user": f"user-{n % 5000}", "item": f"item-{n % 999}", "request_id": f"r{n}", "time": 1_700_000_000 + n}
            for n in range(start, stop)]


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=300_000)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        print(json.dumps(kill_while_sending(Broker(), root / "killed", kills=told.kills, seconds=1.0)), flush=True)
        path = root / "outcomes.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in _outcomes(0, told.rows)))
        rows, seconds = _rate(root / "files", "--from", "jsonl", str(path))
        print(f"JSON lines: {rows:,} outcomes, {rows / seconds:,.0f} a second", flush=True)
        broker, found = Broker(), list[tuple[int, float]]()
        for start in range(0, told.rows, 4 * _SOURCE_PARTS):
            for partition in range(4):
                first = start + partition * _SOURCE_PARTS
                broker.send("clicks", _outcomes(first, first + _SOURCE_PARTS), partition=partition)
            found.append(_rate(root / "topic", "--from", "kafka", "clicks", "--servers", broker.address))
        rows, seconds = sum(rows for rows, _ in found), sum(seconds for _, seconds in found)
        print(f"Kafka: {rows:,} outcomes, {rows / seconds:,.0f} a second", flush=True)


if __name__ == "__main__":
    main()

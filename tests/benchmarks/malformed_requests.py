"""Ten thousand malformed requests against the embedded server in a process of its own: no crash, only the documented codes.

    python tests/benchmarks/malformed_requests.py [--count 10000] [--seed 1]
"""
import argparse
import sys
import tempfile
import time
from pathlib import Path

from tfrec.client.client import Client
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import ServerProcess, free_port

sys.path.insert(0, str(Path(__file__).parents[1] / "model_server"))
from malformed import attack  # noqa: E402  the suite sends some hundreds of the same
from tiny import save_tiny  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        save_tiny(Path(base) / "1")
        options = ServeOptions(port=free_port(), rest_api_port=free_port(), model_name="tiny", model_base_path=base)
        with ServerProcess(options) as server, Client(server.address, model="tiny") as client:
            began = time.monotonic()
            failures = list(attack(server.address, f"http://127.0.0.1:{options.rest_api_port}", seed=wish.seed, count=wish.count))
            seconds = time.monotonic() - began
            answer = client.recommend(history=[["b"]], k=1)[0].items
    print("\n".join(failures[:20]))
    print(f"{wish.count} requests in {seconds:.0f} s: {len(failures)} answers that should not be; the server then said {answer}")
    return 1 if failures or answer != ("a",) else 0


if __name__ == "__main__":
    sys.exit(main())

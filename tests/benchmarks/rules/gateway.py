"""What rules add to a request through HTTP: two gateways over one model server, one of them with 51 rules, are asked in turns.

    python tests/benchmarks/rules/gateway.py [--requests 600] [--hidden 1000]

Half of the rules hold for each request: exclusions by tag and id, boosts and buries, and a pin. The model is the tiny one of the
tests, so that nothing hides what the gateway does. Both gateways, the model server and the caller share this process.

With `--hidden`, the other gateway has no rules, and a review hides so many items.
"""
import tfrec  # noqa: F401  # isort: skip  before anything imports TensorFlow: it chooses Keras 2
import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from tests.gateway.world import World
from tests.model_server.tiny import save_two
from tfrec.config import Config, GatewayConfig, ReviewConfig
from tfrec.data.records import Item
from tfrec.model_server.embedded import EmbeddedServer
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import free_port
from tfrec.review.scan import scan

KINDS = ('do = "exclude"\ntags = ["t{0}"]', 'do = "boost"\nfactor = 2.0\ntags = ["u{0}"]', 'do = "exclude"\nitems = ["x{0}"]',
         'do = "bury"\nfactor = 2.0\nitems = ["y{0}"]')
BODY = {"user": "u", "k": 5, "context": {"device": "tv"}}
WARM_UP = 50


def rules() -> str:
    pin = '[[rule]]\nname = "pin"\ndo = "pin"\nitems = ["e"]\nposition = 1\n'
    of_device = ("tv", "phone")
    return pin + "".join(f'[[rule]]\nname = "r{n}"\n{KINDS[n // 2 % 4].format(n)}\nwhen = {{ device = "{of_device[n % 2]}" }}\n'
                         for n in range(50))


def flagged(root: Path, hidden: int) -> None:
    """A run in which so many items wait for a review."""
    (root / "terms.toml").write_text('spam = ["spam"]\n')
    scan(Config(run=root / "run", review=ReviewConfig(terms=root / "terms.toml")),
         [Item(id=f"hidden-{n}", text="spam") for n in range(hidden)], now=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=600, help="of each gateway")
    parser.add_argument("--hidden", type=int, default=0, metavar="ITEMS", help="that a review hides, in place of rules")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    serve = ServeOptions(port=free_port(), rest_api_port=free_port(), model_config_file=str(save_two(root)), host="127.0.0.1",
                         allow_version_labels_for_unavailable_models=True)
    server = EmbeddedServer(serve, stopping=threading.Event())
    server.start()
    (root / "rules.toml").write_text(rules())
    worlds = []
    ruled = GatewayConfig(rules=None if options.hidden else root / "rules.toml")
    for name, settings in (("without", GatewayConfig()), ("with", ruled)):
        (root / name).mkdir()
        if name == "with":
            flagged(root / name, options.hidden)
        worlds.append(World(root / name, f"127.0.0.1:{serve.port}", settings))
    wall, processor = (np.zeros((options.requests, 2)) for _ in range(2))
    for number in range(-WARM_UP, options.requests):
        for column, world in enumerate(worlds):
            began, used = time.perf_counter(), time.process_time()
            world.http.post("/v1/recommend", json=BODY).raise_for_status()
            if number >= 0:
                wall[number, column], processor[number, column] = time.perf_counter() - began, time.process_time() - used
    print("ms a request        without    with    difference (median of the pairs)")
    for name, took in (("from call to answer", 1000 * wall), ("processor", 1000 * processor)):
        without, ruled = np.median(took, axis=0)
        print(f"{name:19} {without:7.2f} {ruled:7.2f} {np.median(took[:, 1] - took[:, 0]):13.2f}", flush=True)
    for world in worlds:
        world.close()
    server.stop()


if __name__ == "__main__":
    main()

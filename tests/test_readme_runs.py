"""The README's own shop, word for word, from an export to a running, exploring, logged, swappable service.

Its commands run as they stand, but for the ports, on a catalogue of 40 items with a BERT of width 16: the README's films take
a minute to train on.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from tfrec.data.log import FeedbackLog
from tfrec.serving.process import free_port

ROOT = Path(__file__).parent.parent
OWN_DATA = (ROOT / "README.md").read_text(encoding="utf-8").split("## Your own data")[1].split("## Colab")[0]
LIVE = 50
WORDS = ("crime", "paris", "robots", "space", "heist")


def block(beginning: str, language: str = "sh") -> str:
    """The block of code that begins like this."""
    (found,) = [text for text in re.findall(rf"^```{language}\n(.*?)^```", OWN_DATA, re.M | re.S) if text.startswith(beginning)]
    return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: str) -> Path:
    """A directory with the three files and the settings that the README speaks of, and `tfrec` on the path."""
    directory = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(3)
    rows = [{"id": str(n), "title": f"{WORDS[n % 5]} in {WORDS[n // 5 % 5]} {n}"} for n in range(40)]
    (directory / "items.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    now, n = int(time.time()), 300
    events = [{"user": f"u{u}", "item": str(i), "time": now - 60 * (n + LIVE - at)}
              for at, (u, i) in enumerate(zip(rng.integers(15, size=n + LIVE), rng.integers(40, size=n + LIVE), strict=True))]
    lines = [f"{e['user']},{e['item']},{e['time']}\n" for e in events[:n]]
    (directory / "interactions.csv").write_text("user,item,time\n" + "".join(lines))
    (directory / "live.json").write_text(json.dumps([event | {"action": "click"} for event in events[n:]]))
    small = f"""
        [text]
        encoder = "{tiny_checkpoint}"
        max_tokens = 12
        [model]
        dim = 8
        history = 6
        id_slots = 64
        [training]
        epochs = 1
        [retrain]
        epochs = 1
        min_events = 10
    """
    (directory / "shop.toml").write_text(block("run =", "toml") + small)
    program = directory / "bin" / "tfrec"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tfrec "$@"\n')
    program.chmod(0o755)
    return directory


def run(shop: Path, script: str) -> str:
    """What the shell prints."""
    found = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, cwd=shop, env=environment(shop), timeout=240)
    assert found.returncode == 0, found.stderr
    return found.stdout


def environment(shop: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{shop / 'bin'}:{os.environ['PATH']}"}


@contextmanager
def running(shop: Path, command: str, url: str) -> Iterator[None]:
    """A program in a terminal of its own, from its first answer on."""
    name = command.split()[1]
    with (shop / f"{name}.out").open("wb") as out:
        process = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=shop, env=environment(shop), stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(url, timeout=5)  # noqa: S310
                break
            except OSError:
                assert process.poll() is None, (shop / f"{name}.out").read_text()
                assert time.monotonic() < deadline, (shop / f"{name}.out").read_text()
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def test_from_an_export_to_a_service_that_learns(shop: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("the README asks with curl")
    run(shop, block("tfrec train"))
    grpc, rest, http = free_port(), free_port(), free_port()
    serve, gateway = [re.split(r" +#", line)[0] for line in block("tfrec serve").splitlines()]
    with ExitStack() as stack:
        serve += f" --port={grpc} --rest_api_port={rest}"
        stack.enter_context(running(shop, serve, f"http://127.0.0.1:{rest}/v1/models/tfrec"))
        gateway += f" --server 127.0.0.1:{grpc} --port {http}"
        stack.enter_context(running(shop, gateway, f"http://127.0.0.1:{http}/readyz"))

        answers = run(shop, block("ask()").replace("8080", str(http))).splitlines()
        first, item, outcome, second, explored, found, near, why = answers
        shown = [one["item"] for one in json.loads(first)["items"]]
        assert len(shown) == 3
        assert json.loads(item)["id"] == shown[0]
        assert json.loads(outcome)["event_id"]
        assert shown[0] not in [one["item"] for one in json.loads(second)["items"]]  # she has had it
        assert [len(json.loads(answer)["items"]) for answer in (explored, found, near)] == [3, 3, 3]
        parts = json.loads(why)
        assert [event["item"] for event in parts["history"]] == [shown[0]]
        assert "".join(part["token"].removeprefix("##") for part in parts["query"]) == "crimeinpar"  # 10 pieces are read
        assert len(json.loads((shop / "live.out").read_text())) == LIVE

        retrain, status = block("tfrec retrain").splitlines()
        assert "AVAILABLE" in run(shop, f"{retrain} || [ $? = 3 ]\n{status.replace('8501', str(rest))}")
        with (shop / "items.jsonl").open("a") as file:  # the same items would be no change, and no version to roll back from
            file.write('{"id": "40", "title": "robots in paris 40"}\n')
        run(shop, "tfrec publish --items items.jsonl --config shop.toml")
        run(shop, "tfrec rollback --config shop.toml")
    slates = FeedbackLog(shop / "runs" / "shop" / "log").read("impressions").to_pylist()
    policies = {row["policy"]: row["log_propensity"] for row in slates}
    assert policies.pop("greedy") == 0.0
    ((policy, log_propensity),) = policies.items()
    assert policy != "greedy"
    assert log_propensity < 0

"""From new outcomes to served weights: how long a retrain takes in a process that runs on, and in a fresh one, step by step.

    python tests/benchmarks/seconds.py [--work runs/seconds] [--events 10000] [--windows 3] [--fresh 1]

A model of the first 70% of MovieLens is trained once, published, and kept in the work directory. Then the next events come into
the log as outcomes, window by window. Time runs from the last outcome in the log until a model server that was there before
answers with the new version. The first window of the process that runs on traces its steps; it is told apart. The gate's margins
are open, so that every window is published: what is measured is time, and not quality.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tfrec.client.client import Client
from tfrec.config import Config, load_config
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.movielens import load_movielens
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Outcome
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import ServerProcess, free_port

TRAINED = 0.7  # of the events, by time
OPEN = ["retrain.gate_margin=1", "retrain.gate_floor=0", "retrain.forget_margin=1", "retrain.search_margin=1"]

Run = Callable[[int], dict[str, Any]]  # retrains at a second, and returns the result


def configured(run: Path, inter: Interactions) -> Config:
    weights = ", ".join(f'"{action}" = 1.0' for action in inter.actions)
    return load_config(None, [f"run={run}", f"data.items={run / 'catalogue.jsonl'}", f"reward.weights={{{weights}}}",
                              f"data.interactions={run / 'base.parquet'}", "training.epochs=2", *OPEN])


def prepare(base: Path, catalogue: Catalogue, inter: Interactions) -> None:
    """A run with one published version, made once."""
    if (base / "config.toml").is_file():
        return
    from tfrec.release.export import export
    from tfrec.release.publish import publish
    from tfrec.training.train import train

    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    config, end = configured(base, inter), int(TRAINED * len(inter))
    catalogue.write(base / "catalogue.jsonl")
    pq.write_table(inter.slice(0, end).to_table(), base / "base.parquet")
    made = train(config, catalogue, inter.slice(0, end))
    publish(export(made.recommender, base / "export", created_at=int(inter.time[end - 1]), optimizer=made.optimizer),
            config.models_dir)
    (base / "config.toml").write_text(config.to_toml())


def measure(config: Config, inter: Interactions, run: Run, *, windows: int, events: int) -> None:
    """Print, for each window, the seconds from its last outcome in the log to the server that answers with its version."""
    options = ServeOptions(port=free_port(), model_name=config.serving.model_name, model_base_path=str(config.models_dir))
    with ServerProcess(options) as server, Client(server.address, model=config.serving.model_name) as client:
        start = int(TRAINED * len(inter))
        for window in range(windows):
            stop = min(start + events, len(inter))
            FeedbackLog(config.log_dir).append("outcomes", [outcome(inter, event) for event in range(start, stop)], writer="g")
            began = time.monotonic()
            result = run(int(inter.time[stop - 1]) + 1)
            published = time.monotonic()
            if result["outcome"] != "promoted":
                raise SystemExit(f"window {window}: {result['outcome']}: {result['reason']}")
            while (result["version"], "AVAILABLE") not in [(entry.version, entry.state) for entry in client.status()]:
                time.sleep(0.02)
            ended, steps = time.monotonic(), ", ".join(f"{step} {took:.2f}" for step, took in result["seconds"].items())
            print(f"  window {window}: {stop - start} outcomes, {result['learnt']} learnt: {ended - began:.1f} s to served "
                  f"weights ({steps}; served {ended - published:.2f}); load {os.getloadavg()[0]:.1f}", flush=True)
            start = stop


def outcome(inter: Interactions, event: int) -> tuple[int, str]:
    made = Outcome(event_id=f"e{event}", user=inter.users[inter.user[event]], item=inter.items[inter.item[event]],
                   action=inter.actions[inter.action[event]], time=int(inter.time[event]))
    return event, made.model_dump_json()


def in_this_process(config: Config, stack: ExitStack) -> Run:
    from dataclasses import asdict

    from tfrec.retrain import Session, retrain

    session = stack.enter_context(Session())
    return lambda now: asdict(retrain(config, now=now, session=session))


def in_a_fresh_process(config: Config) -> Run:
    settings = config.run / "config.toml"
    settings.write_text(config.to_toml())
    program = ("import sys, json, dataclasses; from tfrec.config import load_config; from tfrec.retrain import retrain; "
               "print(json.dumps(dataclasses.asdict(retrain(load_config(sys.argv[1]), now=int(sys.argv[2])))))")

    def run(now: int) -> dict[str, Any]:
        told = subprocess.run([sys.executable, "-c", program, str(settings), str(now)], stdout=subprocess.PIPE, check=True)
        result: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
        return result
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/seconds"))
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--windows", type=int, default=3, help="of the process that runs on; the first one traces")
    parser.add_argument("--fresh", type=int, default=1, help="windows that have a process each")
    wish = parser.parse_args()
    catalogue, inter = load_movielens()
    base = wish.work / "base"
    prepare(base, catalogue, inter)
    for name, windows in (("runs on", wish.windows), ("fresh", wish.fresh)):
        run = wish.work / name.replace(" ", "-")
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(base, run, copy_function=os.link, ignore=shutil.ignore_patterns("tensorboard", "export"))
        config = configured(run, inter)
        print(f"a process that {name}:" if name == "runs on" else "a fresh process for each window:", flush=True)
        with ExitStack() as stack:
            made = in_this_process(config, stack) if name == "runs on" else in_a_fresh_process(config)
            measure(config, inter, made, windows=windows, events=wish.events)


if __name__ == "__main__":
    main()

"""One retrain of a fixed window, before which the log has ever more rows: how long it takes, and how much memory.

    python tests/benchmarks/log_length.py DIR [--rows 100000 1000000 10000000] [--events 10000]

For each length a log is written: requests with five items each, of which one is clicked, by 50,000 people on 2,000 items, as many
a day as the window has. The past is settled, and a version is published that has read it. Then, in a process of its own, the
window arrives and `tfrec.retrain.retrain` runs, with its gate, export and verification. Printed for each length: the rows that
the join of the past read in a second, the seconds of the retrain by step and its peak memory; at the end ratios of last to first.
"""
import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tfrec.config import Config, load_config
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.merge import merge_behaviour
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.schema import SCHEMAS
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.records import Item
from tfrec.data.settled.examples import Buckets, SettledExamples
from tfrec.data.settled.settle import settle

USERS, ITEMS, SLATE, HISTORY = 50_000, 2_000, 5, 10
DAY, CHUNK = 86_400, 20_000  # CHUNK: requests in a commit
BEGIN = 1_600_000_000


def catalogue() -> Catalogue:
    colours, things = ("red", "blue", "green", "black", "white"), ("shoe", "hat", "coat", "lamp", "chair", "table", "cup", "book")
    return Catalogue([Item(id=f"i{n}", text=f"{colours[n % 5]} {things[n // 5 % 8]} number {n}") for n in range(ITEMS)])


class Writer:
    """Writes requests and clicks, `per_day` of them a day, without gaps."""

    def __init__(self, log: FeedbackLog, *, per_day: int) -> None:
        self.log, self.per_day, self.count = log, per_day, 0
        self.rng = np.random.default_rng(0)

    def write(self, requests: int) -> int:
        """Log so many requests; returns the second of the last."""
        while requests > 0:
            n = min(CHUNK, requests)
            self._chunk(n)
            requests -= n
        return BEGIN + DAY * self.count // self.per_day

    def _chunk(self, n: int) -> None:
        number = self.count + np.arange(n)
        then = BEGIN + DAY * number // self.per_day
        user = self.rng.zipf(1.2, n) % USERS
        shown = ((self.rng.zipf(1.3, (n, SLATE)) + np.arange(SLATE) * 397) % ITEMS)  # mostly five different items
        history = self.rng.integers(ITEMS, size=n * HISTORY)
        names, people = pa.array([f"i{i}" for i in range(ITEMS)]), pa.array([f"u{u}" for u in range(USERS)])
        request = pa.array([f"r{k}" for k in number])
        each = pa.array(np.repeat(np.arange(n), SLATE))
        ends = pa.array(np.arange(0, n * HISTORY + 1, HISTORY), pa.int32())
        lists, person = pa.ListArray.from_arrays(ends, names.take(pa.array(history))), people.take(pa.array(user))
        rows = n * SLATE
        columns = {
            "request_id": request.take(each), "time": pa.array(np.repeat(then, SLATE)), "user": person.take(each),
            "query": pa.repeat("", rows), "history": lists.take(each), "policy": pa.repeat("greedy", rows),
            "model_version": pa.repeat(1, rows), "item": names.take(pa.array(shown.ravel())),
            "position": pa.array(np.tile(np.arange(SLATE), n)), "score": pa.repeat(0.0, rows),
            "log_propensity": pa.repeat(0.0, rows),
            "writer": pa.repeat("w", rows), "seq": pa.array(np.repeat(self.count + np.arange(n) + 1, SLATE)),
        }
        self._append("impressions", columns, rows)
        chosen = shown[np.arange(n), self.rng.integers(SLATE, size=n)]
        columns = {
            "event_id": pa.array([f"e{k}" for k in number]), "request_id": request, "user": person,
            "item": names.take(pa.array(chosen)), "action": pa.repeat("click", n), "value": pa.repeat(1.0, n),
            "time": pa.array(then + 20), "writer": pa.repeat("w", n), "seq": pa.array(self.count + np.arange(n) + 1),
        }
        self._append("outcomes", columns, n)
        self.count += n

    def _append(self, kind: Any, columns: dict[str, pa.Array], rows: int) -> None:
        full = [columns.get(field.name, pa.nulls(rows, field.type)).cast(field.type) for field in SCHEMAS[kind]]
        self.log.tables[kind].append(pa.table(full, schema=SCHEMAS[kind]), writer="w")


def configured(run: Path, *options: str) -> Config:
    return load_config(None, [f"run={run}", f"data.items={run / 'items.jsonl'}", "reward.weights.click=1.0", *options])


def prepare(run: Path, *, rows: int, events: int) -> dict[str, Any]:
    """Make a run with a settled past of so many rows, a version that has read it, and the window logged."""
    from tfrec.models.prior_timeline import PriorTimeline
    from tfrec.models.recommender import Recommender, encode_catalogue
    from tfrec.release.export import export
    from tfrec.release.lineage import Lineage
    from tfrec.release.publish import publish

    config, items = configured(run), catalogue()
    run.mkdir(parents=True)
    items.write(run / "items.jsonl")
    log, settled, rule = FeedbackLog(config.log_dir), SettledExamples(config.examples_dir), LabelRule.of(config, items)
    writer = Writer(log, per_day=events)
    now = writer.write(rows // (SLATE + 1)) + 60
    log.maintain()
    began = time.monotonic()
    part = settle(log, settled, rule, now=now, quarantine=None)
    seconds = time.monotonic() - began
    settled.maintain()
    inter = past(settled, items)
    made = Recommender.build(config, items, encode_catalogue(config, items.texts), actions=["click"])
    made.timeline = PriorTimeline.of(inter, weights=made.prior.weights)
    made.timeline.upto = part.number
    made.prior = made.timeline.prior.copy()
    lineage = Lineage(window={"upto": part.number, "now": now}, slates_until=now - 2 * DAY)
    publish(export(made, run / "export", created_at=now, lineage=lineage), config.models_dir)
    return {"rows": rows, "join of the past, rows/s": round(rows / seconds), "now": writer.write(events) + 60}


def past(settled: SettledExamples, items: Catalogue) -> Interactions:
    found = settled.behaviour(after=0, upto=1, sample=Buckets.share(1.0, seed=0))
    return merge_behaviour(None, found, after=0, counted=0, items=items.ids.tolist()).inter


def one_retrain(run: Path, now: int, options: list[str]) -> dict[str, Any]:
    """The retrain of the window, in this process."""
    from tfrec.retrain import retrain

    began, cpu = time.monotonic(), time.process_time()
    wide = ["retrain.gate_margin=1", "retrain.gate_floor=0", "retrain.forget_margin=1", "retrain.search_margin=1",
            "retrain.pair_margin=1", "retrain.keep_share=0", "retrain.value_margin=1000"]
    result = retrain(configured(run, *wide, *options), now=now)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"outcome": result.outcome, "events": result.events, "seconds": round(time.monotonic() - began, 2),
            "of them processor": round(time.process_time() - cpu, 2), "peak MB": round(peak), "by step": result.seconds}


def in_process(*words: object) -> dict[str, Any]:
    out = subprocess.run([sys.executable, __file__, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--events", type=int, default=10_000, help="outcomes of the window, and of each day before it")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--step", choices=["prepare", "retrain"], help=argparse.SUPPRESS)
    parser.add_argument("--now", type=int, help=argparse.SUPPRESS)
    wish = parser.parse_args()
    if wish.step == "prepare":
        print(json.dumps(prepare(wish.directory, rows=wish.rows[0], events=wish.events)))
        return
    if wish.step == "retrain":
        print(json.dumps(one_retrain(wish.directory, wish.now, wish.set)))
        return
    settings, found = [word for one in wish.set for word in ("--set", one)], []
    for rows in wish.rows:
        run = wish.directory / f"rows-{rows}"
        shutil.rmtree(run, ignore_errors=True)
        made = in_process(run, "--step", "prepare", "--rows", rows, "--events", wish.events)
        found.append(made | in_process(run, "--step", "retrain", "--now", made["now"], *settings))
        print(json.dumps(found[-1]), flush=True)
    ratios = {name: round(found[-1][name] / found[0][name], 2) for name in ("seconds", "of them processor", "peak MB")}
    print(json.dumps({"last to first": ratios}))


if __name__ == "__main__":
    main()

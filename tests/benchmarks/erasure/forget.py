"""How long it takes to erase a user from a long log, and what is left where `tfrec forget` is killed at random instants.

    python tests/benchmarks/erasure/forget.py [--rows 1000000] [--kills 40] [--seed 0]

First a small run with rows in all places is erased of one user after the other, each time by a process that is killed by SIGKILL
at a random instant of the time that an erasure takes, and finished by the next. After each: nothing on disk names the user, all
rows of others are there, and there is one tombstone more. Ends with 1 if anything is otherwise.

Then the long log: `--rows` rows of impressions and outcomes, in slates of five of which one item is clicked, by 50,000 users; its
examples are settled, and there is a file of as many base interactions. One of the users who did most, and one who did little, are
erased by processes of their own. Printed: seconds, processor seconds and peak memory of each, and its receipt.
"""
import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))
import tests  # noqa: E402

tests.__path__ = [str(ROOT / "tests"), *tests.__path__]  # an installed package may have this name, too

from tests.erasure.named import ANN, NOW, live, named, run_of  # noqa: E402
from tfrec.config import Config, load_config  # noqa: E402
from tfrec.data.feedback_log.log import FeedbackLog  # noqa: E402
from tfrec.data.feedback_log.schema import SCHEMAS, Kind  # noqa: E402
from tfrec.data.items.catalogue import Catalogue  # noqa: E402
from tfrec.data.labels.label_rule import LabelRule  # noqa: E402
from tfrec.data.people.erasures import Erasures, load_people  # noqa: E402
from tfrec.data.records import Item  # noqa: E402
from tfrec.data.settled.examples import SettledExamples  # noqa: E402
from tfrec.data.settled.settle import settle  # noqa: E402
from tfrec.erasure.forget import forget  # noqa: E402

USERS, ITEMS, SLATE, CHUNK = 50_000, 2_000, 5, 20_000
DAY, BEGIN = 86_400, 1_600_000_000
FORKS = """
import json, os, signal, sys, time
from pathlib import Path
from tests.erasure.named import NOW, run_of
from tfrec.erasure.forget import forget
for line in sys.stdin:
    user, seconds = json.loads(line)
    if not (child := os.fork()):
        forget(run_of(Path(sys.argv[1])), user, now=NOW)
        os._exit(0)
    until = time.monotonic() + seconds
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < until:
        time.sleep(0.001)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    print(ended[1], flush=True)
"""


def write_log(config: Config, *, rows: int) -> None:
    """Write a log of about so many rows, compacted and settled."""
    log, of, rng = FeedbackLog(config.log_uri), load_people(config).of, np.random.default_rng(0)
    names = pa.array([of(f"u{n}") for n in range(USERS)])
    requests = rows // (SLATE + 1)
    for start in range(0, requests, CHUNK):
        n = min(CHUNK, requests - start)
        number, each = start + np.arange(n), pa.array(np.repeat(np.arange(n), SLATE))
        user, seq = names.take(pa.array(rng.zipf(1.2, n) % USERS)), pa.array(number + 1)
        request, then = pa.array([f"r{k}" for k in number]), pa.array(BEGIN + DAY * number // 10_000)
        query = pa.array([f"query {k}" if k % 3 == 0 else "" for k in number])
        shown = pa.array([f"i{k}" for k in rng.integers(ITEMS, size=n * SLATE)])
        append(log, "impressions", n * SLATE, request_id=request.take(each), user=user.take(each), time=then.take(each),
               query=query.take(each), item=shown, position=pa.array(np.tile(np.arange(SLATE), n)), seq=seq.take(each))
        append(log, "outcomes", n, event_id=pa.array([f"e{k}" for k in number]), request_id=request, user=user, time=then,
               item=shown.take(pa.array(np.arange(n) * SLATE)), seq=seq)
    log.maintain()
    rule = LabelRule.of(config, Catalogue([Item(id=f"i{n}") for n in range(ITEMS)]))
    settled = SettledExamples(config.examples_uri)
    settle(log, settled, rule, now=BEGIN + DAY * (requests // 10_000 + 9), quarantine=None)
    settled.maintain()


def append(log: FeedbackLog, kind: Kind, rows: int, **columns: pa.Array) -> None:
    """Commit columns; those that are missing have one value, or none."""
    same = {"writer": "w", "policy": "greedy", "action": "click", "value": 1.0, "score": 0.0, "log_propensity": 0.0,
            "model_version": 1}
    full = [columns[field.name].cast(field.type) if field.name in columns else
            pa.repeat(same[field.name], rows).cast(field.type) if field.name in same else pa.nulls(rows, field.type)
            for field in SCHEMAS[kind]]
    log.tables[kind].append(pa.table(full, schema=SCHEMAS[kind]), writer="w")


def measure(config: Config, settings: list[str], user: str) -> None:
    """Erase a user by the command, and print what that took."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [word for setting in settings for word in ("--set", setting)]
    ended = subprocess.run([sys.executable, "-m", "tfrec", "forget", user, "--json", *words], check=True, capture_output=True,
                           text=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{user}: {time.monotonic() - began:.1f} s, {cpu:.1f} processor seconds, peak {after.ru_maxrss / 1e3:,.0f} MB; "
          f"{json.loads(ended.stdout)[user]['removed']}", flush=True)
    name = load_people(config).names(user)[0]
    assert not (left := named(config.run, [name])), left


def kill_at_random(directory: Path, *, kills: int, seed: int) -> bool:
    """Erase users one after the other, each time killed once; whether all is as it should be."""
    config, rng = run_of(directory), random.Random(seed)
    live(config)
    people = load_people(config)
    log = FeedbackLog(config.log_uri)
    for k in range(kills + 2):
        row = {"user": people.of(f"person {k}"), "item": "a", "action": "click", "time": 9, "value": 1.0}
        log.append("outcomes", [(2 * k + n, json.dumps({"event_id": f"k{k}-{n}", **row})) for n in (1, 2)], writer="kills")
    forks = subprocess.Popen([sys.executable, "-c", FORKS, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    for k in (kills, kills + 1):  # the first imports everything
        began = time.monotonic()
        assert child(forks, f"person {k}", seconds=600) == 0
    whole, killed, fine = time.monotonic() - began, Counter[str](), True
    for k in range(kills):
        user = f"person {k}"
        status = child(forks, user, seconds=rng.uniform(0, whole))
        killed["killed" if status == signal.SIGKILL else "ended before"] += 1
        receipt = forget(config, user, now=NOW + k)
        mine = load_people(config).names(user)[0]
        others = sum(row["user"] != mine for row in log.read("outcomes").to_pylist() if row["writer"] == "kills")
        wrong = named(config.run, [user + '"', mine])
        if wrong or others != 2 * (kills - 1 - k) or Erasures(config.log_uri).newest() != k + 3 or receipt.waits_for:
            print(f"after kill {k}: named in {wrong}, {others} rows of others, {receipt}", flush=True)
            fine = False
    print(f"{dict(killed)} of {kills} erasures, of {whole:.2f} s each: {'as it should be' if fine else 'NOT as it should be'}; "
          f"of {ANN} {len(named(config.run, [load_people(config).of(ANN)]))} files are as before", flush=True)
    forks.communicate()
    return fine


def child(forks: "subprocess.Popen[str]", user: str, *, seconds: float) -> int:
    """Erase a user in a process of its own, and kill it after so many seconds; how it ended."""
    assert forks.stdin is not None
    assert forks.stdout is not None
    print(json.dumps([user, seconds]), file=forks.stdin, flush=True)
    return int(forks.stdout.readline())


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        fine = kill_at_random(Path(directory), kills=told.kills, seed=told.seed) if told.kills else True
    if told.rows:
        with tempfile.TemporaryDirectory() as directory:
            run, base = Path(directory, "run"), Path(directory, "base.csv")
            users = pa.array([f"u{n}" for n in np.random.default_rng(1).integers(USERS, size=told.rows)])
            pyarrow.csv.write_csv(pa.table({"user": users, "item": pa.repeat("i1", told.rows),
                                            "time": pa.array(BEGIN - 1 - np.arange(told.rows))}), base)
            settings = [f"run={run}", f"data.interactions={base}", "reward.weights.click=1.0"]
            config = load_config(None, settings)
            write_log(config, rows=told.rows)
            for user in ("u1", "u4321"):
                measure(config, settings, user)
    sys.exit(not fine)


if __name__ == "__main__":
    main()

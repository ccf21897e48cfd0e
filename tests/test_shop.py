"""The shop of the documentation: every command and program of docs/ as it stands, from an evaluation to a service that learns.

Only the ports differ, and the catalogue has 40 items and BERT the width 16: the films of the documentation take a minute to train
on. There is one training, one export and one publication for all tests of the file, which therefore depend on the order in which
they stand. The last one holds that no block of a page was left out.
"""
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.docs import pages
from tests.eagerly import eagerly
from tests.graph.tiny_recommender import exporting
from tfrec.config import load_config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.people.pseudonym import load_pseudonyms
from tfrec.data.records import Impression, Outcome, Shown
from tfrec.gateway.http.keys import Keys
from tfrec.model_server.process import free_port
from tfrec.release.lineage import Lineage, held_back, newest_model
from tfrec.release.manifest import read_manifest

ROOT = Path(__file__).parent.parent
ITEMS, USERS, EVENTS, LIVE = 40, 15, 300, 50
NOW = int(time.time())
BETWEEN = NOW - 60 * LIVE - 59  # the events of the file are over, and none of the live ones has come
WORDS = ("crime", "paris", "robots", "space", "heist")
METRICS = {"hr@10", "ndcg@10", "hr@50", "cold_hr@10", "untouched_hr@10"}
RUN = Path("runs", "shop")
Call = Callable[..., tuple[int, Any, str]]


RUN_BLOCKS: set[str] = set()  # texts of the blocks that tests of this file took


def block(page: str, beginning: str) -> str:
    """The text of the block of a page that begins like this; whoever asks for it runs it."""
    text = pages.block(page, beginning).text
    RUN_BLOCKS.add(text)
    return text


def lines(page: str, beginning: str) -> list[str]:
    """The commands of such a block, without comments."""
    return [re.split(r" +#", line)[0] for line in block(page, beginning).splitlines()]


@pytest.fixture(scope="module", autouse=True)
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: str, forked: None) -> Iterator[Path]:
    """A directory with the files and settings that docs/data.md speaks of, and `tfrec` on the path; all happens there."""
    directory = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(3)
    rows = [{"id": str(n), "title": f"{WORDS[n % 5]} in {WORDS[n // 5 % 5]} {n}"} for n in range(ITEMS)]
    (directory / "items.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    size = EVENTS + LIVE
    events = [{"user": f"u{u}", "item": str(i), "time": NOW - 60 * (size - at)}
              for at, (u, i) in enumerate(zip(rng.integers(USERS, size=size), rng.integers(ITEMS, size=size), strict=True))]
    lines = [f"{e['user']},{e['item']},{e['time']}\n" for e in events[:EVENTS]]
    (directory / "interactions.csv").write_text("user,item,time\n" + "".join(lines))
    (directory / "live.json").write_text(json.dumps([event | {"action": "click"} for event in events[EVENTS:]]))
    (directory / "shop.toml").write_text(f"""
        text = {{encoder = "{tiny_checkpoint}", max_tokens = 12}}
        model = {{dim = 8, layers = 0, history = 6, id_slots = 64}}
        training = {{epochs = 1, batch_size = 8}}
        retrain = {{epochs = 1, min_events = 10, gate_margin = 1.0}}
    """ + block("docs/data.md", "run ="))
    program = directory / "bin" / "tfrec"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tfrec "$@"\n')
    program.chmod(0o755)
    with chdir(directory):
        yield directory


@pytest.fixture
def call(call: Callable[..., tuple[int, str, str]]) -> Call:
    """`call("tfrec train --config shop.toml")` -> exit code, standard output, standard error.

    With other words, as in `call("train", "--restart")`, the settings are shop.toml's. JSON is given as what it says.
    """
    def run(first: str, *more: object) -> tuple[int, Any, str]:
        words = shlex.split(first, comments=True)[1:] if " " in first else [first, *more, "--config=shop.toml", "--json"]
        code, out, err = call(*words)
        return code, (json.loads(out) if out else None) if "--json" in words else out, err

    return run


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


def happen(events: list[tuple[str, int, int]], *, writer: str) -> None:
    """Put (user, item, time) into the log as a gateway would."""
    pseudonyms = load_pseudonyms(RUN)
    outcomes = [
        Outcome(event_id=f"{writer}-{n}", user=pseudonyms.of(user), item=str(item), action="click", time=time)
        for n, (user, item, time) in enumerate(events)
    ]
    with LogWriter(FeedbackLog(RUN / "log"), WriteAheadFile(RUN / "wal", writer)) as log:
        log.outcome(*outcomes)


def search(queries: list[str]) -> None:
    """Put searches into the log, each for one shown item that was clicked, long enough ago for their labels to be final."""
    user, then = load_pseudonyms(RUN).of("finder"), NOW - 7 * 86_400
    with LogWriter(FeedbackLog(RUN / "log"), WriteAheadFile(RUN / "wal", "searches")) as log:
        for n, query in enumerate(queries):
            shown = Shown(item=str(n % ITEMS), position=0, score=1.0)
            log.impression(Impression(request_id=query, time=then + n, user=user, query=query, slate=(shown,), policy="greedy",
                                      model_version=1))
            log.outcome(Outcome(event_id=query, user=user, item=shown.item, action="click", time=then + n, request_id=query))


def news() -> set[tuple[str, str]]:
    """(user, item) of the live events that the file did not have: to choose something again is no news."""
    had = {tuple(line.split(",")[:2]) for line in Path("interactions.csv").read_text().split()[1:]}
    return {(event["user"], event["item"]) for event in json.loads(Path("live.json").read_text())} - had


def test_what_needs_an_earlier_step_says_which(call: Call) -> None:
    code, out, err = call("retrain")
    assert (code, out) == (2, None)
    assert "no published version to continue from. First: tfrec train, tfrec export, tfrec publish." in err
    code, out, err = call("export")
    assert (code, out) == (1, None)
    assert "expected a checkpoint, found none. Train first: tfrec train." in err


def test_evaluate_prints_the_model_and_its_baselines(call: Call) -> None:
    (evaluate,) = lines("docs/train.md", "tfrec evaluate")
    code, out, _ = call(f"{evaluate} --json")
    assert code == 0
    assert {"static", "frozen", "baselines", "train_seconds", "epochs", "asked"} <= out.keys()
    assert out["baselines"].keys() == {"popularity", "popularity_7d", "item-kNN", "EASE"}
    for row in (out["static"], out["frozen"], *out["baselines"].values()):
        assert row.keys() >= METRICS
        assert 0 <= row["ndcg@10"] <= row["hr@10"] <= row["hr@50"] == 1  # 40 items: every one is among the first 50
    events = len({tuple(line.split(",")[:2]) for line in Path("interactions.csv").read_text().split()[1:]})
    assert (out["epochs"], out["train_events"]) == (1, int(0.8 * events))
    assert 0 < out["asked"] <= events - out["train_events"]
    assert out["train_seconds"] > 0


def test_sweep_tries_settings_and_leaves_the_run_as_it_is(call: Call) -> None:
    (sweep,) = lines("docs/train.md", "tfrec sweep")
    with eagerly():
        code, out, _ = call(f"{sweep} --json")
    assert (code, out["trials"], out["present"]["settings"]["model.dim"]) == (0, 3, 8)
    assert out["best"]["score"] >= out["present"]["score"]
    assert out["toml"].startswith("[model]\ndim = ")
    assert {path.name for path in RUN.iterdir()} == {"sweep", "text_vectors.npz"}


def test_a_profile_says_where_the_time_went(call: Call) -> None:
    (train,) = lines("docs/train.md", "tfrec train --config shop.toml --profile")
    code, out, _ = call(f"{train} --json")
    assert (code, out["epochs"]) == (0, 1)
    assert {"steps", "tracing", "validation", "preparation"} <= {row["part"] for row in out["profile"]}
    assert re.match(r"\d+ steps of [\d.]+ ms waited [\d.]+ ms each for their batch: the input pipeline is ", out["input"])
    assert len(list(Path(out["tensorboard"]).rglob("*.xplane.pb"))) == 1
    shutil.rmtree(RUN)


def test_train_leaves_a_checkpoint_and_export_a_saved_model_that_publish_verifies(call: Call) -> None:
    train, export, publish = lines("docs/train.md", "tfrec train --config shop.toml\ntfrec export")
    code, out, _ = call(f"{train} --json")
    assert (code, out["items"], out["epochs"], Path(out["checkpoint"])) == (0, ITEMS, 1, RUN / "checkpoint")
    assert (RUN / "checkpoint" / "checkpoint.json").is_file()
    code, out, _ = call(f"{export} --json")
    assert (code, Path(out["export"]), out["items"]) == (0, RUN / "export", ITEMS)
    names = {path.name for path in (RUN / "export").iterdir()}
    assert {"saved_model.pb", "manifest.json", "assets.extra", "checkpoint"} <= names
    code, out, err = call("export")
    assert (code, out) == (2, None)
    assert f"{RUN / 'export'} exists already" in err
    code, out, _ = call(f"{publish} --json")  # by a fresh server
    assert (code, out["version"], out["removed"]) == (0, 1, [])
    code, out, _ = call("status")
    assert (code, [row["version"] for row in out["versions"]], out["log"]) == (0, [1], {})


def test_retrain_waits_without_news(call: Call) -> None:
    code, out, _ = call("retrain")
    assert (code, out["outcome"], out["version"]) == (0, "waiting", 1)
    assert out["reason"] == "0 new events, retrain.min_events is 10: left for the next run"


def test_retrain_waits_while_it_cannot_compare(call: Call) -> None:
    # each by somebody new, who has no history: nobody can be asked
    happen([(f"new{n}", n, BETWEEN + n) for n in range(12)], writer="first")
    code, out, _ = call("retrain")
    assert (code, out["outcome"], out["version"], out["events"]) == (0, "waiting", 1, 12)
    assert "nobody in the window has a history" in out["reason"]


def test_the_application_asks_and_says_what_came_of_it(shop: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    if not shutil.which("curl"):
        pytest.skip("docs/serve.md asks with curl")
    grpc, rest, http = free_port(), free_port(), free_port()
    serve, gateway = lines("docs/serve.md", "tfrec serve --config")
    serve += f" --port={grpc} --rest_api_port={rest}"
    gateway += f" --server 127.0.0.1:{grpc} --port {http}"
    script = block("docs/serve.md", "ask()").replace("8080", str(http))
    over_rest = block("docs/serve.md", "curl").replace("8501", str(rest))
    _, status = lines("docs/retrain.md", "tfrec retrain --config shop.toml\ntfrec status")
    with running(shop, serve, f"http://127.0.0.1:{rest}/v1/models/tfrec"), \
         running(shop, gateway, f"http://127.0.0.1:{http}/readyz"):
        found = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, env=environment(shop), timeout=240)
        assert found.returncode == 0, found.stderr
        code, out, _ = call(status.replace("8501", str(rest)))
        assert (code, "AVAILABLE" in out) == (0, True)
        answered = subprocess.run(["bash", "-euc", over_rest], capture_output=True, text=True, timeout=60)
        assert len(json.loads(answered.stdout)["outputs"]["items"][0]) == 3
        exec(block("docs/serve.md", "from tfrec import Client").replace("8500", str(grpc)), {})
        assert len(re.findall(r"'\d+'", capsys.readouterr().out)) == 3
    first, item, outcome, second, explored, searched, near, why = found.stdout.splitlines()
    shown = [one["item"] for one in json.loads(first)["items"]]
    assert len(shown) == 3
    assert json.loads(item)["id"] == shown[0]
    assert json.loads(outcome)["event_id"]
    assert shown[0] not in [one["item"] for one in json.loads(second)["items"]]  # she has had it
    assert [len(json.loads(answer)["items"]) for answer in (explored, searched, near)] == [3, 3, 3]
    parts = json.loads(why)
    assert [event["item"] for event in parts["history"]] == [shown[0]]
    assert "".join(part["token"].removeprefix("##") for part in parts["query"]) == "crimeinpar"  # 10 pieces are read
    assert len(json.loads(Path("live.out").read_text())) == LIVE
    policies = {row["policy"]: row["log_propensity"] for row in FeedbackLog(RUN / "log").read("impressions").to_pylist()}
    assert policies.pop("greedy") == 0.0
    ((policy, log_propensity),) = policies.items()
    assert policy != "greedy"
    assert log_propensity < 0


def test_retrain_promotes_what_passes_the_gate(call: Call) -> None:
    # a margin of 1 lets everything pass; the twelve that waited are news still, beside what came over the gateway
    happen([(f"new{n % 12}", 20 + n, BETWEEN + 12 + n) for n in range(18)], writer="second")
    retrain, _ = lines("docs/retrain.md", "tfrec retrain --config shop.toml\ntfrec status")
    code, out, _ = call(retrain)
    assert (code, "promoted" in out) == (0, True)
    code, out, _ = call("status")
    assert [(row["version"], row["parent"]) for row in out["versions"]] == [(2, 1), (1, None)]
    (result,) = (RUN / "retrain").glob(f"*-{read_manifest(RUN / 'models' / 'tfrec' / '2').identity}.json")
    told = json.loads(result.read_text())
    assert (told["outcome"], told["version"]) == ("promoted", 2)
    assert told["figures"]["events"] > 0
    assert told["events"] == 30 + Path("live.out").exists() * (1 + len(news()))


def test_export_starts_from_what_is_newest(call: Call) -> None:
    live = RUN / "models" / "tfrec" / "2"
    Path("more.jsonl").write_text(json.dumps({"id": "new", "title": "a red kettle"}) + "\n")
    with exporting("recommend"):
        code, out, _ = call("export", "grown", "--items", "more.jsonl")
    assert (code, out["from"], out["items"]) == (0, "version 2", ITEMS + 1)
    told, before = read_manifest(Path("grown")), read_manifest(live)
    assert (told.parent, told.window, told.scorecard, told.identity) == (2, before.window, before.scorecard, None)
    assert held_back(Path("grown")) == held_back(live) != []
    weights = [np.fromfile(path / "checkpoint" / "weights.data-00000-of-00001", np.uint8) for path in (Path("grown"), live)]
    assert np.array_equal(*weights)
    described = RUN / "checkpoint" / "checkpoint.json"
    content = json.loads(described.read_text())
    content["meta"]["trained_at"] = before.created_at + 1
    described.write_text(json.dumps(content))
    assert newest_model(load_config("shop.toml")) == (described.parent, Lineage(learnt=0))


def test_a_version_that_was_regretted_comes_back_and_what_it_learnt_is_no_news(call: Call) -> None:
    (rollback,) = lines("docs/operate.md", "tfrec rollback")
    code, out, _ = call(f"{rollback} --json")
    assert (code, out) == (0, {"version": 3, "copy_of": 1, "rolled_back_from": 2})
    with Path("items.jsonl").open("a") as file:  # the same items would be no change, and no version
        file.write('{"id": "40", "title": "robots in paris 40"}\n')
    items, prior = lines("docs/serve.md", "tfrec publish --items")
    assert call(items)[0] == 0  # by a fresh server
    assert call(prior)[0] == 0
    happen([(f"late{n}", n, NOW - n) for n in range(5)], writer="third")
    code, out, _ = call("retrain")
    assert (code, out["outcome"], out["version"]) == (0, "waiting", 5)
    assert out["reason"] == "5 new events, retrain.min_events is 10: left for the next run"  # and not 35


def test_other_objectives_are_words_of_the_settings(call: Call) -> None:
    for retrain in lines("docs/retrain.md", "tfrec retrain --config shop.toml --set"):
        code, out, _ = call(f"{retrain} --json")
        assert (code, out["outcome"]) == (0, "waiting")


def test_join_writes_the_examples_of_the_whole_log(call: Call) -> None:
    (join,), (again,) = (lines("docs/retrain.md", f"tfrec join --config shop.toml --{end}") for end in ("output", "again"))
    code, out, _ = call(f"{join} --json")
    assert (code, out["examples"]) == (0, pq.read_table("examples.parquet").num_rows)
    assert out["examples"] >= 35
    assert call(f"{again} --json")[:2] == (code, out)
    other = "--set reward.weights.click=0.5"
    code, _, err = call(f"{join} {other}".replace("examples.parquet", "other.parquet"))
    assert code == 2
    assert re.search(r"settled by another reward rule .*: tfrec join --again", " ".join(err.split()))
    assert call(f"{again} {other}")[0] == 0
    assert call(again)[0] == 0


def test_a_log_that_supports_no_estimate_says_why(call: Call) -> None:
    for ope in lines("docs/explore.md", "tfrec ope"):
        code, out, err = call(ope)
        assert (code, out) == (1, "")  # one drawn slate is no sample; tests/test_ope.py has logs that are
        assert re.search("no slate can be weighed|no estimate: ", err)


def test_the_text_encoder_is_tuned_from_queries_log_and_behaviour(call: Call) -> None:
    rows = [f"{WORDS[n % 5]} in {WORDS[n // 5 % 5]},{n}\n" for n in range(ITEMS)]
    Path("queries.csv").write_text("query,item\n" + "".join(rows))
    search([f"{word} {n}" for n in range(8) for word in WORDS])
    for tune, written in zip(lines("docs/tune.md", "tfrec tune"), ("encoder", "by-log", "by-behaviour"), strict=True):
        with nullcontext() if written == "encoder" else eagerly():
            code, out, err = call(f"{tune} --set tuning.epochs=1 --json")
        assert code == 0, err
        assert Path(out["encoder"]) == RUN / written
    (pretrain,) = lines("docs/tune.md", "tfrec pretrain")
    with eagerly():
        code, out, err = call(f"{pretrain} --set tuning.epochs=1 --json")
    assert (code, Path(out["encoder"])) == (0, RUN / "pretrained"), err


def test_records_of_a_file_come_to_the_log(shop: Path) -> None:
    before = FeedbackLog(RUN / "log").read("outcomes").num_rows
    for _ in range(2):
        subprocess.run(["bash", "-euc", block("docs/data.md", "cat > clicks.jsonl")], cwd=shop, env=environment(shop), check=True)
    rows = FeedbackLog(RUN / "log").read("outcomes")
    assert rows.num_rows == before + 2
    assert load_pseudonyms(RUN).of("bob") in set(rows["user"].to_pylist())


def test_a_user_is_erased(call: Call) -> None:
    forget, listed = lines("docs/privacy.md", "tfrec forget")
    receipt = call(f"{forget} --json")[1]["bob"]
    assert (receipt["waits_for"], receipt["removed"]["log/outcomes"] >= 1) == ([], True)
    assert [one["erasure"] for one in call(f"{listed} --json")[1]["erasures"]] == [1]


def test_a_program_trains(capsys: pytest.CaptureFixture[str]) -> None:
    with eagerly():
        exec(block("docs/train.md", "import tfrec"), {})
    assert re.fullmatch(r"1 \(\d+, 8\)\n", capsys.readouterr().out)


def test_a_key_is_made_that_the_gateway_reads(shop: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("the runbook makes keys with openssl")
    script = block("serving/RUNBOOK.md", "key=")
    found = subprocess.run(["bash", "-euc", script], cwd=shop, capture_output=True, text=True, check=True)
    caller = Keys(shop / "keys.txt", rate=None).caller(found.stdout.split()[-1].encode())
    assert caller is not None
    assert caller.name == "shop"


def test_no_block_of_the_documentation_was_left_out(request: pytest.FixtureRequest) -> None:
    here = [item for item in request.session.items if item.path == request.path]
    if len(here) < len([name for name in globals() if name.startswith("test_")]):
        pytest.skip("only some of the tests have run")
    wanted = {one.text: str(one) for one in [*pages.blocks("bash", ""), *pages.blocks("python", "")]}
    assert {wanted[text] for text in wanted.keys() - RUN_BLOCKS} == set()

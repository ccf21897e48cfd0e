"""The commands that learn and serve, on a shop of 40 items with a BERT of width 16: the whole loop by exit codes and JSON.

One training, one export and one publication for all tests of the file, which therefore depend on the order in which they stand.
"""
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from tfrec.cli import app
from tfrec.data.log import FeedbackLog, LogWriter
from tfrec.data.records import Outcome
from tfrec.data.wal import WriteAheadFile
from tfrec.serving.export import held_back
from tfrec.serving.manifest import read_manifest
from tfrec.serving.pseudonym import load_pseudonyms
from tfrec.terminal import end

ITEMS, USERS, EVENTS = 40, 15, 300
COLOURS = ("red", "blue", "green", "black")
THINGS = ("shoe", "lamp", "chair", "book", "kettle")
METRICS = {"hr@10", "ndcg@10", "hr@50", "cold_hr@10", "untouched_hr@10"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory, tiny_checkpoint):
    """A directory with items.jsonl, interactions.csv and a shop.toml that trains for one epoch."""
    directory = tmp_path_factory.mktemp("shop")
    rows = [{"id": f"i{n}", "title": f"{COLOURS[n % 4]} {THINGS[n % 5]} {n}", "tags": [COLOURS[n % 4]]} for n in range(ITEMS)]
    (directory / "items.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    rng = np.random.default_rng(3)
    users, items = rng.integers(USERS, size=EVENTS), rng.integers(ITEMS, size=EVENTS)
    lines = [f"u{u},i{i},{1_000_000 + 600 * n}\n" for n, (u, i) in enumerate(zip(users, items, strict=True))]
    (directory / "interactions.csv").write_text("user,item,time\n" + "".join(lines))
    (directory / "shop.toml").write_text(f"""
        run = "{directory / 'run'}"
        data.items = "{directory / 'items.jsonl'}"
        data.interactions = "{directory / 'interactions.csv'}"
        text.encoder = "{tiny_checkpoint}"
        text.max_tokens = 12
        model = {{dim = 8, history = 6, id_slots = 64}}
        training = {{epochs = 1, batch_size = 8}}
        retrain = {{epochs = 1, min_events = 10, gate_margin = 1.0}}
    """)
    return directory


@pytest.fixture
def call(shop, capsys):
    """`call("train", "--restart")` -> exit code, the JSON it printed, standard error; shop.toml and --json are added."""

    def run(*words):
        line = [*map(str, words), "--config", str(shop / "shop.toml"), "--json"]
        code = end(lambda: app(line, prog_name="tfrec"))
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    logger = logging.getLogger("tfrec")
    before = logger.handlers[:], logger.level, logger.propagate
    yield run
    logger.handlers[:], logger.level, logger.propagate = before


def happen(run: Path, events: list[tuple[str, str, int]], *, writer: str) -> None:
    """Put (user, item, time) into the log as a gateway would."""
    pseudonyms = load_pseudonyms(run)
    outcomes = [
        Outcome(event_id=f"{writer}-{n}", user=pseudonyms.of(user), item=item, action="click", time=time)
        for n, (user, item, time) in enumerate(events)
    ]
    with LogWriter(FeedbackLog(run / "log"), WriteAheadFile(run / "wal", writer)) as log:
        log.outcome(*outcomes)


def test_what_needs_an_earlier_step_says_which(call, shop):
    code, out, err = call("retrain")
    assert (code, out) == (2, None)
    assert "no published version to continue from. First: tfrec train, tfrec export, tfrec publish." in err
    code, out, err = call("export")
    assert (code, out) == (1, None)
    assert "expected a checkpoint, found none. Train first: tfrec train." in err


def test_evaluate_prints_the_model_and_its_peers(call, shop):
    code, out, _ = call("evaluate", "--set", f"run={shop / 'evaluated'}")
    assert code == 0
    assert {"static", "frozen", "baselines", "train_seconds", "epochs", "asked"} <= out.keys()
    assert out["baselines"].keys() == {"popularity", "popularity_7d", "item-kNN", "EASE"}
    for row in (out["static"], out["frozen"], *out["baselines"].values()):
        assert row.keys() >= METRICS
        assert 0 <= row["ndcg@10"] <= row["hr@10"] <= row["hr@50"] == 1  # 40 items: every one is among the first 50
    events = len({tuple(line.split(",")[:2]) for line in (shop / "interactions.csv").read_text().split()[1:]})
    assert (out["epochs"], out["train_events"]) == (1, int(0.8 * events))
    assert 0 < out["asked"] <= events - out["train_events"]
    assert out["train_seconds"] > 0


def test_train_leaves_a_checkpoint(call, shop):
    code, out, _ = call("train")
    assert (code, out["items"], out["epochs"]) == (0, ITEMS, 1)
    assert (Path(out["checkpoint"]) / "checkpoint.json").is_file()


def test_export_writes_a_saved_model_once(call, shop):
    code, out, _ = call("export")
    directory = shop / "run" / "export"
    assert (code, Path(out["export"]), out["items"]) == (0, directory, ITEMS)
    assert {"saved_model.pb", "manifest.json", "assets.extra", "checkpoint"} <= {path.name for path in directory.iterdir()}
    code, out, err = call("export")
    assert (code, out) == (2, None)
    assert f"{directory} exists already" in err


def test_publish_verifies_in_a_fresh_server_and_status_tells(call, shop):
    code, out, _ = call("publish", shop / "run" / "export")
    assert (code, out["version"], out["removed"]) == (0, 1, [])
    code, out, _ = call("status")
    assert (code, [row["version"] for row in out["versions"]], out["log"]) == (0, [1], {})


def test_retrain_waits_without_news(call):
    code, out, _ = call("retrain")
    assert (code, out["outcome"], out["version"]) == (0, "waiting", 1)
    assert out["reason"] == "0 new events, retrain.min_events is 10: left for the next run"


def test_retrain_waits_while_it_cannot_compare(call, shop):
    # each by somebody new, who has no history: nobody can be asked
    happen(shop / "run", [(f"new{n}", f"i{n}", 2_000_000 + n) for n in range(12)], writer="first")
    code, out, _ = call("retrain")
    assert (code, out["outcome"], out["version"], out["events"]) == (0, "waiting", 1, 12)
    assert "nobody in the window has a history" in out["reason"]


def test_retrain_promotes_what_passes_the_gate(call, shop):
    # a margin of 1 lets everything pass; the twelve that waited are news still
    happen(shop / "run", [(f"new{n % 12}", f"i{20 + n}", 2_000_100 + n) for n in range(18)], writer="second")
    code, out, _ = call("retrain")
    assert (code, out["outcome"], out["version"], out["events"]) == (0, "promoted", 2, 30)
    assert out["figures"]["events"] > 0
    code, out, _ = call("status")
    assert [(row["version"], row["parent"]) for row in out["versions"]] == [(2, 1), (1, None)]
    assert out["log"]["outcomes"] == 30


def test_export_starts_from_what_is_newest(call, shop):
    (shop / "more.jsonl").write_text(json.dumps({"id": "new", "title": "a red kettle"}) + "\n")
    code, out, _ = call("export", shop / "grown", "--items", shop / "more.jsonl")
    assert (code, out["from"], out["items"]) == (0, "version 2", ITEMS + 1)
    live, grown = shop / "run" / "models" / "tfrec" / "2", shop / "grown"
    told, before = read_manifest(grown), read_manifest(live)
    assert (told.parent, told.window, told.scorecard, told.identity) == (2, before.window, before.scorecard, None)
    assert held_back(grown) == held_back(live) != []
    weights = [np.fromfile(path / "checkpoint" / "weights.data-00000-of-00001", np.uint8) for path in (grown, live)]
    assert np.array_equal(*weights)
    described = shop / "run" / "checkpoint" / "checkpoint.json"
    content = json.loads(described.read_text())
    content["meta"]["trained_at"] = before.created_at + 1
    described.write_text(json.dumps(content))
    code, out, _ = call("export", shop / "trained anew")
    assert (code, out["from"], out["items"]) == (0, str(described.parent), ITEMS)


def test_a_version_that_was_regretted_comes_back(call):
    code, out, _ = call("rollback")
    assert (code, out) == (0, {"version": 3, "copy_of": 1, "rolled_back_from": 2})


def test_what_a_regretted_version_learnt_is_no_news_for_the_next(call, shop):
    happen(shop / "run", [(f"late{n}", f"i{n}", 2_000_200 + n) for n in range(5)], writer="third")
    code, out, _ = call("retrain")
    assert (code, out["outcome"], out["version"]) == (0, "waiting", 3)
    assert out["reason"] == "5 new events, retrain.min_events is 10: left for the next run"  # and not 35

"""Requests of a real graph's log, asked again of its checkpoint: alike as long as nothing between them has changed."""
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.logged_slates import NOW, REQUESTS, logged_run, short_lists
from tfrec.config import Config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.monitors.look import look

ASKED_AT = NOW - 500_000 + 60 * REQUESTS + 3700  # an hour after the last request


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: str) -> Iterator[Config]:
    root = tmp_path_factory.mktemp("replayed")
    own = shutil.copytree(tiny_checkpoint, root / "encoder")  # a test changes it
    with short_lists():
        config = logged_run(root / "run", str(own), root)[0]
        monitors = config.monitors.model_copy(update={"min_requests": 50})
        yield config.model_copy(update={"monitors": monitors})


def test_what_was_served_is_what_the_checkpoint_says(config: Config) -> None:
    found = look(config, now=ASKED_AT, replay=True)
    skew = found["monitors"]["skew"]
    assert (skew["state"], skew["value"]) == ("ok", 0.0)
    assert "version 1" in skew["why"]
    kept = look(config, now=ASKED_AT + 60)  # too soon to load a model again
    assert kept["monitors"]["skew"] == skew
    assert kept["replayed_at"] == ASKED_AT


def test_a_server_that_reads_other_word_pieces_is_skew(config: Config, tmp_path: Path) -> None:
    """A third of the requests are searches. The log says another word than the one that was scored."""
    rows = FeedbackLog(config.log_uri).read("impressions")
    read = pc.replace_substring(rows["query"], "z", "y")
    other = config.model_copy(update={"run": tmp_path})
    shutil.copytree(config.models_dir, other.models_dir)
    FeedbackLog(other.log_uri).tables["impressions"].append(rows.set_column(rows.column_names.index("query"), "query", read),
                                                            writer="w")
    skew = look(other, now=ASKED_AT, replay=True)["monitors"]["skew"]
    assert skew["state"] == "alarm"
    assert skew["value"] == pytest.approx(1 / 3, abs=0.1)
    assert skew["low"] > skew["bound"]


def test_a_changed_tokenizer_on_disk_is_an_alarm_that_names_it(config: Config) -> None:
    vocabulary = Path(config.text.encoder, "vocab.txt")
    before = vocabulary.read_text()
    vocabulary.write_text("\n".join(reversed(before.splitlines())) + "\n")
    found = look(config, now=ASKED_AT, replay=True)["monitors"]
    vocabulary.write_text(before)
    assert {name for name, one in found.items() if one["state"] == "alarm"} == {"skew"}
    assert "its files have changed" in found["skew"]["why"]


@pytest.mark.parametrize(("texts", "state"), [(["z"], "ok"), (["red shoes", "a tent", "z"], "alarm")])
def test_queries_that_nobody_asked_before_are_drift(config: Config, tmp_path: Path, texts: list[str], state: str) -> None:
    """Until then everybody searches for one thing."""
    rows = FeedbackLog(config.log_uri).read("impressions")
    start = ASKED_AT - 2 * 3600
    asked = [texts[time // 180 % len(texts)] if query and time >= start else query
             for query, time in zip(rows["query"].to_pylist(), rows["time"].to_pylist(), strict=True)]
    hours = config.monitors.model_copy(update={"window_hours": 1.0})
    other = config.model_copy(update={"run": tmp_path, "monitors": hours})
    shutil.copytree(config.models_dir, other.models_dir)
    FeedbackLog(other.log_uri).tables["impressions"].append(
        rows.set_column(rows.column_names.index("query"), "query", pa.array(asked)), writer="w")
    queries = look(other, now=ASKED_AT, replay=True)["monitors"]["queries"]
    assert queries["state"] == state, queries


@pytest.mark.parametrize("kept", ["hash", "drop"])
def test_queries_that_the_log_does_not_keep_are_not_read(config: Config, kept: str) -> None:
    hidden = config.model_copy(update={"data": config.data.model_copy(update={"queries": kept})})
    queries = look(hidden, now=ASKED_AT, replay=True)["monitors"]["queries"]
    assert (queries["state"], kept in queries["why"]) == ("unknown", True)


def test_what_nobody_can_ask_again_is_unknown(config: Config, tmp_path: Path) -> None:
    shutil.copytree(config.run / "log", tmp_path / "log")
    without = config.model_copy(update={"run": tmp_path})
    skew = look(without, now=ASKED_AT, replay=True)["monitors"]["skew"]
    assert (skew["state"], "on disk" in skew["why"]) == ("unknown", True)

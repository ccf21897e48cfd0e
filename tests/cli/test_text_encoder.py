"""`tfrec tune` and `tfrec pretrain` as a person meets them."""
import json

import pytest

from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.records import Impression, Outcome

SMALL = ("--set", "text.max_tokens=8", "--set", "tuning.batch_size=8", "--set", "tuning.epochs=1")


@pytest.fixture
def shop(tmp_path, tiny_checkpoint):
    """The settings of a run with a catalogue and files of queries and behaviour."""
    names = [f"{a}{b}" for a in "abcdef" for b in "uvwxyz"]
    (tmp_path / "items.csv").write_text("id,text\n" + "".join(f"{n},film {n}\n" for n in names))
    (tmp_path / "queries.csv").write_text("query,item\n" + "".join(f"find {n},{n}\n" for n in names))
    rows = (f"u{i % 5},{n},{i}\n" for i, n in enumerate(names))
    (tmp_path / "seen.csv").write_text("user,item,time\n" + "".join(rows))
    return ("--set", f"run={tmp_path / 'run'}", "--items", tmp_path / "items.csv",
            "--set", f"text.encoder={tiny_checkpoint}", *SMALL)


def test_tune_learns_from_all_three_sources_and_says_what_to_do_next(call, shop, tmp_path):
    log = FeedbackLog(tmp_path / "run" / "log")
    slate = [{"item": "au", "position": 0, "score": 2}, {"item": "bu", "position": 1, "score": 1}]
    with LogWriter(log, WriteAheadFile(tmp_path / "wal", "test")) as writer:
        writer.impression(Impression(request_id="r", time=1000, user="u", query="best", slate=slate, policy="greedy",
                                     model_version=1))
        writer.outcome(Outcome(event_id="1", user="u", item="bu", action="click", time=1010, request_id="r"))
    code, out, err = call("tune", "--queries", tmp_path / "queries.csv", "--log", "--behaviour", "--interactions",
                          tmp_path / "seen.csv", *shop, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["encoder"] == str(tmp_path / "run" / "encoder")
    assert told["next"] == f"--set text.encoder={told['encoder']}"
    assert told["examples"] == 36 + 1 + 31
    assert (told["tuning"], told["parameters"]) == ("lora", 7280)
    assert "lora trains 3,072 of 7,280 parameters (42.20%)" in err
    again = call("tune", "--queries", tmp_path / "queries.csv", *shop)
    assert (again[0], again[1]) == (2, "")
    assert "encoder exists already. Name another output, or remove it." in again[2]


def test_pretrain_writes_an_encoder_that_tune_takes(call, shop, tmp_path):
    code, out, err = call("pretrain", tmp_path / "words", *shop, "--json")
    assert code == 0, err
    assert json.loads(out)["encoder"] == str(tmp_path / "words")
    assert (tmp_path / "words" / "vocab.txt").is_file()


@pytest.mark.parametrize(("words", "message"), [
    (("tune",), "tune needs pairs to learn from: pass --queries FILE, --log or --behaviour"),
    (("tune", "--log"), "There is no feedback log in"),
    (("tune", "--behaviour"), "tune needs the catalogue: pass --items FILE or set data.items."),
    (("pretrain",), "pretrain needs the catalogue: pass --items FILE or set data.items."),
    (("pretrain", "--set", "text.tuning=frozen"), "text.tuning is frozen: nothing would be trained."),
    (("pretrain", "/proc/none/new"), "/proc/none"),
])
def test_what_is_missing_is_asked_for_before_work_starts(call, tmp_path, words, message):
    code, out, err = call(*words, "--set", f"run={tmp_path}")
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())


def test_behaviour_needs_interactions(call, shop):
    code, _, err = call("tune", "--behaviour", *shop)
    assert (code, "pass --interactions FILE or set data.interactions" in " ".join(err.split())) == (2, True)

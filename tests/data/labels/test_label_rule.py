"""One rule of labels: every command that reads what people did honours every setting of it."""
import ast
import pydoc
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tfrec.config import load_config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import LogWriter
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.records import Impression, Outcome, Shown
from tfrec.errors import UsageError

PACKAGE = Path(__file__).parents[3] / "tfrec"
SETTINGS = {  # each makes an act of `watch` with the value 30, on an item of 60 minutes, worth this
    "weights": (("reward.weights.watch=3",), 3.0),
    "valued": (('reward.valued=["watch"]', "reward.cap=50"), 30.0),
    "completed": (("reward.completed.watch=40",), 0.75),
    "lengths": (('reward.lengths.watch="minutes"',), 0.5),
    "rated": (("reward.rated.watch={neutral=20, scale=5}",), 2.0),
    "changes": (("reward.changes=[{since=2020-01-01, weights={watch=4}}]",), 4.0),
    "cap": (("reward.weights.watch=3", "reward.cap=2"), 2.0),
    "attribution": (("data.attribution_hours=8.2",), 1.0),  # 29,520 s: the act comes in the last of them
}
ORGANIC = {"half life": (("reward.half_life_hours.watch=8.2",), 1.0)}  # nothing was shown, so nothing is late
SHOWN = {"half life": (("reward.half_life_hours.watch=8.2",), 0.5)}
COMMANDS = {
    "join": SETTINGS | SHOWN, "tune --log": SETTINGS | SHOWN, "tune --behaviour": SETTINGS | ORGANIC,
    "train": SETTINGS | ORGANIC, "evaluate": SETTINGS | ORGANIC,
}  # fmt: skip


class Enough(Exception):
    """Everything has been read."""


@pytest.fixture
def shop(tmp_path: Path) -> list[str]:
    (tmp_path / "items.csv").write_text("id,title,minutes\na,x,60\nb,y,60\n")
    (tmp_path / "seen.csv").write_text("user,item,time,action,value\nu,a,1600000000,watch,30\nu,b,1600000009,watch,30\n")
    slate = (Shown(item="a", position=0, score=1.0, log_propensity=0.0),)
    with LogWriter(FeedbackLog(tmp_path / "run/log"), WriteAheadFile(tmp_path / "wal", "w")) as writer:
        writer.impression(Impression(request_id="r", time=1_600_000_000, user="u", query="q", slate=slate, policy="greedy",
                                     model_version=1))
        writer.outcome(Outcome(event_id="e", user="u", item="a", action="watch", value=30.0, time=1_600_029_520, request_id="r"))
    return ["--items", str(tmp_path / "items.csv"), "--set", f"run={tmp_path / 'run'}", "--set", "reward.weights.watch=1"]


@pytest.mark.parametrize(("command", "setting"), [(c, name) for c, cases in COMMANDS.items() for name in cases])
def test_every_command_that_reads_outcomes_honours_every_setting(command, setting, shop, call, monkeypatch, tmp_path):
    chosen, worth = COMMANDS[command][setting]
    words = [*command.split(), *shop, *(word for one in chosen for word in ("--set", one))]
    if command == "join":
        code, _, err = call(*words, "--output", tmp_path / "examples.parquet")
        assert code == 0, err
        assert pq.read_table(tmp_path / "examples.parquet")["reward"].to_pylist() == pytest.approx([worth])
        return

    def enough() -> None:
        raise Enough  # before anything is learnt

    read = []
    for path in ("tfrec.data.examples.pairs.joined", "tfrec.data.behaviour.dataset.read_dataset"):
        monkeypatch.setattr(path, kept(path, read))
    if not command.startswith("tune"):
        monkeypatch.setattr(f"tfrec.cli.{command}.load_tensorflow", enough)
    monkeypatch.setattr("tfrec.training.encoder.tune.tune", lambda *_: enough())
    with pytest.raises(Enough):
        call(*words, *([] if command == "tune --log" else ["--interactions", tmp_path / "seen.csv"]))
    found = read[0].weight.tolist() if command.startswith("tune") else read[0][1].weight.tolist()
    assert found == pytest.approx({"tune --log": [worth], "tune --behaviour": [1.0]}.get(command, [worth, worth]))


def kept(path: str, found: list) -> object:
    """The function, which also adds what it returns to `found`."""
    real = pydoc.locate(path)

    def keep(*args, **named):
        found.append(real(*args, **named))
        return found[-1]

    return keep


def test_the_rule_is_built_in_one_place():
    """So `retrain` and `ope`, too, join by the whole of the configuration: `join` takes nothing else."""
    texts = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    naming = [path for path, text in texts.items() if "LabelRule" in text]  # to parse all of the package takes seconds
    assert len(naming) > 5
    for path in naming:
        names = [node.func.id for node in ast.walk(ast.parse(texts[path])) if isinstance(node, ast.Call)
                 and isinstance(node.func, ast.Name)]
        assert "LabelRule" not in names, f"{path}: build it with LabelRule.of(config, catalogue)"


def test_hours_become_seconds_in_one_way():
    assert load_config(None, ["data.attribution_hours=8.2"]).data.attribution_seconds == 29_520
    assert [path.name for path in PACKAGE.rglob("*.py") if "attribution_hours *" in path.read_text()] == ["data.py"]


def test_lengths_that_are_asked_for_must_be_given():
    reward = load_config(None, ['reward.lengths.watch="minutes"']).reward
    with pytest.raises(UsageError, match="reward.lengths names a column of the catalogue for 'watch'"):
        LabelRule.of_rewards(reward, None)

"""The run of a gateway as the console finds it: versions with a catalogue, results of the job, an experiment."""
import json
import os
from pathlib import Path
from typing import Any

from tfrec.config import Config
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.experiments.state import ExperimentState, Started, StateFile
from tfrec.monitors.latest import latest_path
from tfrec.release.manifest import CATALOGUE, Manifest, write_manifest

NASTY = "<img src=x onerror=\"document.title='broken'\"> & <b>bold</b>"
ITEMS = [Item(id="a", text={"title": "Alpha", "plot": "A first letter."}, tags=("greek",)), Item(id="b", text=NASTY),
         Item(id="c", text=""), Item(id="d", text={"title": "Delta\u2028\nwith lines"}, available=False)]


def config(root: Path) -> Config:
    return Config(run=root / "run")


def publish(root: Path, number: int, items: list[Item], **manifest: Any) -> None:
    """A version of which only its manifest and its catalogue are there."""
    directory = config(root).models_dir / str(number)
    (directory / CATALOGUE).parent.mkdir(parents=True)
    Catalogue(items).write(directory / CATALOGUE)
    write_manifest(directory, Manifest(version=number, created_at=1_700_000_000 + number, **manifest))


def retrained(root: Path, name: str, ended: int, **result: Any) -> None:
    path = config(root).run / "retrain" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result))
    os.utime(path, (ended, ended))


def started(root: Path, **arms: Any) -> None:
    one = Started.model_validate({"name": "warmer", "number": 1, "trial": {"arms": arms}, "level": 0.05, "effect": 0.05,
                                  "since": 1_700_000_000})
    StateFile(config(root).run).change(lambda state: ExperimentState.with_started(state, one))


def full(root: Path) -> None:
    """Something of everything."""
    publish(root, 1, ITEMS[:1])
    publish(root, 2, ITEMS, parent=1)
    retrained(root, "1", 1_700_000_100, outcome="promoted", reason="hr@10 is higher", version=2, learnt=40,
              figures={"hr@10": {"champion": 0.1, "challenger": 0.2}}, seconds={"training": 1.5})
    retrained(root, "2", 1_700_000_200, outcome="rejected", reason=f"no better {NASTY}", version=2, learnt=0)
    started(root, plain={"share": 0.5}, warm={"share": 0.5, "temperature": 1.0})
    path = StateFile(config(root).run).path.with_name("overview.json")
    arm = {"experiment": "warmer.1", "share": 0.5, "users": 1000, "requests": 4000, "reward": 0.1, "reward_low": 0.09,
           "reward_high": 0.11}
    other = arm | {"difference": -0.02, "difference_low": -0.03, "difference_high": -0.01, "verdict": "worse",
                   "words": "warm earns less, by 10.0% at least."}
    path.write_text(json.dumps({"looked_at": 1_700_009_999, "experiments": [{"experiment": "warmer.1", "shares_p": 0.7}],
                                "arms": [{"arm": "plain"} | arm, {"arm": "warm"} | other]}))
    known = {"state": "ok", "why": "values of 'device'", "value": None, "usual": None, "change": 0.01, "low": -0.02, "high": 0.04,
             "bound": 0.2}
    found = {"context": known, "skew": {"state": "unknown", "why": "was not looked at yet"},
             "slices": known | {"state": "alarm", "why": f"reward of device {NASTY}", "value": 0.1, "usual": 0.2,
                                "change": -0.5, "low": -0.6, "high": -0.4}}
    part = {"part": NASTY, "n": 1000, "reward": 0.1, "low": 0.05, "high": 0.15, "action_rate": 0.2}
    path = latest_path(config(root).run)
    path.parent.mkdir()
    path.write_text(json.dumps({"looked_at": 1_700_009_999, "monitors": found, "parts": {"device": [part]}}))

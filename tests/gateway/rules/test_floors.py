"""Floors of exposure: what is asked for is reached and held, in a simulated choice and from a log; and shapes of files."""
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.rules.test_applying import request
from tfrec.config import Config, load_config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.errors import UsageError
from tfrec.evaluation.exposure import attention
from tfrec.gateway.metrics import Metrics
from tfrec.gateway.rules.floors import FLOORS, KeptFloor, next_factor, read_factors, with_factors
from tfrec.gateway.rules.keep_floors import LEAST, keep_floors
from tfrec.gateway.rules.report import rules_report
from tfrec.gateway.rules.rule import read_rules
from tfrec.gateway.rules.rules_file import RulesFile
from tfrec.release.manifest import CATALOGUE, Manifest, write_manifest

LOCAL = '[[rule]]\nname = "local"\ndo = "boost"\ntags = ["local"]\nfloor = 0.3\n'
NOW = 2_000_000


def book(text: str):
    return read_rules(text.encode(), where="f")


@pytest.mark.parametrize(("text", "words"), [
    (LOCAL + "factor = 2.0\n", "a floor is of a boost, and has no factor beside it"),
    (LOCAL.replace("boost", "bury"), "a floor is of a boost"),
    (LOCAL.replace("boost", "exclude"), "a floor is of a boost"),
    (LOCAL.replace("0.3", "0"), "floor: Input should be greater than 0"),
    (LOCAL.replace("0.3", "1"), "floor: Input should be less than 1"),
    (LOCAL.replace("floor = 0.3\n", ""), "boost and bury need a factor above 1"),
])
def test_a_wrong_floor_is_refused(text, words):
    with pytest.raises(UsageError, match=words):
        book(text)


def test_a_floor_begins_without_a_boost_and_takes_the_factor_that_is_kept():
    assert book(LOCAL).rules[0].boosts == (("tag", "local", 0.0, None, None),)
    [boost] = with_factors(book(LOCAL), {"local": KeptFloor(factor=4.0), "other": KeptFloor(factor=9.0)}).rules[0].boosts
    assert boost[2] == pytest.approx(math.log(4))


def test_a_step_by_hand():
    """From .1 to .315, which is 1.05 times .3: .7 of the difference of the logits."""
    step = 0.7 * (math.log(0.315 / 0.685) - math.log(0.1 / 0.9))
    assert next_factor(2.0, 0.1, 0.3) == pytest.approx(2 * math.exp(step))
    assert next_factor(1.0, 0.5, 0.3) == 1.0  # above the floor, nothing is boosted
    assert next_factor(1.0, 0.0, 0.3) == pytest.approx(math.exp(1.5))  # the longest step
    assert next_factor(1e6, 0.0, 0.3) == pytest.approx(1e6)


@given(st.floats(1, 1e6), st.floats(0, 1), st.floats(0.01, 0.99))
def test_a_factor_grows_below_the_floor_and_never_lowers_a_group(factor, share, floor):
    found = next_factor(factor, share, floor)
    assert 1 <= found <= 1e6 * (1 + 1e-9)
    assert found >= factor * (1 - 1e-9) if share < floor else True
    assert found <= factor * (1 + 1e-9) if share > 1.05 * floor else True


def share_of(added: float, scores: np.ndarray, local: np.ndarray, temperature: float, rng: np.random.Generator) -> float:
    """Of the exposure in 300 slates of ten that are drawn by Plackett-Luce."""
    noisy = (scores + added * local) / temperature + rng.gumbel(size=(300, len(scores)))
    slates = np.argsort(-noisy, axis=1)[:, :10]
    counts = attention(np.arange(10))
    return float((local[slates] * counts).sum() / counts.sum() / len(slates))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_floor_is_reached_and_held_by_a_policy_that_draws(temperature):
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, 200)
    local = np.arange(200) % 20 == 0
    scores[local] -= 2  # the model thinks little of them
    factor, shares = 1.0, []
    for _ in range(25):
        shares.append(share_of(math.log(factor), scores, local, temperature, rng))
        factor = next_factor(factor, shares[-1], 0.3)
    assert shares[0] < 0.1
    assert np.mean(shares[8:]) == pytest.approx(0.315, abs=0.02)
    assert min(shares[8:]) > 0.25
    scores[local] += 9  # now it thinks much of them, and no boost is needed
    for _ in range(25):
        factor = next_factor(factor, share_of(math.log(factor), scores, local, temperature, rng), 0.3)
    assert factor == 1.0


@pytest.fixture
def run(tmp_path: Path) -> Config:
    """A run with a version of four items, two of them local, and a file of rules with a floor."""
    config = load_config(None, [f"run={tmp_path}", f"gateway.rules={tmp_path / 'rules.toml'}"])
    (tmp_path / "rules.toml").write_text(LOCAL)
    directory = config.models_dir / "1"
    (directory / CATALOGUE).parent.mkdir(parents=True)
    Catalogue([Item(id=one, text=one, tags=("local",) if one in "ab" else ()) for one in "abcd"]).write(directory / CATALOGUE)
    write_manifest(directory, Manifest(version=1, created_at=1))
    return config


def shown(config: Config, requests: int, items: str, *, time: int, rules: bool = True, first: int = 0) -> None:
    context = json.dumps({"rules": {"version": "v", "names": ["local"]}} if rules else {})
    slate = [{"item": item, "position": k, "score": 0.0} for k, item in enumerate(items)]
    lines = [json.dumps({"request_id": f"r{n}", "time": time, "user": f"u{n}", "policy": "greedy", "model_version": 1,
                         "context": context, "slate": slate}) for n in range(first, first + requests)]
    FeedbackLog(config.log_uri).append("impressions", list(enumerate(lines, start=first + 1)), writer="w")


def test_the_factor_follows_what_was_shown_under_the_rule(run):
    shown(run, LEAST, "cda", time=NOW - 50)
    shown(run, 500, "abc", time=NOW - 50, rules=False, first=LEAST)
    found = keep_floors(run, now=NOW)["local"]
    share = attention(np.array([2]))[0] / attention(np.arange(3)).sum()
    assert (found.share, found.requests, found.since) == (round(float(share), 5), LEAST, NOW + 5)
    assert found.factor == pytest.approx(next_factor(1.0, float(share), 0.3))
    assert keep_floors(run, now=NOW + 60)["local"] == found  # nothing was shown since
    told = rules_report(run.gateway.rules, run.models_dir / "1", now=NOW, factors=run.run / FLOORS)["rules"]["local"]
    assert (told["floor"], told["exposure"], told["factor"]) == (0.3, found.share, round(found.factor, 3))


def test_too_few_requests_change_nothing(run):
    shown(run, LEAST - 1, "cd", time=NOW - 50)
    assert keep_floors(run, now=NOW)["local"] == KeptFloor()


def test_without_rules_floors_or_versions_nothing_is_done(run, tmp_path):
    FeedbackLog(run.log_uri).append("impressions", [], writer="w")
    (tmp_path / "rules.toml").write_text("")
    assert keep_floors(run, now=NOW) == {}
    assert keep_floors(load_config(None, [f"run={tmp_path}"]), now=NOW) == {}
    assert not (tmp_path / FLOORS).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"local": 3}', '{"local": {"factor": 0.5}}', '{"local": {"factor": 1e9}}'])
def test_a_damaged_file_of_factors_is_none(tmp_path, text):
    (tmp_path / "f.json").write_text(text)
    assert read_factors(tmp_path / "f.json") == {}


def test_a_gateway_takes_a_new_factor_up_without_a_restart(run):
    read = RulesFile(run.gateway.rules, version_dir=lambda: run.models_dir / "1", metrics=Metrics(), look_seconds=0,
                     factors=run.run / FLOORS)

    def added() -> float:
        read.problem()  # looks
        read.wait_until_read()
        return read.applied(request(), context={}, now=1e9).ruled.applied.boosts[0][2]

    assert added() == 0
    (run.run / FLOORS).parent.mkdir()
    for seconds, factor in ((1, 2.0), (2, 5.0)):
        (run.run / FLOORS).write_text(json.dumps({"local": {"factor": factor}}))
        os.utime(run.run / FLOORS, (seconds, seconds))
        assert added() == pytest.approx(math.log(factor))
    (run.run / FLOORS).unlink()
    assert added() == 0

"""What a retrain reads: everything of those who act in its window, and of a long past a sample that stands for the rest."""
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest

from tfrec.config import Config, DataConfig, RetrainConfig, RewardConfig
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.records import Item, Outcome
from tfrec.data.settled.examples import SettledExamples
from tfrec.data.settled.settle import settle
from tfrec.retrain.intent import Intent
from tfrec.retrain.weekly_popularity import weekly_popularity
from tfrec.retrain.window import WindowContents, read_window

DAY, NOW, PAST_USERS = 86_400, 3_000_000, 4_000
CATALOGUE = Catalogue([Item(id=f"i{n}", text=f"item {n}") for n in range(8)])
REWARD = RewardConfig(weights={"click": 1.0})


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Four thousand people with two clicks each in part 1, of whom ten click again in part 2."""
    config = Config(run=tmp_path, reward=REWARD, retrain=RetrainConfig(replay=1.0, gate_sample=5))
    log, settled, rule = FeedbackLog(config.log_uri), SettledExamples(config.examples_uri), LabelRule.of(config, CATALOGUE)
    past = [click(f"u{user}", f"i{n}", NOW - 9 * DAY + user + n) for user in range(PAST_USERS) for n in range(2)]
    log.append("outcomes", list(enumerate((one.model_dump_json() for one in past), 1)), writer="w")
    settle(log, settled, rule, now=NOW, quarantine=None)
    news = [click(f"u{user}", "i5", NOW + user) for user in range(10)]
    log.append("outcomes", list(enumerate((one.model_dump_json() for one in news), len(past) + 1)), writer="w")
    settle(log, settled, rule, now=NOW + DAY, quarantine=None)
    return config


@pytest.fixture(autouse=True)
def parent() -> Iterator[None]:
    """A version that held nothing back and has learnt no slates."""
    with mock.patch("tfrec.retrain.window.held_back", return_value=[]), \
         mock.patch("tfrec.retrain.window.slates_until", return_value=0):
        yield


def click(user: str, item: str, time: int) -> Outcome:
    return Outcome(event_id=f"{user}{item}", user=user, item=item, action="click", time=time)


def read(config: Config, tmp_path: Path, *, seed: int = 0, counted: int = 1) -> WindowContents:
    # whom a run reads depends on what it is; the configuration's own digest names a directory that is another at each call
    intent = Intent(after=1, upto=2, parent=1, config_digest="of the test", now=NOW + DAY, seed=seed)
    return read_window(config, CATALOGUE, intent, tmp_path, counted=counted, quarantine=Quarantine(tmp_path / "bad.jsonl"))


def test_of_those_who_act_everything_is_read_and_of_others_a_sample(config: Config, tmp_path: Path) -> None:
    window = read(config, tmp_path)
    inter = window.inter
    assert (int(window.new.sum()), int(window.arrived.sum()), window.events) == (10, 10, 10)
    events_of = np.bincount(inter.user, minlength=len(inter.users))
    assert {inter.users[user]: n for user, n in enumerate(events_of) if n == 3} == {f"u{user}": 3 for user in range(10)}
    assert set(events_of) == {2, 3}  # whoever is read is read whole
    # eight times the ten events that are replayed, of 8,000: about 40 people
    assert 20 <= len(inter.users) - 10 <= 70
    assert 20 <= len(np.unique(inter.user[window.pool])) <= 80


def test_another_run_draws_other_people_and_the_same_run_the_same(config: Config, tmp_path: Path) -> None:
    drawn = [{window.inter.users[user] for user in window.inter.user[window.pool]}
             for window in (read(config, tmp_path), read(config, tmp_path), read(config, tmp_path, seed=1))]
    assert drawn[0] == drawn[1]
    assert len(drawn[0] & drawn[2]) < len(drawn[0]) / 2


def test_a_short_past_is_read_whole(config: Config, tmp_path: Path) -> None:
    whole = config.model_copy(update={"retrain": RetrainConfig(gate_sample=2000)})
    window = read(whole, tmp_path)
    assert (len(window.inter.users), bool(window.pool.all())) == (PAST_USERS, True)


def test_what_popularity_has_not_counted_arrives(config: Config, tmp_path: Path) -> None:
    window = read(config, tmp_path, counted=0)
    assert (int(window.new.sum()), bool(window.arrived.all())) == (10, True)
    assert len(window.inter.users) == PAST_USERS  # all of them acted in a part that was not counted


def test_of_behaviour_from_before_the_log_the_same_people_are_read(config: Config, tmp_path: Path) -> None:
    rows = "".join(f"v{user},i7,{NOW - 20 * DAY},click\n" for user in range(2_000))
    (tmp_path / "base.csv").write_text("user,item,time,action\n" + rows)
    window = read(config.model_copy(update={"data": DataConfig(interactions=tmp_path / "base.csv")}), tmp_path)
    of_base = int((window.inter.item == 7).sum())
    assert 5 <= of_base <= 60
    assert window.pool[window.inter.item == 7].all()
    assert len(window.base) == 2_000


def test_weekly_popularity_counts_all_people(config: Config, tmp_path: Path) -> None:
    log, settled, rule = FeedbackLog(config.log_uri), SettledExamples(config.examples_uri), LabelRule.of(config, CATALOGUE)
    more = [click(f"x{n}", "i6", NOW + DAY + 60 + n) for n in range(7)]
    log.append("outcomes", list(enumerate((one.model_dump_json() for one in more), 90_000)), writer="w")
    settle(log, settled, rule, now=NOW + 2 * DAY, quarantine=None)
    window = read(config, tmp_path)
    scorer = weekly_popularity(config, window, counted=1, since=NOW)
    newest = scorer(np.array([len(window.inter) - 1]))[0]
    assert newest.astype(int).tolist() == [0, 0, 0, 0, 0, 9, 0, 0]  # what came later, and a week ago and more, does not count
    base = pa.table({"user": ["b"], "item": ["i3"], "time": [NOW - DAY], "action": ["click"], "reward": [1.0]})
    with_base = WindowContents(**{**vars(window), "base": base})
    assert weekly_popularity(config, with_base, counted=1, since=NOW)(np.array([len(window.inter) - 1]))[0].astype(int)[3] == 1

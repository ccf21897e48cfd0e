"""What judges and what is learnt: events by time, and slates that are not learnt yet, with what people chose in them."""
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tfrec.config import Config, DataConfig, RetrainConfig, RewardConfig
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.slates import SLATES
from tfrec.data.items.catalogue import Catalogue, Item
from tfrec.retrain.split import END_OF_TIME, Split, split_window
from tfrec.retrain.window import WindowContents

HOUR = 3600
ITEMS = [f"i{n}" for n in range(8)]
USERS = 20


def slate(number: int, *, user: str, time: int, rewards: list[float]) -> dict[str, Any]:
    shown = {"item": ITEMS[: len(rewards)], "log_propensity": [None] * len(rewards), "reward": rewards,
             "converted": [False] * len(rewards), "delay": [0] * len(rewards)}
    return dict.fromkeys(SLATES.names) | {"request_id": f"r{number}", "user": user, "query": "", "time": time, **shown}


def split(run: Path, slates: list[dict[str, Any]], *, new: bool = True, **retrain: Any) -> Split:
    """Everybody has an old event at 0 and a click on i1 in an hour of their own. Those from the eleventh hour on judge."""
    rows = [(f"u{u}", "i0", 0) for u in range(USERS)] + [(f"u{u}", "i1", (u + 1) * HOUR) for u in range(USERS)]
    users, items, times = zip(*rows, strict=True)
    inter = Interactions.from_columns(list(users), list(items), np.array(times), items=ITEMS, now=99 * HOUR)
    config = Config(run=run, data=DataConfig(attribution_hours=2), reward=RewardConfig(user_share=0.2),
                    retrain=RetrainConfig(gate_share=0.5, **retrain))
    is_new = (inter.time > 0) & new
    table = pa.Table.from_pylist(slates, SLATES)
    window = WindowContents(Catalogue([Item(id=one, title=one) for one in ITEMS]), inter, is_new, is_new,
                            np.zeros(len(inter), bool), np.ones(len(inter), bool), None, table, {}, "")
    return split_window(config, window, seed=0)


def test_slates_that_are_not_learnt_judge_and_what_was_chosen_in_them_waits(tmp_path: Path) -> None:
    """By the eleventh hour the labels of the slate of hour 8 are final; those of hour 9 may still change."""
    found = split(tmp_path, [
        slate(0, user="u7", time=8 * HOUR, rewards=[0, 1]), slate(1, user="u8", time=9 * HOUR, rewards=[0, 1]),
        slate(2, user="u9", time=10 * HOUR, rewards=[0, 0]), slate(3, user="u3", time=11 * HOUR, rewards=[1])])
    assert found.until == 11 * HOUR
    assert found.slates.tolist() == [False, True, True, True]
    chosen = {(found.inter.users[found.inter.user[event]], found.inter.items[found.inter.item[event]])
              for event in np.flatnonzero(found.chosen)}
    assert chosen == {("u8", "i1"), ("u3", "i0")}
    assert not found.targets[found.chosen[: found.start]].any()
    new = {found.inter.users[user] for user in found.inter.user[: found.start][found.targets & found.new[: found.start]]}
    assert new == {f"u{u}" for u in range(10)} - {"u8"}
    assert found.held_back == [["u8", "i1"], *([f"u{u}", "i1"] for u in range(10, USERS))]


def test_nobody_judges_alone_and_no_more_than_the_sample(tmp_path: Path) -> None:
    many = [slate(n, user="robot", time=12 * HOUR + n, rewards=[1, 0]) for n in range(50)]
    people = [slate(100 + n, user=f"u{n}", time=13 * HOUR + n, rewards=[1, 0]) for n in range(USERS)]
    found = split(tmp_path, many + people)
    assert (found.slates[:50].sum(), found.slates[50:].sum()) == (5, USERS)  # a fifth
    assert found.slates[45:50].all()
    assert split(tmp_path, many + people, gate_sample=7).slates.nonzero()[0].tolist() == list(range(63, 70))


def test_without_slates_or_news(tmp_path: Path) -> None:
    found = split(tmp_path, [])
    assert (len(found.slates), found.chosen.any(), found.learnt) == (0, False, 10)
    none = split(tmp_path, [slate(0, user="u1", time=HOUR, rewards=[1])], new=False)
    assert (len(none.judges), none.until, none.slates.tolist(), none.held_back) == (0, END_OF_TIME, [False], [])


@pytest.mark.parametrize("rewards", [[], [float("nan")], [-1.0, 0.0]])
def test_a_slate_in_which_nothing_was_chosen_holds_nothing_back(tmp_path: Path, rewards: list[float]) -> None:
    found = split(tmp_path, [slate(0, user="u8", time=10 * HOUR, rewards=rewards)])
    assert (found.slates.tolist(), found.chosen.any()) == ([True], False)

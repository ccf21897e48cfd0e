"""Agreement with the reference implementation of the protocol, on a small log whose answers are kept (see reference/make.py)."""
import json
from pathlib import Path

import pytest

from tfrec.data.behaviour.interaction_files import read_interactions
from tfrec.data.items.catalogue import read_catalogue
from tfrec.evaluation.baselines import fit_baselines
from tfrec.evaluation.intervals import UserBootstrap
from tfrec.evaluation.protocol import Histories, evaluated_events, rank_events
from tfrec.evaluation.scorecard import scorecard

HERE = Path(__file__).parent / "reference"
CALLED = {"popularity_7d": "popularity, 7 days"}


@pytest.mark.parametrize("case", ["with items", "without items"])
def test_every_number_of_the_reference(case: str) -> None:
    expected = json.loads((HERE / "expected.json").read_text())[case]
    catalogue = read_catalogue(HERE / "items.csv", None) if case == "with items" else None
    inter = read_interactions(HERE / "interactions.csv", catalogue=catalogue, quarantine=None)
    asked, histories = evaluated_events(inter), Histories(inter)
    found = fit_baselines(inter, train_end=asked.train_end, histories=histories)
    ranks = {
        CALLED.get(name, name): rank_events(inter, asked.events, scorer, train_end=asked.train_end, histories=histories)
        for name, scorer in found.scorers.items()
    }
    card = scorecard(ranks)
    counts = {"events": len(inter), "users": len(inter.users), "items": len(inter.items), "asked": card.events}
    assert counts | {"asked_users": card.users} == {key: expected[key] for key in (*counts, "asked_users")}
    one = ranks["popularity"]
    assert one.cold.mean() == pytest.approx(expected["cold"], abs=1e-9)
    assert one.untouched.mean() == pytest.approx(expected["untouched"], abs=1e-9)
    rows = card.to_dict()
    assert list(rows) == list(expected["baselines"])
    for name, values in expected["baselines"].items():
        low, high = rows[name]["intervals"]["ndcg@10"]
        ours = {"low": low, "high": high} | {key: rows[name][key] for key in values if "@" in key}
        assert ours == pytest.approx(values, abs=1e-9), name


def test_paired_interval_is_of_the_same_redraws() -> None:
    inter = read_interactions(HERE / "interactions.csv", catalogue=None, quarantine=None)
    asked = evaluated_events(inter)
    found = fit_baselines(inter, train_end=asked.train_end)
    ours, theirs = (rank_events(inter, asked.events, found.scorers[name]) for name in ("EASE", "popularity"))
    gap = UserBootstrap(ours.users).difference(ours.rank <= 10, theirs.rank <= 10)
    assert gap is not None
    assert gap.mean == pytest.approx(0.3625 - 0.34375)
    assert gap.low < gap.mean < gap.high

"""What a version would have earned, from slates that it or another policy drew: on a log whose rewards follow a known rule."""
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.serving import tiny_recommender as tiny
from tfrec.cli import app
from tfrec.config import Config, GatewayConfig
from tfrec.data.log import FeedbackLog
from tfrec.data.records import Impression, Outcome, Shown
from tfrec.errors import DataError, UsageError
from tfrec.ope import ope
from tfrec.serving.export import export
from tfrec.serving.saved_model import SavedModel
from tfrec.serving.tensors import text_array

NOW, REQUESTS, K = 3_000_000, 600, 3
LOGGED = {"temperature": 1.5, "epsilon": 0.3}


def clicked(item: str) -> bool:
    """The rule: what is liked are the items whose number is divisible by 3."""
    return int(item[1:]) % 3 == 0


def explored(
    served: SavedModel, *, rows: int, seed: int, k: int = K, temperature: float, epsilon: float
) -> dict[str, np.ndarray]:
    """Slates for people of three kinds: with behaviour, with a query, and with items and tags that they do not want."""
    kinds = np.arange(rows) % 3
    asked = tiny.request(
        [["i3", "i9"] if kind == 0 else ["", "i4"] for kind in kinds],
        history_action=text_array([["buy", ""] if kind == 0 else ["", "like"] for kind in kinds]),
        history_age_s=np.array([[900, 60] if kind == 0 else [-1, 5] for kind in kinds], np.int64),
        query=["z" if kind == 1 else "" for kind in kinds],
        exclude=[["i3", "i9"] if kind == 2 else ["", ""] for kind in kinds],
        deny_tags=[["tens"] if kind == 2 else [""] for kind in kinds],
        k=np.full(rows, k, np.int32),
    )
    policy = {"temperature": np.full(rows, temperature, np.float32), "epsilon": np.full(rows, epsilon, np.float32),
              "seed": np.arange(seed, seed + rows)}
    return asked | served.run("explore", asked | policy)


def earned(found: dict[str, np.ndarray]) -> np.ndarray:
    return np.array([[clicked(item.decode()) for item in row] for row in found["items"]], float)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: str) -> Config:
    """A run with a version, the slates that it drew, and a click on every item that is liked."""
    made = tiny.recommender(tmp_path_factory.mktemp("ope") / "run", tiny_checkpoint)
    config = made.config.model_copy(update={"gateway": GatewayConfig(**LOGGED)})
    export(made, config.models_dir / "1", created_at=5)
    found = explored(SavedModel(config.models_dir / "1"), rows=REQUESTS, seed=0, **LOGGED)
    shown, acts = [], []
    for row in range(REQUESTS):
        events = [(item.decode(), action.decode(), age) for item, action, age in
                  zip(found["history"][row], found["history_action"][row], found["history_age_s"][row], strict=True) if item]
        slate = zip(found["items"][row], found["scores"][row].tolist(), found["log_propensities"][row].tolist(), strict=True)
        places = [(item.decode(), score, log_pi) for item, score, log_pi in slate]
        names = [place.item for place in places]
        shown.append(Impression(
            request_id=f"r{row}", time=NOW - 500_000, user=f"u{row % 50}", query=found["query"][row].decode(),
            history=[item for item, _, _ in events], history_action=[action for _, action, _ in events],
            history_time=[NOW - 500_000 - age for _, _, age in events],
            exclude=[item.decode() for item in found["exclude"][row] if item],
            deny_tags=[tag.decode() for tag in found["deny_tags"][row] if tag],
            slate=[Shown(item=i, position=p, score=s, log_propensity=min(0.0, pi)) for p, (i, s, pi) in enumerate(places)],
            policy="plackett_luce(temperature=1.5, epsilon=0.3)", model_version=1,
        ))
        acts += [Outcome(event_id=f"e{row}{name}", request_id=f"r{row}", user=f"u{row % 50}", item=name, action="click",
                         time=NOW - 499_000) for name in names if clicked(name)]
    log(config, "impressions", shown)
    log(config, "outcomes", acts)
    return config


def log(config: Config, kind: Any, records: list[Any], *, writer: str = "w") -> None:
    first = FeedbackLog(config.log_dir).tables[kind].last_seq(writer) + 1
    rows = [(first + n, record.model_dump(mode="json")) for n, record in enumerate(records)]
    FeedbackLog(config.log_dir).append(kind, rows, writer=writer)


@pytest.mark.parametrize("places", [None, 1])
def test_the_policy_that_logged_earns_what_was_logged(config: Config, places: int | None) -> None:
    """So its propensities, computed from the log, are those that it said when it drew: history, query, exclusions and tags."""
    found = ope(config, places=places, now=NOW)
    assert (found["version"], found["slates"], found["left_out"]) == (1, REQUESTS, {})
    assert found["policy"] == "plackett_luce(temperature=1.5, epsilon=0.3)"
    assert found["mean_weight"] == pytest.approx(1, abs=1e-3)
    assert found["largest_weight"] == pytest.approx(1, abs=0.01)
    assert found["effective_slates"] == pytest.approx(REQUESTS, rel=1e-3)
    by = found["reward_per_request"]
    assert by["RIPS" if places is None else "IPS"]["mean"] == pytest.approx(by["logged"]["mean"], abs=2e-3)
    assert by["gain"]["mean"] == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize("places", [2, 1])
def test_another_policy_earns_what_it_earns_when_it_is_asked(config: Config, places: int) -> None:
    judged = {"temperature": 3.0, "epsilon": 0.6}
    served = SavedModel(config.models_dir / "1")
    truth = earned(explored(served, rows=30_000, seed=10**6, k=places, **judged)).sum(axis=1).mean()
    found = ope(config, places=places, now=NOW, **judged)["reward_per_request"]
    for name in ("RIPS",) if places > 1 else ("IPS", "SNIPS"):
        assert found[name]["low"] <= truth <= found[name]["high"]
        assert found[name]["high"] - found[name]["low"] < 0.5


def test_what_the_log_does_not_support_gets_a_reason_and_no_number(config: Config) -> None:
    with pytest.raises(DataError, match=r"no estimate: 600 rows are worth .* Judge fewer places: --places 1\."):
        ope(config, temperature=0.01, epsilon=0.0, now=NOW)


def test_slates_without_propensities_or_labels_are_counted_and_left_out(config: Config, tmp_path: Path) -> None:
    def slate(name: str, policy: str, log_pi: float | None, *, time: int = 5) -> Impression:
        return Impression(request_id=name, time=time, user="u", policy=policy, model_version=1,
                          slate=[Shown(item="i1", position=0, score=1.0, log_propensity=log_pi)])

    other = config.model_copy(update={"run": tmp_path})
    other.models_dir.parent.mkdir(parents=True)
    other.models_dir.symlink_to(config.models_dir)
    log(other, "impressions", [slate("a", "greedy", 0.0), slate("b", "thompson(alpha=1)", None),
                               slate("c", "plackett_luce(temperature=1, epsilon=0.1)", -0.5, time=NOW - 5)])
    with pytest.raises(DataError) as error:
        ope(other, now=NOW)
    for words in ("no slate can be weighed", "1 slates: greedy: nothing was left to chance",
                  "1 slates: thompson: no propensities", "1 slates: labels not mature yet", "gateway.explore=true"):
        assert words in str(error.value)


def test_the_command(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(config.to_toml())
    found = CliRunner().invoke(app, ["ope", "--config", str(path), "--places", "1", "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["reward_per_request"].keys() == {"logged", "IPS", "SNIPS", "gain"}
    with pytest.raises(UsageError, match=r"no version 7 to judge; there are \[1\]"):
        ope(config, version=7, now=NOW)

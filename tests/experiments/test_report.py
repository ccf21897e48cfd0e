"""What the log says of an experiment, on a log whose figures are known."""
import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tfrec.cli.app import app
from tfrec.config import Config, RewardConfig
from tfrec.config.experiment import Arm, Trial
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.records import Impression, Outcome, ServedContext, Shown
from tfrec.errors import DataError, UsageError
from tfrec.experiments.overview import overview
from tfrec.experiments.state import Started, StateFile

DAY = 86_400
BEGAN = 100 * DAY
NOW = BEGAN + 10 * DAY
TRIAL = Trial(arms={"plain": Arm(share=0.5), "warm": Arm(share=0.5, temperature=1.0)})


class LoggedRequests:
    """Requests and what came of them, to be logged at once."""

    def __init__(self) -> None:
        self.shown: list[Impression] = []
        self.acts: list[Outcome] = []
        self._numbers = count()

    def ask(self, user: str, time: int, clicks: int, *, arm: str | None) -> None:
        name = f"r{next(self._numbers)}"
        served = ServedContext(arms={} if arm is None else {"warmer.1": arm, "other.9": "x"})
        slate = tuple(Shown(item=item, position=place, score=1.0) for place, item in enumerate("abc"))
        self.shown.append(Impression(request_id=name, time=time, user=user, context=served, slate=slate, policy="greedy",
                                     model_version=1))
        self.acts += [Outcome(event_id=f"{name}{item}", user=user, item=item, action="click", time=time + 5, request_id=name)
                      for item in "abc"[:clicks]]

    def write(self, config: Config, writer: str = "w") -> None:
        log = FeedbackLog(config.log_uri)
        for kind, records in (("impressions", self.shown), ("outcomes", self.acts)):
            rows = [(number, record.model_dump_json()) for number, record in enumerate(records, 1)]
            log.append(kind, rows, writer=writer)  # type: ignore[arg-type]


def run_of(directory: Path, *, until: int | None = None, level: float = 0.05) -> Config:
    config = Config(run=directory, reward=RewardConfig(weights={"click": 1.0}))
    one = Started(name="warmer", number=1, trial=TRIAL, level=level, effect=0.3, since=BEGAN)
    StateFile(directory).change(lambda state: state.with_started(one) if until is None else
                                state.with_started(one).with_ended(one.ended(until, "stopped")))
    return config


def by_arm(found: dict[str, Any]) -> dict[str, Any]:
    [one] = found["experiments"]
    return {arm["arm"]: arm for arm in found["arms"]} | {"all": one}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """400 users with two requests: plain earns 1 and 0, warm 1 and 2 of every second user; and what must not count."""
    config, log = run_of(tmp_path_factory.mktemp("run")), LoggedRequests()
    for number in range(400):
        arm = "warm" if number % 2 else "plain"
        log.ask(f"u{number}", BEGAN - DAY, 1, arm=None)
        log.ask(f"u{number}", BEGAN + DAY, 1, arm=arm)
        log.ask(f"u{number}", BEGAN + 2 * DAY, 2 * (arm == "warm") * (number % 4 == 1), arm=arm)
        log.ask(f"u{number}", NOW - DAY + 60, 3, arm="plain")  # its labels are open
    for arm in ("plain", "warm"):
        log.ask("both", BEGAN + DAY, 3, arm=arm)
    log.ask("none", BEGAN + DAY, 3, arm=None)
    log.ask("u0", BEGAN - 40 * DAY, 3, arm=None)  # too long ago
    log.write(config)
    return config


def test_the_figures_of_each_arm_worked_out_by_hand(config: Config) -> None:
    found = by_arm(overview(config, None, now=NOW, quarantine=None))
    assert {name: (found[name]["users"], found[name]["requests"], found[name]["reward"]) for name in ("plain", "warm")} == {
        "plain": (200, 400, 0.5), "warm": (200, 400, 1.0)}
    assert (found["all"]["users_in_two_arms"], found["all"]["shares_p"]) == (1, 1.0)
    assert found["warm"]["difference"] == pytest.approx(0.5)
    # plain has no variance; of warm half earn 3 by 2 requests and half 1: s = 0.5 * sqrt(200 / 199 / 200), which is 0.0354, and
    # t = 0.3 * 0.75: 0.0354 * sqrt(1.0248 * log(1.0248 / 0.0248 / 0.0025)) = 0.112
    assert found["warm"]["difference_high"] - found["warm"]["difference"] == pytest.approx(0.112, abs=0.0005)
    assert found["warm"]["verdict"] == "better"
    assert found["warm"]["words"].startswith("warm earns more, by 77.6%")
    assert found["all"]["counted_until"] == "1970-04-20T00:00:00+00:00"  # a day before


def test_the_figures_by_command_in_words(config: Config, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(config.to_toml())
    said = CliRunner().invoke(app, ["experiment", "status", "--config", str(tmp_path / "c.toml")])
    assert said.exit_code == 0, said.output
    assert "warm earns more, by 77.6% at least." in said.output
    said = CliRunner().invoke(app, ["experiment", "status", "warmer.1", "--config", str(tmp_path / "c.toml"), "--json"])
    assert json.loads(said.stdout)["arms"][0]["users"] == 200


def test_what_came_after_the_end_does_not_count(config: Config) -> None:
    one = StateFile(config.run).read().running[0]
    StateFile(config.run).change(lambda state: state.with_ended(one.ended(BEGAN + 2 * DAY, "stopped")))
    try:
        assert overview(config, None, now=NOW, quarantine=None)["experiments"] == []
        found = by_arm(overview(config, "warmer", now=NOW, quarantine=None))
        assert (found["plain"]["requests"], found["warm"]["reward"], found["all"]["ended_because"]) == (200, 1.0, "stopped")
        with pytest.raises(UsageError, match=r"no experiment 'warmr' was started yet \(nearest: 'warmer'\)\. Known are warmer\."):
            overview(config, "warmr", now=NOW, quarantine=None)
    finally:
        StateFile(config.run).change(lambda state: state.model_copy(update={"running": (one,), "ended": ()}))


@pytest.mark.parametrize(("users", "words", "verdict"), [
    (range(0, 30), "too few users were rewarded", "open"),
    (range(0, 1800, 3), "another share of the users than promised", "broken"),
])
def test_what_cannot_be_judged_is_said(tmp_path: Path, users: range, words: str, verdict: str) -> None:
    config, log = run_of(tmp_path), LoggedRequests()
    for number in users:
        log.ask(f"u{number}", BEGAN + DAY, 1, arm="warm" if verdict == "broken" and number % 9 else "plain")
    log.write(config)
    found = by_arm(overview(config, None, now=NOW, quarantine=None))
    assert found["warm"]["verdict"] == verdict
    assert words in found["warm"]["words"]


def test_a_context_of_another_tool_is_no_arm(tmp_path: Path) -> None:
    config, log = run_of(tmp_path), LoggedRequests()
    log.ask("u", BEGAN + DAY, 1, arm="plain")
    other = log.shown[0].model_copy(update={"request_id": "s"}).model_dump_json()
    rows = [(1, log.shown[0].model_dump_json()), (2, other.replace('"context":"{', '"context":"\\"warmer.1\\" {'))]
    assert rows[1][1] != other
    FeedbackLog(config.log_uri).append("impressions", rows, writer="w")
    assert by_arm(overview(config, None, now=NOW, quarantine=None))["plain"]["requests"] == 1


def test_without_a_log_it_says_so(tmp_path: Path) -> None:
    with pytest.raises((UsageError, DataError), match="There is no feedback log in"):
        overview(run_of(tmp_path), None, now=NOW, quarantine=None)


BOTH = Trial(kind="interleave", arms={"old": Arm(share=1.0, label="a"), "new": Arm(share=1.0, label="b")})
BESIDE = Trial(kind="shadow", arms={"new": Arm(share=1.0, label="b")})


def compared(directory: Path, trial: Trial, requests: dict[str, ServedContext], clicks: dict[str, str]) -> dict[str, Any]:
    """The figures of the one arm that is told, of a slate `abc` for each user."""
    config, log = Config(run=directory, reward=RewardConfig(weights={"click": 1.0})), LoggedRequests()
    StateFile(directory).change(lambda state: state.with_started(
        Started(name="it", number=1, trial=trial, level=0.05, effect=0.3, since=BEGAN)))
    for user, context in requests.items():
        log.ask(user, BEGAN + DAY, 0, arm=None)
        log.shown[-1] = log.shown[-1].model_copy(update={"context": context})
        log.acts += [Outcome(event_id=f"{user}{item}", user=user, item=item, action="click", time=BEGAN + DAY + 5,
                             request_id=log.shown[-1].request_id) for item in clicks.get(user, "")]
    log.write(config)
    [arm] = overview(config, None, now=NOW, quarantine=None)["arms"]
    return arm  # type: ignore[no-any-return]


def test_items_of_an_interleaved_answer_are_credited_to_their_team(tmp_path: Path) -> None:
    teams = {f"u{n}": ServedContext(arms={"it.1": "both"}, teams=("010", "101")[n % 2]) for n in range(300)}
    clicks = {f"u{n}": "b" if n % 2 == (n % 3 == 1) else "a" for n in range(300) if n % 3 < 2}
    credit = [0 if n % 3 == 2 else 1 if ("010", "101")[n % 2]["ab".index(clicks[f"u{n}"])] == "1" else -1 for n in range(300)]
    arm = compared(tmp_path, BOTH, teams, clicks)
    assert (arm["arm"], arm["users"], arm["reward"]) == ("new", 300, pytest.approx(200 / 300, abs=1e-6))
    assert arm["difference"] == pytest.approx(sum(credit) / 300, abs=1e-6)
    assert arm["difference_low"] < arm["difference"] < arm["difference_high"]
    assert arm["words"] == "new earns at most 21.8% less, and less than 0.3 does not matter, beside old."


def test_a_shadow_is_told_beside_what_was_shown(tmp_path: Path) -> None:
    lists = [("a", "b", "x"), ("x", "y", "z")]
    shown = {f"u{n}": ServedContext(arms={"it.1": "new"}, shadows={"it.1": lists[n % 2]}) for n in range(8)}
    arm = compared(tmp_path, BESIDE, shown, {f"u{n}": "ac" for n in range(8)})
    # of 24 items shown, half of the users' lists have 2 of 3; of 16 clicks, those on "a" by half of the users
    assert (arm["users"], arm["shown_too"], arm["reward_kept"]) == (8, pytest.approx(1 / 3, abs=1e-6), 4 / 16)
    assert "verdict" not in arm

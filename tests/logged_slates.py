"""A run whose log is known: slates that its version drew, a click on every item that is liked, and a dismissal of some others."""
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tests.graph import tiny_recommender as tiny
from tests.once import once
from tfrec.client.slate_options import Bounds, boost_inputs, bound_inputs
from tfrec.client.tensors import text_array
from tfrec.config import Config, GatewayConfig, RewardConfig
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.records import AppliedRules, Boost, Impression, Outcome, ServedContext, Shown
from tfrec.model_server.saved_model import SavedModel
from tfrec.models.recommender import Recommender
from tfrec.release.export import export

NOW, REQUESTS = 3_000_000, 600
LENGTHS = tuple(range(1, 13))  # of slates, in turn
LOGGED = {"temperature": 1.5, "epsilon": 0.3}
LIVE = {"i5": -0.5, "i8": -1.5}  # the popularity that each fifth request brings along
REWARDS = {"click": 1.0, "view": 1.0, "dismiss": -1.0}


def act_on(item: str) -> str | None:
    """The rule: what is liked are the items whose number is divisible by 3, and some of the others are dismissed."""
    number = int(item[1:])
    return "click" if number % 3 == 0 else "dismiss" if number % 7 == 5 else None


def reward_of(item: str) -> float:
    return REWARDS.get(act_on(item) or "", 0.0)


@contextmanager
def short_lists() -> Iterator[None]:
    """Answers are drawn among a third of the catalogue, as they are among 200 of a real one."""
    with mock.patch("tfrec.config.serving.SHORTLIST", tiny.N_ITEMS // 3):
        yield


def bounds(row: int) -> Bounds:
    """Of a request, by number."""
    return {"year": (1975.0, None)} if row % 7 == 2 else {}


def boosts(row: int) -> tuple[Boost, ...]:
    """Of a request, by number."""
    return (("tag", "even", 1.2, None, None), ("item", "i9", -0.7, None, None)) if row % 4 == 1 else ()


def explored(
    served: SavedModel, *, rows: int, seed: int, lengths: Sequence[int], temperature: float, epsilon: float,
    exclude: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """Slates of these lengths in turn, for people of three kinds: with behaviour, with a query, and with items and tags that they
    do not want; each fifth with live popularity, each seventh of films from 1975 on, each fourth
    under boosts; none has what all `exclude`."""
    kinds, live = np.arange(rows) % 3, np.arange(rows) % 5 == 0
    asked = tiny.request(
        [["i3", "i9"] if kind == 0 else ["", "i4"] for kind in kinds],
        history_action=text_array([["buy", ""] if kind == 0 else ["", "like"] for kind in kinds]),
        history_age_s=np.array([[900, 60] if kind == 0 else [-1, 5] for kind in kinds], np.int64),
        query=["z" if kind == 1 else "" for kind in kinds],
        exclude=[[*(("i3", "i9") if kind == 2 else ("", "")), *exclude] for kind in kinds],
        deny_tags=[["tens"] if kind == 2 else [""] for kind in kinds],
        prior_items=[list(LIVE) if is_live else ["", ""] for is_live in live],
        prior_log_p=np.where(live[:, None], [*LIVE.values()], 0).astype(np.float32),
        k=np.resize(np.array(lengths, np.int32), rows),
    )
    asked |= bound_inputs([bounds(row) for row in range(rows)], rows)
    asked |= boost_inputs([boosts(row) for row in range(rows)], rows)
    policy = {"temperature": np.full(rows, temperature, np.float32), "epsilon": np.full(rows, epsilon, np.float32),
              "seed": np.arange(seed, seed + rows)}
    return asked | served.run("explore", tiny.only("explore", asked | policy))


def logged_run(
    run: Path, checkpoint: str, shared: Path, *, lengths: Sequence[int] = LENGTHS,
    unknown: Callable[[int], bool] = lambda row: False,
) -> tuple[Config, Recommender]:
    """A run with a version, the slates that it drew among `short_lists`, and what came of them.

    Args:
        shared: where its export is, for all that ask (`once`).
        lengths: of the slates, in turn.
        unknown: of which requests, by number, the log does not hold the propensities.
    """
    made = tiny.recommender(run, checkpoint)
    serving = made.config.serving.model_copy(update={"newcomer_share": 0.6, "max_k": max(LENGTHS)})
    config = made.config = made.config.model_copy(update={
        "gateway": GatewayConfig(**LOGGED), "serving": serving, "reward": RewardConfig(weights=REWARDS)})
    with tiny.exporting("recommend", "explore"):
        exported = once(shared / "logged", lambda directory: export(made, directory, created_at=5))
    shutil.copytree(exported, config.models_dir / "1")
    found = explored(SavedModel(config.models_dir / "1"), rows=REQUESTS, seed=0, lengths=lengths, **LOGGED)
    shown = [impression_of(found, row, unknown=unknown(row)) for row in range(REQUESTS)]
    log(config, "impressions", shown)
    log(config, "outcomes", [act for one in shown for act in acts_on(one)])
    return config, made


def impression_of(found: dict[str, np.ndarray], row: int, *, unknown: bool = False, pins: Mapping[int, str] | None = None
                  ) -> Impression:
    """What the log holds of a request that was `explored`, with items that a rule put at some positions."""
    then = NOW - 500_000 + 60 * row
    events = [(item.decode(), action.decode(), age) for item, action, age in
              zip(found["history"][row], found["history_action"][row], found["history_age_s"][row], strict=True) if item]
    slate = zip(found["items"][row], found["scores"][row].tolist(), found["log_propensities"][row].tolist(), strict=True)
    places = [(item.decode(), score, None if unknown else min(0.0, log_pi)) for item, score, log_pi in slate if item]
    for position, item in sorted((pins or {}).items()):
        places.insert(position, (item, 0.0, 0.0))
    rules = AppliedRules(version="v", names=("r",), pinned=tuple((pins or {}).values()), boosts=boosts(row))
    return Impression(
        request_id=f"r{row}", time=then, user=f"u{row % 50}", query=found["query"][row].decode(),
        history=[item for item, _, _ in events], history_action=[action for _, action, _ in events],
        history_time=[then - age for _, _, age in events],
        exclude=[item.decode() for item in found["exclude"][row] if item],
        deny_tags=[tag.decode() for tag in found["deny_tags"][row] if tag],
        context=ServedContext(bounds=dict(bounds(row)), rules=rules if pins or rules.boosts else None),
        prior_items=[item.decode() for item in found["prior_items"][row] if item],
        prior_log_p=[log_p for item, log_p in zip(
            found["prior_items"][row], found["prior_log_p"][row].tolist(), strict=True) if item],
        slate=[Shown(item=i, position=p, score=s, log_propensity=pi) for p, (i, s, pi) in enumerate(places)],
        policy="thompson(alpha=1)" if unknown else "plackett_luce(temperature=1.5, epsilon=0.3)", model_version=1,
    )


def acts_on(shown: Impression) -> list[Outcome]:
    """What came of a slate, by the rule."""
    return [Outcome(event_id=f"e{shown.request_id[1:]}{one.item}", request_id=shown.request_id, user=shown.user, item=one.item,
                    action=action, time=shown.time + 30) for one in shown.slate if (action := act_on(one.item))]


def log(config: Config, kind: Any, records: list[Any], *, writer: str = "w") -> None:
    first = FeedbackLog(config.log_dir).tables[kind].last_seq(writer) + 1
    rows = [(first + n, record.model_dump_json()) for n, record in enumerate(records)]
    FeedbackLog(config.log_dir).append(kind, rows, writer=writer)

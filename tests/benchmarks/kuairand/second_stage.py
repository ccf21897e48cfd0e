"""The second stage on KuaiRand: taught on 25 to 30 April 2022, asked on 1 to 8 May, beside LightGBM on the same kind of features.

    python tests/benchmarks/kuairand/second_stage.py DIRECTORY WORK [--seeds 3] [--set SECTION.KEY=VALUE]

Everything of the product goes through its own path. Towers learn what people watched before the log, with the features of person
and moment. The impressions and outcomes of 25 to 30 April are in a feedback log, which is settled, and `teach_logged_slates` is
what `tfrec train` calls. Those of 1 to 8 May are settled elsewhere, and `PolicyScorer` says of each how likely the actions were.
Nothing of 1 to 8 May is learnt or counted: rates are those of 30 April, and popularity is that of before the log.

Both are asked twice: where the app counts each user's impressions, clicks and long views until the request (in the days that are
learnt) and sends three numbers along, and where it does not. LightGBM counts them itself.
"""
import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import trees
from next_day import Floats, Redraws, calibration_error, interval, logit
from rates import PRIOR, SECOND_WEEK
from replay import DAY, SETTINGS, WAIT, base_run
from video_log import CHINA_SECONDS, FIRST_DAY, USER, VideoLog, counted_of_users, read

import tfrec  # noqa: F401  before TensorFlow: it chooses Keras 2

import tensorflow as tf  # isort: skip

from tfrec.config import Config, load_config
from tfrec.data.examples.slate_arrays import SlateArrays
from tfrec.data.examples.slates import matured_slates
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.schema import KINDS
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.people.pseudonym import load_pseudonyms
from tfrec.data.settled.examples import SettledExamples
from tfrec.data.settled.settle import settle
from tfrec.models.recommender import Recommender
from tfrec.release.manifest import CHECKPOINT
from tfrec.training import checkpoint
from tfrec.training.slates.logged_slates import teach_logged_slates
from tfrec.training.slates.policy_scorer import PolicyScorer
from tfrec.training.slates.window import window_arrays

HEADS = ("click", "long_view", "like")
KINDS_OF_USERS = ", ".join(f"{name} = '{kind}'" for name, kind in USER.items())
FEATURES = ("features.time=['hour', 'weekday']", f"features.utc_offset_hours={CHINA_SECONDS // 3600}",
            "features.context={tab = 'category', shows = 'number', click_rate = 'number', view_rate = 'number'}",
            f"features.user={{{KINDS_OF_USERS}}}")
RANKER = ("ranker.heads={click = 1, long_view = 0.5, like = 0.2}", "ranker.after={long_view = 'click'}")


def base_settings(work: Path, log: VideoLog, *, featured: bool) -> list[str]:
    """The settings of a run whose version 1, made at the first call, has learnt what people did before the log."""
    run = work / "base"
    run.mkdir(parents=True, exist_ok=True)
    users = [json.dumps({"user": f"u{user}"} | columns) for user, columns in log.users.items()]
    (run / "users.jsonl").write_text("\n".join(users), encoding="utf-8")
    features = [f"features.users={run / 'users.jsonl'}", *FEATURES] if featured else []
    config = base_run(run, log, features)
    return [f"data.interactions={config.data.interactions}", f"data.items={config.data.items}", *SETTINGS, *features]


def settled_run(work: Path, name: str, log: VideoLog, settings: list[str], *, days: range) -> Config:
    """A run whose feedback log has some days, settled after the last one."""
    run = work / name
    config = load_config(None, [f"run={run}", *settings])
    now = FIRST_DAY + days.stop * DAY + WAIT
    if not (run / "done").exists():
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir(parents=True)
        names, feedback, seq = load_pseudonyms(run), FeedbackLog(config.log_uri), 0
        pseudonyms = {int(user): names.of(f"u{user}") for user in np.unique(log.user)}
        for day in days:
            for kind, records in zip(KINDS, log.records(day, pseudonyms=pseudonyms), strict=True):
                lines = [(seq + n + 1, record.model_dump_json()) for n, record in enumerate(records)]
                seq += len(lines)
                feedback.append(kind, lines, writer="app")
        settle(feedback, SettledExamples(config.examples_uri), LabelRule.of(config, log.catalogue), now=now, quarantine=None)
        (run / "done").touch()
    return config


def taught(config: Config) -> Recommender:
    """The recommender of the base run with a second stage that has learnt the log of `config`."""
    tf.keras.backend.clear_session()
    base = load_config(None, [f"run={config.run.with_name('base')}"])
    recommender, _ = checkpoint.load(base.models_dir / "1" / CHECKPOINT, config)
    teach_logged_slates(recommender)
    return recommender


def asked_slates(recommender: Recommender, config: Config, *, until: int) -> tuple[SlateArrays, Floats, np.ndarray]:
    """The slates of a settled run as a model reads them, popularity as it knows it, and the number of each request."""
    settled = SettledExamples(config.examples_uri)
    slates, _ = matured_slates(settled, upto=settled.last().number, items=recommender.catalogue.ids.tolist(), after=0,
                               until=until, most=10**9)
    arrays, log_p = window_arrays(replace(recommender, config=config), slates, recommender.timeline, now=until)
    return arrays, log_p, np.array([int(one.removeprefix("r")) for one in slates["request_id"].to_pylist()])


def log_odds(recommender: Recommender, arrays: SlateArrays, log_p: Floats, head: str) -> Floats:
    """Log odds of a head for what was shown, `[slates, K]`: of a request that gives it alone a weight."""
    weights = np.broadcast_to(np.array([name == head for name in HEADS], np.float32), (len(arrays), len(HEADS)))
    served = PolicyScorer(recommender, log_p, shortlist=1)(replace(arrays, head_weights=weights), as_served=True).served
    return logit(np.clip(np.exp(served), 1e-6, 1 - 1e-6))


class Report:
    """Figures of the impressions of 1 to 8 May.

    Args:
        log: The impressions.
        redraws: How often users are drawn again.
    """

    def __init__(self, log: VideoLog, *, redraws: int) -> None:
        self.rows = np.flatnonzero(log.day >= SECOND_WEEK)
        self._happened = {head: log.outcomes[head][self.rows].astype(float) for head in HEADS}
        user, day = log.user[self.rows], log.day[self.rows]
        self._redraws = Redraws(user, day - SECOND_WEEK, redraws=redraws)
        self._of_week = Redraws(user, np.zeros_like(day), redraws=redraws)
        self._drawn: dict[str, dict[str, Floats]] = {}

    def tell(self, model: str, scores: dict[str, Floats], *, against: str | None = None) -> None:
        """Print the figures of a model's log odds `[rows]` of each head, and what they have over another model's for a click."""
        said: dict[str, Any] = {"model": model}
        for head, score in scores.items():
            happened = self._happened[head]
            drawn = {"auc": self._redraws.auc(score, happened), "per user": self._of_week.per_user_auc(score, happened),
                     "per user's day": self._redraws.per_user_auc(score, happened)}
            if head == "click":
                self._drawn[model] = drawn
            said[head] = {name: _rounded(values) for name, values in drawn.items()}
            said[head]["calibration"] = round(calibration_error(1 / (1 + np.exp(-score)), happened), 4)
        if against in self._drawn:
            said[f"click, over {against}"] = {name: _rounded(values - self._drawn[against][name])
                                              for name, values in self._drawn[model].items()}
        print(json.dumps(said), flush=True)


def _rounded(drawn: Floats) -> list[float]:
    return [round(value, 4) for value in interval(drawn)]


def by_row(log: VideoLog, rows: np.ndarray, found: Floats, arrays: SlateArrays, request: np.ndarray) -> Floats:
    """`found` `[slates, K]` in the order of the log's `rows`; each request shows a video once."""
    slate, position = np.nonzero(arrays.shown)
    shown = zip(request[slate].tolist(), arrays.item[slate, position].tolist(), strict=True)
    known = dict(zip(shown, found[slate, position].tolist(), strict=True))
    return np.array([known[pair] for pair in zip(log.request[rows].tolist(), log.item[rows].tolist(), strict=True)])


def attempt(work: Path, log: VideoLog, report: Report, name: str, settings: list[str], *, seeds: int, against: str) -> None:
    """Teach the second stage what is in `log`, ask it with each seed, and print the figures."""
    last_day, slates, total = int(log.day.max()) + 1, None, np.zeros(len(report.rows))
    known = settled_run(work, f"known-{name}", log, settings, days=range(SECOND_WEEK))
    asked = settled_run(work, f"asked-{name}", log, settings, days=range(SECOND_WEEK, last_day))
    for seed in range(seeds):
        model = taught(load_config(None, [f"run={known.run}", *settings, f"training.seed={seed}"]))
        if slates is None:
            slates = asked_slates(model, asked, until=FIRST_DAY + last_day * DAY + WAIT)
        arrays, log_p, request = slates
        found = {head: by_row(log, report.rows, log_odds(model, arrays, log_p, head), arrays, request)
                 for head in HEADS[: len(HEADS) if seed == 0 else 1]}
        report.tell(f"{name}, seed {seed}", found, against=against)
        total += found["click"] / seeds
    report.tell(f"{name}, mean of {seeds} seeds", {"click": total}, against=against)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--without-features", action="store_true", help="the model reads nothing of person and moment")
    parser.add_argument("--redraws", type=int, default=200)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    wish = parser.parse_args()
    log = read(wish.directory, length=15)
    report = Report(log, redraws=wish.redraws)
    settings = [*base_settings(wish.work, log, featured=not wish.without_features), *RANKER, *wish.set]
    sent = counted_of_users(log, until=SECOND_WEEK, prior=PRIOR)
    cases = [("rates-sent", sent, ()), ("no-rates", (), ("user", "user tab"))]
    for name, counted, without in cases[1:] if wish.without_features else cases:
        report.tell(f"LightGBM, {name}", {"click": trees.log_odds(log, wish.directory, "click", without=without)})
        attempt(wish.work, replace(log, counted=counted), report, name, settings, seeds=wish.seeds, against=f"LightGBM, {name}")


if __name__ == "__main__":
    main()

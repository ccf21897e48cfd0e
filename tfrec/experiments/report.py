"""What the log says about an experiment: users, requests and reward of each arm, and a verdict, at any moment.

Looking costs nothing: intervals and checks hold however often somebody looks.
"""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from tfrec.config import Config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.items.catalogue import read_catalogue
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.people.erasures import load_people
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.settled.examples import SettledExamples
from tfrec.data.settled.settle import settle
from tfrec.errors import UsageError
from tfrec.experiments.assignment import BOTH
from tfrec.experiments.confidence_sequence import Estimate, arm_mean, difference
from tfrec.experiments.sample_ratio import sample_ratio_p
from tfrec.experiments.state import Started
from tfrec.experiments.user_moments import ONE, REWARD, FloatArray
from tfrec.experiments.users import AGREED, CREDIT, KEPT, ArmUsers, read_users
from tfrec.experiments.verdict import Judged, judge

DAY = 86_400


class Settled(NamedTuple):
    """The settled examples, read up to a part, in which everything that was shown before `until` has matured."""

    examples: SettledExamples
    upto: int
    until: int


def settled_now(config: Config, *, now: int, quarantine: Quarantine | None) -> Settled:
    """Settle the log, and say up to when labels have matured.

    Raises:
        UsageError: there is no log, or its examples were settled by another reward rule.
        DataError: a table cannot be read, or a row is malformed and there is no quarantine.
    """
    log = FeedbackLog(config.log_uri)
    if not log.exists():
        raise UsageError(f"There is no feedback log in {config.log_uri}. Check --set run=..., or fill it: tfrec gateway.")
    catalogue = read_catalogue(config.data.items, quarantine) if config.reward.lengths and config.data.items else None
    rule = LabelRule.of_rewards(config.reward, catalogue, attribution_seconds=config.data.attribution_seconds)
    examples = SettledExamples(config.examples_uri)
    with _said("settling the log"):
        part = settle(log, examples, rule, now=now, quarantine=quarantine, people=lambda: load_people(config, make_key=False))
    return Settled(examples, part.number, part.window.now - rule.attribution_seconds)


class Compared(NamedTuple):
    """What people want to see of an experiment, and the verdict of each arm but the first of a `split`."""

    of_all: dict[str, Any]
    arms: list[dict[str, Any]]
    verdicts: dict[str, Judged]


def judged(started: Started, settled: Settled, *, past_days: int) -> Compared:
    """Compare the arms of an experiment.

    Args:
        started: the experiment.
        settled: what is read.
        past_days: how far a user's past goes back.
    """
    until = settled.until if started.until is None else min(settled.until, started.until)
    read = partial(read_users, settled.examples, started.id, past=started.since - past_days * DAY, since=started.since,
                   until=until, upto=settled.upto)
    with _said(f"reading {started.id}"):
        compared = {"split": _split, "interleave": _interleaved, "shadow": _shadows}[started.trial.kind](started, read)
    return compared._replace(of_all=described(started) | compared.of_all | {"counted_until": _time(until)})


def _split(started: Started, read: Callable[..., tuple[dict[str, ArmUsers], int]]) -> Compared:
    names = list(started.trial.arms)
    users, in_two = read(names)
    ratio = float(sample_ratio_p([users[name].users for name in names], [started.trial.arms[name].share for name in names]))
    level = started.level / (len(names) - 1)  # of each comparison, so that all together have the stated one
    control = users[names[0]]
    verdicts, arms = {}, [_arm(names[0], started, control)]
    for name in names[1:]:
        found = difference(control.moments, users[name].moments, level=level, effect=started.effect)
        usual = float(arms[0]["reward"] or 0.0)
        verdicts[name] = judge(found, usual=usual, effect=started.effect, sample_ratio_p=ratio)
        arms.append(_arm(name, started, users[name]) | _interval("difference", found) | {
            "verdict": verdicts[name].verdict.value, "words": f"{name} {verdicts[name].words}."})
    return Compared({"users_in_two_arms": in_two, "shares_p": round(ratio, 6)}, arms, verdicts)


def _interleaved(started: Started, read: Callable[..., tuple[dict[str, ArmUsers], int]]) -> Compared:
    """Both arms are in each answer: the difference is that of what their items earned in the same answers."""
    first, second = started.trial.arms
    rewards, credit = read([BOTH])[0][BOTH], read([BOTH], counted=CREDIT)[0][BOTH]
    usual = float(rewards.moments[ONE, REWARD] / max(rewards.requests, 1))
    found = arm_mean(credit.moments, level=started.level, effect=started.effect, usual=usual)
    verdict = judge(found, usual=usual, effect=started.effect, sample_ratio_p=1.0)
    told = _arm(second, started, rewards) | _interval("difference", found)
    return Compared({}, [told | {"verdict": verdict.verdict.value, "words": f"{second} {verdict.words}, beside {first}."}],
                    {second: verdict})


def _shadows(started: Started, read: Callable[..., tuple[dict[str, ArmUsers], int]]) -> Compared:
    """What was shown beside what an arm would have shown. It is no verdict: nobody saw the rest of the arm's items."""
    names = list(started.trial.arms)
    rewards, kept, agreed = (read(names, counted=counted)[0] for counted in ("reward", KEPT, AGREED))
    arms = []
    for name in names:
        earned, own = rewards[name].moments[ONE, REWARD], kept[name].moments[ONE, REWARD]
        arms.append(_arm(name, started, rewards[name]) | {
            "shown_too": _plain(agreed[name].moments[ONE, REWARD] / max(agreed[name].requests, 1)),
            "reward_kept": _plain(own / earned) if earned else None})
    return Compared({}, arms, {})


def described(started: Started) -> dict[str, Any]:
    """An experiment without its figures."""
    return {"experiment": started.id, "kind": started.trial.kind, "since": _time(started.since),
            "until": None if started.until is None else _time(started.until), "ended_because": started.verdict or None}


def _arm(name: str, started: Started, users: ArmUsers) -> dict[str, Any]:
    found = arm_mean(users.moments, level=started.level, effect=started.effect)
    share = started.trial.arms[name].share
    return {"experiment": started.id, "arm": name, "share": share, "users": users.users, "requests": users.requests,
            **_interval("reward", found)}


def _interval(name: str, found: Estimate) -> dict[str, float | None]:
    return {end: _plain(value) for end, value in
            ((name, found.mean), (f"{name}_low", found.low), (f"{name}_high", found.high))}


def _plain(value: FloatArray) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


@contextmanager
def _said(what: str) -> Iterator[None]:
    """Say on the terminal what takes its time."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield

"""What a version would have earned, had it explored where another one did: the log and a published version in, its value out.

Slates that were drawn by a policy which knows its propensities are weighed by how likely the version would have drawn them, for
the same request: history, query, exclusions, tags and the live popularity as served, all other popularity as the version has it.
Only rewards that have matured count, as for training. Of slates that were shown before the version had learnt it may have learnt
the rewards, so these are left out.
"""
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.client.inputs import UNKNOWN_AGE, padded
from tfrec.client.tensors import text_array
from tfrec.config import Config
from tfrec.data.examples.slates import Slate, read_slates
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.readers.quarantine import Quarantine
from tfrec.errors import DataError, UsageError
from tfrec.evaluation.intervals import Interval
from tfrec.evaluation.off_policy import Logged, diagnose, estimate, ips, snips
from tfrec.graph.signatures import Graph
from tfrec.models.text_encoder import load_encoder
from tfrec.release.delta import index_of
from tfrec.release.manifest import CHECKPOINT, read_manifest
from tfrec.release.publish import versions
from tfrec.training import checkpoint
from tfrec.training.progress import bar

SAMPLE = 10_000  # slates
_AT_ONCE = 64  # requests


def ope(
    config: Config, *, version: int | None = None, temperature: float | None = None, epsilon: float | None = None,
    places: int | None = None, sample: int = SAMPLE, now: int, quarantine: Quarantine | None = None,
) -> dict[str, Any]:
    """The value of a version's exploring policy, per request, with 95% intervals that redraw users.

    Args:
        config: of the run.
        version: published; the newest by default.
        temperature, epsilon: of the judged policy; the gateway's by default.
        places: of each slate, the first ones, whose rewards count; all by default. Few are known better than many.
        sample: of the slates, at most so many are judged, always the same ones.
        now: seconds since 1970; labels mature by it.
        quarantine: where bad rows of the log go.

    Raises:
        UsageError: nothing is published, or there is no such version.
        DataError: the log has no slates that can be weighed, or does not support the policy; says why.
    """
    known = versions(config.models_dir)
    if not known or (version is not None and version not in known):
        raise UsageError(f"{config.models_dir}: no version {'' if version is None else version} to judge; there are {known}.")
    directory = config.models_dir / str(version or known[-1])
    temperature = config.gateway.temperature if temperature is None else temperature
    epsilon = config.gateway.epsilon_at(now) if epsilon is None else epsilon
    recommender, _ = checkpoint.load(directory / CHECKPOINT, config)
    manifest = read_manifest(directory)
    learnt_until = 0 if manifest.window is None else int(manifest.window["now"])
    feedback = FeedbackLog(config.log_dir)
    slates, left_out = read_slates(
        feedback, feedback.window(None, now=now), LabelRule.of(config, recommender.catalogue), quarantine=quarantine,
        positions=places, most=sample, since=learnt_until,
    )
    if not slates:
        raise DataError(f"{config.log_dir}: no slate can be weighed ({_told(left_out)}). "
                        "Let the gateway draw: gateway.explore=true.")
    encoder = load_encoder(config.text)
    graph = Graph(recommender, encoder, given=index_of(directory, manifest), shortlist=manifest.shortlist)
    target = _judged(graph, slates, temperature=temperature, epsilon=epsilon)
    logged = _logged(slates, target)
    diagnosis = diagnose(logged)
    if diagnosis.refusal:
        advice = "" if logged.reward.ndim == 1 else " Judge fewer places: --places 1."
        raise DataError(f"{config.log_dir}: no estimate: {diagnosis.refusal}.{advice}")
    users = [slate.request["user"] for slate in slates]
    converted = [[float(position.converted) for position in slate.positions] for slate in slates]
    return {
        "version": int(directory.name), "policy": f"plackett_luce(temperature={temperature:g}, epsilon={epsilon:g})",
        "places": places or "all", "slates": len(slates), "left_out": dict(left_out),
        "effective_slates": round(diagnosis.effective, 1), "mean_weight": round(diagnosis.mean_weight, 4),
        "largest_weight": round(diagnosis.largest_weight, 2),
        "reward_per_request": _estimates(logged, users),
        "conversions_per_request": _estimates(replace(logged, reward=_side_by_side(converted, 0.0)), users),
    }


def _estimates(logged: Logged, users: list[str]) -> dict[str, dict[str, float]]:
    """What the log has per request, what the judged policy would have, and its gain, with their intervals."""
    earned = logged.reward if logged.reward.ndim == 1 else logged.reward.sum(axis=1)
    terms = ips(logged)
    found = {
        "logged": estimate(terms._replace(plain=earned), users=users),
        "IPS" if logged.reward.ndim == 1 else "RIPS": estimate(terms, users=users),
        "gain": estimate(terms._replace(plain=terms.plain - earned), users=users),
    }
    if logged.reward.ndim == 1:
        found["SNIPS"] = estimate(snips(logged), users=users)
    return {name: _rounded(interval) for name, interval in found.items()}


def _judged(graph: Graph, slates: list[Slate], *, temperature: float, epsilon: float) -> list[list[float]]:
    """The probability of each place of each slate under the judged policy."""
    found = []
    with bar("judging", total=len(slates)) as advance:
        for start in range(0, len(slates), _AT_ONCE):
            some = slates[start : start + _AT_ONCE]
            asked = [slate.request for slate in some]
            history = [one["history"] for one in asked]
            ages = [[UNKNOWN_AGE if then < 0 else max(0, one["time"] - then) for then in one["history_time"]]
                    for one in asked]
            live = [one["live"].items for one in asked]
            inputs = {
                "history": padded(history, ""),
                "history_action": padded([one["history_action"] for one in asked], "", like=history),
                "history_age_s": padded(ages, UNKNOWN_AGE, like=history),
                "query": text_array([one["query"] for one in asked]),
                **{name: padded([one[name] for one in asked], "") for name in ("exclude", "allow_tags", "deny_tags")},
                "prior_items": padded(live, ""),
                "prior_log_p": padded([one["live"].log_p.tolist() for one in asked], 0.0, like=live),
                # a slate's first place is its first column: `padded` puts one in front
                "slate": padded([[position.item for position in slate.positions] for slate in some], "")[:, 1:],
                "temperature": np.full(len(some), temperature, np.float32), "epsilon": np.full(len(some), epsilon, np.float32),
            }
            log_pi = graph.log_propensities({name: tf.constant(array) for name, array in inputs.items()}).numpy()
            found += [np.exp(row[: len(slate.positions)]).tolist() for slate, row in zip(some, log_pi, strict=True)]
            advance(len(some))
    return found


def _logged(slates: list[Slate], target: list[list[float]]) -> Logged:
    """The positions of slates as arrays. Behind a shorter slate stand certain positions that earn nothing."""
    propensity = [[np.exp(position.log_propensity or 0.0) for position in slate.positions] for slate in slates]
    return Logged(reward=_side_by_side([[position.reward for position in slate.positions] for slate in slates], 0.0),
                  propensity=_side_by_side(propensity, 1.0), target=_side_by_side(target, 1.0))


def _side_by_side(rows: list[list[float]], fill: float) -> np.ndarray:
    """`[n, width]` of the longest row, shorter ones filled; `[n]` where every row has one value."""
    width = max(len(row) for row in rows)
    made = np.array([[*row, *[fill] * (width - len(row))] for row in rows], np.float64)
    return made[:, 0] if width == 1 else made


def _told(left_out: Counter[str]) -> str:
    return "; ".join(f"{count} slates: {why}" for why, count in left_out.most_common()) or "the log is empty"


def _rounded(interval: Interval) -> dict[str, float]:
    return {name: round(value, 5) for name, value in interval._asdict().items()}

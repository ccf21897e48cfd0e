"""Off-policy evaluation: what a version would have earned, had it explored where another one did.

Slates that were drawn by a policy which knows its propensities are weighted by how likely the judged version would have drawn
them for the same request: history, query, exclusions, tags, bounds and live popularity as served, all other popularity as the
version has it. An item that a rule pinned was no choice: every policy shows it there, beside its own draw of the others. Only
matured rewards count, as in training. A version may have learnt the rewards of slates that were shown before
its training ended, so these are left out.
"""
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfrec.client.contract import CONTEXT, FILTERS, HEADS, HISTORY
from tfrec.client.logged_inputs import logged_inputs
from tfrec.client.padding import padded
from tfrec.config import Config
from tfrec.data.examples.slates import drawn_slates
from tfrec.data.feedback_log.contexts import context_values
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.records import pinned_of
from tfrec.data.settled.examples import SettledExamples
from tfrec.data.settled.settle import settle
from tfrec.errors import DataError, UsageError
from tfrec.evaluation.intervals import Interval
from tfrec.evaluation.off_policy import Diagnosis, Logged, diagnose, estimate, ips, snips
from tfrec.graph.signatures import Graph
from tfrec.models.recommender import Recommender
from tfrec.models.text_encoder import load_encoder
from tfrec.release.delta import index_of
from tfrec.release.manifest import CHECKPOINT, read_manifest
from tfrec.release.publish import pull, versions
from tfrec.release.shared_versions import store_of
from tfrec.training import checkpoint
from tfrec.training.progress import bar

SAMPLE = 10_000  # slates
_AT_ONCE = 64  # requests


class _Judged(NamedTuple):
    """The policy that is evaluated: a version, and how it explores."""

    version_dir: Path
    temperature: float
    epsilon: float

    def __str__(self) -> str:
        return f"plackett_luce(temperature={self.temperature:g}, epsilon={self.epsilon:g})"


def ope(
    config: Config, *, version: int | None = None, temperature: float | None = None, epsilon: float | None = None,
    places: int | None = None, sample: int = SAMPLE, now: int, quarantine: Quarantine | None = None,
) -> dict[str, Any]:
    """The value of a version's exploring policy, per request, with 95% intervals that resample users.

    Args:
        config: of the run.
        version: published; the newest by default.
        temperature: of the judged policy; the gateway's by default.
        epsilon: of the judged policy; the gateway's by default.
        places: of each slate, the first positions, whose rewards count; all by default. The fewer, the narrower the intervals.
        sample: at most so many slates are judged, always the same ones.
        now: seconds since 1970; labels mature by it.
        quarantine: where bad rows of the log go.

    Raises:
        UsageError: nothing is published, or there is no such version.
        DataError: the log has no slates that can be weighted, or does not support the policy; says why.
    """
    judged = _Judged(
        _version_dir(config, version),
        config.gateway.temperature if temperature is None else temperature,
        config.gateway.epsilon_at(now) if epsilon is None else epsilon,
    )
    graph, recommender = graph_of(config, judged.version_dir)
    rule = LabelRule.of(config, recommender.catalogue)
    slates, left_out = _slates(config, judged.version_dir, rule, positions=places, sample=sample, now=now, quarantine=quarantine)
    logged = _logged(slates, _probabilities(graph, slates, judged))
    diagnosis = _supported(config, logged)
    users = slates["user"].to_pylist()
    converted = _side_by_side(slates["converted"].to_pylist(), 0.0)
    return {
        "version": int(judged.version_dir.name), "policy": str(judged),
        "places": places or "all", "slates": len(slates), "left_out": dict(left_out),
        "effective_slates": round(diagnosis.effective, 1), "mean_weight": round(diagnosis.mean_weight, 4),
        "largest_weight": round(diagnosis.largest_weight, 2),
        "reward_per_request": _estimates(logged, users),
        "conversions_per_request": _estimates(replace(logged, reward=converted), users),
    }


def _version_dir(config: Config, version: int | None) -> Path:
    pull(config.models_dir, store_of(config), newest=None if version else 1)
    known = versions(config.models_dir)
    if not known or (version is not None and version not in known):
        raise UsageError(f"{config.models_dir}: no version {'' if version is None else version} to judge; there are {known}.")
    return config.models_dir / str(version or known[-1])


def graph_of(config: Config, version_dir: Path) -> tuple[Graph, Recommender]:
    """The graph of a published version, made of its checkpoint, and the recommender in it."""
    recommender, _ = checkpoint.load(version_dir / CHECKPOINT, checkpoint.of_version(version_dir / CHECKPOINT, config))
    manifest = read_manifest(version_dir)
    encoder = load_encoder(recommender.config.text)
    return Graph(recommender, encoder, given=index_of(version_dir, manifest), shortlist=manifest.shortlist), recommender


def _slates(
    config: Config, version_dir: Path, rule: LabelRule, *, positions: int | None, sample: int, now: int,
    quarantine: Quarantine | None,
) -> tuple[pa.Table, Counter[str]]:
    """Slates that the version has not learnt, and how many were left out, by reason."""
    window = read_manifest(version_dir).window
    settled = SettledExamples(config.examples_uri)
    part = settle(FeedbackLog(config.log_uri), settled, rule, now=now, quarantine=quarantine)
    slates, left_out = drawn_slates(settled, upto=part.number, items=rule.catalogue_ids, positions=positions, most=sample,
                                    since=0 if window is None else int(window["now"]))
    if not len(slates):
        reasons = [f"{count} slates: {why}" for why, count in left_out.most_common()]
        if immature := part.left_out["immature"]:
            reasons.append(f"{immature} shown items: labels not mature yet")
        raise DataError(f"{config.log_uri}: no slate can be weighed ({'; '.join(reasons) or 'the log is empty'}). "
                        "Let the gateway draw: gateway.explore=true.")
    return slates, left_out


def _probabilities(graph: Graph, slates: pa.Table, judged: _Judged) -> list[list[float]]:
    """The probability of each item of each slate, given the earlier ones, under the judged policy."""
    found: list[list[float]] = []
    reads_context = bool(graph.features.width)
    with bar("judging", total=len(slates)) as advance:
        for start in range(0, len(slates), _AT_ONCE):
            some = {name: column.to_pylist() for name, column in zip(
                slates.column_names, slates.slice(start, _AT_ONCE).columns, strict=True)}
            pinned = [pinned_of(text) for text in some["context"]]
            shown, some["item"] = some["item"], [[one for one in items if one not in out]
                                                 for items, out in zip(some["item"], pinned, strict=True)]
            features = graph.features.readable(context_values(slates["context"].slice(start, _AT_ONCE)))
            inputs = _inputs(some, features, judged, reads_context=reads_context)
            log_pi = graph.log_propensities({name: tf.constant(array) for name, array in inputs.items()}).numpy()
            drawn = [np.exp(row[: len(items)]).tolist() for items, row in zip(some["item"], log_pi, strict=True)]
            found += map(_with_pinned, shown, pinned, drawn)
            advance(len(shown))
    return found


def _with_pinned(items: list[str], pinned: tuple[str, ...], drawn: list[float]) -> list[float]:
    """The probabilities of the items of a slate: 1 of each that a rule pinned, and in turn those of the others."""
    others = iter(drawn)
    return [1.0 if item in pinned else next(others) for item in items]


def _inputs(slates: Mapping[str, list[Any]], features: list[dict[str, str]], judged: _Judged, *,
            reads_context: bool) -> dict[str, np.ndarray]:
    """The requests of slates as they were served, the slates, and the judged policy."""
    asked = logged_inputs(slates, features)
    return {name: asked[name] for name in HISTORY | FILTERS | HEADS | (CONTEXT if reads_context else {})} | {
        # `padded` puts a column in front, and the first item of a slate is its first column
        "slate": padded(slates["item"], "")[:, 1:],
        "temperature": np.full(len(slates["item"]), judged.temperature, np.float32),
        "epsilon": np.full(len(slates["item"]), judged.epsilon, np.float32),
    }


def _logged(slates: pa.Table, target: list[list[float]]) -> Logged:
    """The positions of slates as arrays. Behind a shorter slate stand certain positions that earn nothing."""
    propensity = [[np.exp(log_pi or 0.0) for log_pi in row] for row in slates["log_propensity"].to_pylist()]
    return Logged(reward=_side_by_side(slates["reward"].to_pylist(), 0.0), propensity=_side_by_side(propensity, 1.0),
                  target=_side_by_side(target, 1.0))


def _side_by_side(rows: list[list[float]], fill: float) -> np.ndarray:
    """`[n, width]` of the longest row, shorter ones filled; `[n]` where every row has one value."""
    width = max(len(row) for row in rows)
    made = np.array([[*row, *[fill] * (width - len(row))] for row in rows], np.float64)
    return made[:, 0] if width == 1 else made


def _supported(config: Config, logged: Logged) -> Diagnosis:
    diagnosis = diagnose(logged)
    if diagnosis.refusal:
        advice = "" if logged.reward.ndim == 1 else " Judge fewer places: --places 1."
        raise DataError(f"{config.log_uri}: no estimate: {diagnosis.refusal}.{advice}")
    return diagnosis


def _estimates(logged: Logged, users: list[str]) -> dict[str, dict[str, float]]:
    """What the log has per request, what the judged policy would have, and its gain, with their intervals."""
    terms, one_position = ips(logged), logged.reward.ndim == 1
    earned = logged.reward if one_position else logged.reward.sum(axis=1)
    found = {
        "logged": estimate(terms._replace(plain=earned), users=users),
        "IPS" if one_position else "RIPS": estimate(terms, users=users),
        "gain": estimate(terms._replace(plain=terms.plain - earned), users=users),
    }
    if one_position:
        found["SNIPS"] = estimate(snips(logged), users=users)
    return {name: _rounded(interval) for name, interval in found.items()}


def _rounded(interval: Interval) -> dict[str, float]:
    return {name: round(value, 5) for name, value in interval._asdict().items()}

"""The retrain job on KuaiRand, day by day: each day is asked before it is learnt.

    python tests/benchmarks/kuairand/replay.py DIRECTORY WORK --arm softmax pointwise softmax+pointwise [--days 14] [--publish]

A model of what people watched before 25 April 2022 is version 1 of a run in WORK, made at the first call. Each arm, one or
several objectives, continues a copy of it: every night the day's impressions and outcomes join the feedback log, and
`tfrec.retrain.retrain` learns them. The version of that night is then asked about the next day: its score of everything shown,
with the history as served and popularity as counted by then. The gate lets everything pass, and what it would have said is kept.

Versions are written without a served graph, and verified by no server, unless `--publish`. Scores, seconds of each step and
verdicts go to WORK/scores/ARM.npz and ARM.json, from which `next_day_report.py` makes the table.
"""
import argparse
import json
import shutil
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from video_log import FIRST_DAY, PAD, WEIGHTS, VideoLog, read

import tfrec  # noqa: F401  before TensorFlow: it chooses Keras 2

import tensorflow as tf  # isort: skip

from tfrec.config import Config, load_config
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.feedback_log.schema import KINDS
from tfrec.data.people.pseudonym import load_pseudonyms
from tfrec.evaluation.gate import Decision, Margins, decide
from tfrec.evaluation.gate_figures import Figures
from tfrec.models.prior_snapshots import snapshots
from tfrec.models.recommender import Recommender
from tfrec.release.file_digests import digests
from tfrec.release.lineage import Lineage
from tfrec.release.manifest import CHECKPOINT, Manifest, write_manifest
from tfrec.release.publish import publish, versions
from tfrec.retrain import retrain
from tfrec.training import checkpoint
from tfrec.training.train import train

DAY, AT_ONCE, SNAPSHOTS = 86_400, 2048, 32  # SNAPSHOTS: of popularity, a day
PRINTED = ("day", "outcome", "events", "learnt", "seconds", "wall", "cpu", "gate")
WAIT = 3600  # seconds after midnight, when all labels of the day have matured
SETTINGS = (
    f"reward.weights={{{', '.join(f'{action} = {weight}' for action, weight in WEIGHTS.items())}}}",
    'reward.conversions=["long_view"]', "data.attribution_hours=0.55", "model.dim=32", "model.history=15", "text.max_tokens=32",
    "training.epochs=4", "training.patience=1", "training.batch_size=256", "retrain.gate_share=0.1", "retrain.gate_sample=300",
    "serving.keep_versions=20", "retrain.epochs=2",
)
NIGHTLY = ("training.negatives=1024",)  # of 7,583 videos: a night costs half as much


def write_version(recommender: Recommender, directory: Path, *, created_at: int, lineage: Lineage | None = None,
                  optimizer: Any = None, result: Any = None, **_: Any) -> Path:
    """An export without a graph: what the next retrain reads."""
    lineage = lineage or Lineage()
    checkpoint.save(directory / CHECKPOINT, recommender, optimizer=optimizer,
                    meta={"held_back": list(lineage.held_back), "result": result})
    write_manifest(directory, Manifest(
        identity=lineage.identity, parent=lineage.parent, created_at=created_at, window=lineage.window,
        slates_until=lineage.slates_until, scorecard=dict(lineage.scorecard), files=digests(directory)))
    return directory


class Exam:
    """Asks a model about the impressions of a day.

    Args:
        log: The impressions.
        weights: Of the popularity mixture.
    """

    def __init__(self, log: VideoLog, weights: np.ndarray) -> None:
        self.log = log
        user, item, when = log.events
        ids = log.catalogue.ids
        inter = Interactions.from_columns([str(u) for u in user], ids[item].tolist(), when, items=ids.tolist())
        days = range(int(log.day.min()), int(log.day.max()) + 1)
        since = np.array([FIRST_DAY + day * DAY + part * DAY // SNAPSHOTS for day in days for part in range(SNAPSHOTS)])
        log_p, _ = snapshots(inter, weights=weights, edges=np.searchsorted(inter.time, since))
        self.log_p = log_p[np.searchsorted(since, log.time, side="right") - 1, log.item]

    def similarity(self, recommender: Recommender, rows: np.ndarray) -> np.ndarray:
        """`[rows]`: the score of each shown video without its popularity."""
        log, model, table = self.log, recommender.model, recommender.item_vectors()
        click, long_view = recommender.action_codes(["click", "long_view"])
        found = np.zeros(len(rows), np.float32)
        for start in range(0, len(rows), AT_ONCE):
            part = rows[start : start + AT_ONCE]
            history, times = log.history[part], log.history_time[part]
            known = history != PAD
            following = np.where(np.arange(1, history.shape[1] + 1) < known.sum(1)[:, None],
                                 np.roll(times, -1, axis=1), log.time[part][:, None])
            batch = {"history": history.astype(np.int32), "gap": np.where(known, np.maximum(following - times, 0), -1),
                     "action": np.where(log.is_base[part], long_view, click).astype(np.int32) * known,
                     "query": np.zeros((len(part), recommender.text.shape[1]), np.float32),
                     "context": recommender.requests.of([log.known_of(row) for row in part.tolist()], log.time[part])}
            u, _ = model.request_vectors(batch, lambda at: table[at])
            found[start : start + AT_ONCE] = (u.numpy() * table[log.item[part]]).sum(1)
        return found


class Nights:
    """One arm: asks each day, then learns it."""

    def __init__(self, config: Config, exam: Exam, *, publishes: bool) -> None:
        self.config, self.exam, self.publishes = config, exam, publishes
        names = load_pseudonyms(config.run)
        self._pseudonyms = {int(user): names.of(f"u{user}") for user in np.unique(exam.log.user)}
        self._seq = 0

    def newest(self) -> Recommender:
        """The version that answers."""
        config = self.config
        return checkpoint.load(config.models_dir / str(versions(config.models_dir)[-1]) / CHECKPOINT, config)[0]

    def log_day(self, day: int) -> None:
        """Append a day to the feedback log."""
        feedback = FeedbackLog(self.config.log_dir)
        for kind, records in zip(KINDS, self.exam.log.records(day, pseudonyms=self._pseudonyms), strict=True):
            lines = [(self._seq + n + 1, record.model_dump_json()) for n, record in enumerate(records)]
            self._seq += len(lines)
            feedback.append(kind, lines, writer="app")

    def learn_day(self, day: int) -> dict[str, Any]:
        """Retrain after a day; what happened, and what the gate would have said."""
        said: list[Decision] = []

        def lenient(figures: Figures, margins: Margins) -> Decision:
            said.append(decide(figures, margins))
            return decide(figures, Margins(hit_rate=1, search=1, value=100, earlier=1))

        began, cpu = time.monotonic(), time.process_time()
        with ExitStack() as patches:
            patches.enter_context(mock.patch("tfrec.retrain.judging.decide", lenient))
            if not self.publishes:
                patches.enter_context(mock.patch("tfrec.retrain.job.export", write_version))
                patches.enter_context(mock.patch("tfrec.retrain.session.Verifier"))
            result = retrain(self.config, now=FIRST_DAY + (day + 1) * DAY + WAIT)
        taken = {"wall": round(time.monotonic() - began, 1), "cpu": round(time.process_time() - cpu, 1)}
        return asdict(result) | taken | {"day": day, "gate": said[-1].reason.name if said else None}


def base_run(run: Path, log: VideoLog, settings: list[str]) -> Config:
    """A run whose version 1 has learnt what people did before the log."""
    interactions, items = run / "before.parquet", run / "videos.jsonl"
    config = load_config(None, [f"run={run}", f"data.interactions={interactions}", f"data.items={items}", *SETTINGS, *settings])
    if not config.models_dir.exists():
        run.mkdir(parents=True, exist_ok=True)
        log.write_base(interactions)
        log.catalogue.write(items)
        user, item, when = log.base
        ids = log.catalogue.ids
        inter = Interactions.from_columns([f"u{u}" for u in user], ids[item].tolist(), when, items=ids.tolist(),
                                          action=["long_view"] * len(user))
        trained = train(config, log.catalogue, inter)
        made = write_version(trained.recommender, run / "export", created_at=FIRST_DAY, optimizer=trained.optimizer)
        with mock.patch("tfrec.release.publish.verify"):
            publish(made, config.models_dir)
    return config


def attempt(base: Config, exam: Exam, arm: str, out: Path, *, days: int, publishes: bool, settings: list[str]) -> None:
    """Play one arm, and write what it said and did."""
    name, _, rest = arm.partition("@")
    objectives = {part.partition(":")[0]: float(part.partition(":")[2] or 1) for part in name.split("+")}
    run = base.run.with_name(f"arm-{arm}")
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(base.run, run)
    table = ", ".join(f"{objective} = {weight}" for objective, weight in objectives.items())
    config = load_config(None, [f"run={run}", f"data.interactions={base.data.interactions}", f"data.items={base.data.items}",
                                *SETTINGS, *NIGHTLY, *settings, f"retrain.objective={{{table}}}", *filter(None, rest.split("@"))])
    nights, similarity, nightly = Nights(config, exam, publishes=publishes), np.zeros(len(exam.log), np.float32), []
    for day in range(int(exam.log.day.min()), days):
        rows = np.flatnonzero(exam.log.day == day)
        if nightly or day <= 0:
            model = nights.newest()
        similarity[rows] = exam.similarity(model, rows)
        nights.log_day(day)
        if day >= 0:
            nightly.append(nights.learn_day(day))
            tf.keras.backend.clear_session()  # the graphs of a night are of no use in the next
            print(arm, {key: nightly[-1][key] for key in PRINTED}, flush=True)
        np.savez(out / f"{arm}.npz", similarity=similarity, log_p=exam.log_p, beta=float(model.model.beta.numpy()))
        (out / f"{arm}.json").write_text(json.dumps(nightly, indent=1))
    shutil.rmtree(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--arm", nargs="*", default=[], help="objectives, such as softmax+pointwise:0.5")
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--publish", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    wish = parser.parse_args()
    wish.work.mkdir(parents=True, exist_ok=True)
    (out := wish.work / "scores").mkdir(exist_ok=True)
    log = read(wish.directory, length=15)
    config = base_run(wish.work / "base", log, wish.set)
    model = checkpoint.load(config.models_dir / "1" / CHECKPOINT, config)[0]
    exam = Exam(log, model.prior.weights)
    if not (out / "static.npz").exists():
        np.savez(out / "static.npz", similarity=exam.similarity(model, np.arange(len(log))), log_p=exam.log_p,
                 beta=float(model.model.beta.numpy()))
    for arm in wish.arm:
        attempt(config, exam, arm, out, days=wish.days, publishes=wish.publish, settings=wish.set)


if __name__ == "__main__":
    main()

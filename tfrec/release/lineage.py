"""Where a version comes from: the version it continued, the part of the log it has learnt, and how it was judged.

An export writes it, to the manifest and to the metadata of the checkpoint beside it. The next retrain reads it to know where to
go on.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfrec.config import Config
from tfrec.data.staging import recover
from tfrec.release.manifest import CHECKPOINT, read_manifest
from tfrec.release.publish import newest_dir
from tfrec.training import checkpoint
from tfrec.training.train import checkpoint_dir


@dataclass(frozen=True)
class Lineage:
    """What an export says of its past; by default that of a first training.

    Attributes:
        parent: the version whose weights it continued.
        window: of the feedback log; no event up to its end is news.
        slates_until: seconds since 1970; requests up to then have been learnt.
        held_back: (user, item) of the window's events that judged the model and were not learnt.
        scorecard: the figures by which it was judged.
        identity: of the job that made it; an identity is published once.
        learnt, erasures, traces: as in the manifest.
    """

    parent: int | None = None
    window: Mapping[str, Any] | None = None
    slates_until: int = 0
    held_back: Sequence[Sequence[str]] = ()
    scorecard: Mapping[str, Any] = field(default_factory=dict)
    identity: str | None = None
    learnt: int | None = None
    erasures: int = 0
    traces: Sequence[int] = ()


def newest_model(config: Config) -> tuple[Path, Lineage]:
    """The checkpoint that an export starts from, and the lineage of that export.

    The checkpoint is the newest published version's. Its window and its held-back events become the export's, so that the next
    retrain goes on where it would have without this export. A training that ended after that version was made takes precedence,
    and has no lineage.
    """
    trained, live = checkpoint_dir(config), newest_dir(config.models_dir)
    recover(trained)
    if live is None:
        return trained, _of_training(trained)
    manifest = read_manifest(live)
    if trained.is_dir() and checkpoint.read_meta(trained).get("trained_at", 0) > manifest.created_at:
        return trained, _of_training(trained)
    return live / CHECKPOINT, Lineage(
        parent=manifest.version, window=manifest.window, slates_until=manifest.slates_until, held_back=held_back(live),
        scorecard=manifest.scorecard, learnt=manifest.learnt, erasures=manifest.erasures, traces=manifest.traces,
    )


def _of_training(trained: Path) -> Lineage:
    """The lineage of what a training left, if it left something. Of one that did not say, no part of the log is known."""
    meta = checkpoint.read_meta(trained) if trained.is_dir() else {}
    return Lineage(learnt=meta.get("learnt"), erasures=meta.get("erasures", 0))


def held_back(version_dir: Path) -> list[list[str]]:
    """(user, item) of the events that judged a version and that the next retrain learns; none after a rollback."""
    manifest = read_manifest(version_dir)
    if manifest.copy_of is not None or manifest.of_copy:
        return []  # the version that the rollback replaced has learnt them
    return list(checkpoint.read_meta(version_dir / CHECKPOINT).get("held_back", []))


def slates_until(version_dir: Path) -> int:
    """Seconds since 1970 of the last request whose slate a version has learnt; 0 when it has learnt none."""
    return read_manifest(version_dir).slates_until

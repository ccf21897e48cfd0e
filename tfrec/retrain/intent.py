"""The intent of a run: everything that it is a function of, on disk before the work starts.

A run that is killed leaves its intent behind. The next run takes it up, does the same work and comes to the same verdict, unless
the parent version, the configuration or a data file has changed in the meantime.
"""
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tfrec.config import Config
from tfrec.data import durable_files
from tfrec.data.people.erasures import Erasures
from tfrec.erasure.versions import parent_of_next
from tfrec.release.manifest import read_manifest
from tfrec.release.publish import version_of
from tfrec.retrain.run_directory import RunDirectory

log = logging.getLogger(__name__)


class Intent(BaseModel):
    """What a run is a function of."""

    model_config = ConfigDict(frozen=True)

    after: int  # the newest part of the settled examples that the parent has read,
    upto: int  # and the newest that this run reads
    parent: int
    config_digest: str
    now: int
    seed: int
    data_digest: str = ""  # of the catalogue and the base behaviour: a run that is taken up reads these files anew
    erasures: int = 0  # how many users had been erased

    @property
    def identity(self) -> str:
        """Equal for equal runs."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


def take_up_or_begin(config: Config, directory: RunDirectory, newest_part: Callable[[], int], *, now: int, seed: int) -> Intent:
    """The intent of an interrupted run, if that was published or still applies; else a new one, which is on disk on return.

    Args:
        config: of the run.
        directory: of the job.
        newest_part: settles what the log gained, and returns the number of the newest part; called for a new intent only.
        now: seconds since 1970.
        seed: of replay and of the order of batches.
    """
    parent, erasures = parent_of_next(config), Erasures(config.log_uri).newest()
    data_digest = _digest(config.data.items, config.data.interactions)
    if old := _left_behind(directory.intent):
        applies = (old.parent, old.config_digest, old.data_digest, old.erasures) == (
            parent, config.digest(), data_digest, erasures)
        if applies or version_of(config.models_dir, old.identity) is not None:
            log.info("taking up the interrupted run %s", old.identity)
            return old
    window = read_manifest(config.models_dir / str(parent)).window
    intent = Intent(after=0 if window is None else int(window["upto"]), upto=newest_part(), parent=parent,
                    config_digest=config.digest(), now=now, seed=seed, data_digest=data_digest, erasures=erasures)
    with durable_files.replacing(directory.intent) as file:
        file.write(intent.model_dump_json().encode())
    return intent


def _left_behind(path: Path) -> Intent | None:
    """The intent of a run that was killed; None when there is none, or it cannot be read."""
    if not path.is_file():
        return None
    try:
        return Intent.model_validate_json(path.read_bytes())
    except ValidationError as e:
        log.warning("%s: expected the intent of an interrupted run, got %d bytes that cannot be read (%s). It is dropped, and "
                    "a new run begins.", path, path.stat().st_size, e.errors()[0]["msg"])
        return None


def _digest(*files: Path | None) -> str:
    """SHA-256 of the contents of those files that exist; of a directory, of all files in it."""
    sha = hashlib.sha256()
    parts = [sorted(file.rglob("*")) if file is not None and file.is_dir() else [file] for file in files]
    for file in (part for of_one in parts for part in of_one):
        if file is not None and file.is_file():
            with file.open("rb") as raw:
                sha.update(hashlib.file_digest(raw, "sha256").digest())
        else:
            sha.update(b"none")
    return sha.hexdigest()

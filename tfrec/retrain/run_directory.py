"""The directory of the retrain job, `<run>/retrain`.

    lock                      held by the run that is at work
    intent.json               what it set out to do; only a killed run leaves one behind
    export-<identity>/        its export, until it is published
    quarantine-<identity>.jsonl  rows that it could not use
    <now>-<identity>.json     the result of a run that promoted or rejected a challenger
    behaviour.parquet         what was read of `data.interactions`; made again when it is missing (`kept_preferences.py`)
    waiting.json              the result of the newest run that waited: there may be one every five minutes
"""
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import tensorflow as tf

from tfrec.data import durable_files
from tfrec.data.file_lock import held
from tfrec.errors import DataError, TfrecError
from tfrec.retrain.result import WAITING, Retrained

KEPT_BEHAVIOUR = "behaviour.parquet"
MAX_RESULTS = 500  # files of results that are kept, the newest
MAX_QUARANTINES = 20  # files of rows that were set aside that are kept, the newest
NO_SPACE = "No space left on device"  # TensorFlow's words for a full disk, which come under more than one code


class RunDirectory:
    """The files of the job. Use `opened`, which lets in one run at a time."""

    def __init__(self, path: Path) -> None:
        """Name the directory, which exists."""
        self.path = path
        self.intent = path / "intent.json"

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator["RunDirectory"]:
        """The directory, made and swept, locked for as long as the block runs.

        Raises:
            TfrecError: another retrain is at work in it.
        """
        with held(path / "lock", wait=False) as is_held:
            if not is_held:
                raise TfrecError(f"{path}: another retrain of this run is at work. Wait until it has ended.")
            directory = cls(path)
            directory.sweep()
            yield directory

    def sweep(self) -> None:
        """Remove what is left of the export of a run that did not end: on a full disk it would be in the way of the next one."""
        for left in self.path.glob("*export-*"):
            shutil.rmtree(left, ignore_errors=True)

    def abandon(self) -> None:
        """End a run that failed. Its intent goes: taken up, it would fail again in the same way, for ever."""
        self.intent.unlink()
        self.sweep()

    def finish(self, result: Retrained, name: str) -> None:
        """End a run: keep its result, drop its intent, and remove the oldest files, as some runs come every five minutes."""
        name = "waiting" if result.outcome == WAITING else name
        with durable_files.replacing(self.path / f"{name}.json") as file:
            file.write(json.dumps(asdict(result), indent=1).encode())
        self.intent.unlink()
        for pattern, kept in (("[0-9]*-*.json", MAX_RESULTS), ("quarantine-*.jsonl", MAX_QUARANTINES)):
            for old in sorted(self.path.glob(pattern), key=lambda path: path.stat().st_mtime)[:-kept]:
                old.unlink()


@contextmanager
def disk_errors_named(run: Path) -> Iterator[None]:
    """Turn what the disk refuses in the block into a `DataError` that says which file, and how much space is left."""
    try:
        yield
    except OSError as e:
        raise DataError(_refused(run, str(e.filename or run), e.strerror or str(e))) from e
    except tf.errors.OpError as e:
        if NO_SPACE not in e.message:
            raise
        raise DataError(_refused(run, str(run), e.message)) from e


def _refused(run: Path, file: str, why: str) -> str:
    free = shutil.disk_usage(run).free / 1e9
    return (f"{file}: {why}".partition("\n")[0] + f"; {free:.2f} GB are free on the disk of {run}. Free disk space or check the "
            "rights, then run it again. The live version has not changed.")

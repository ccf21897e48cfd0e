"""The state of a training in progress: the last finished epoch of each of its passes, so that an interrupted one goes on."""
import json
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrec.data.staging import recover
from tfrec.errors import UsageError
from tfrec.models.recommender import Recommender
from tfrec.training import checkpoint

TEXT_FILE = "text"  # has the `training.text` of the training in progress


def check_text(directory: Path, text: str) -> None:
    """Refuse to throw away an interrupted training of another `training.text`: such a training is long work.

    Raises:
        UsageError: there is one in `directory`.
    """
    file = directory / TEXT_FILE
    if file.is_file() and (before := file.read_text()) != text:
        raise UsageError(f"{directory}: an interrupted training has training.text = {before}, and now it is {text}. To go on: "
                         f"--set training.text={before}. To begin anew: --restart.")


class TrainingState:
    """A directory with a checkpoint for each pass that is running, and the result of each that is done.

    Args:
        directory: of the training. What another training left there is removed.
        identity: digest of everything that the training is a function of.
        resume: False removes what is there.
        text: how the text encoder is trained.
    """

    def __init__(self, directory: Path, *, identity: str, resume: bool, text: str = "frozen") -> None:
        self._directory = directory
        identity_file = directory / "identity"
        if not resume or not identity_file.is_file() or identity_file.read_text() != identity:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            identity_file.write_text(identity)
            (directory / TEXT_FILE).write_text(text)

    def save(self, name: str, recommender: Recommender, optimizer: tf.keras.optimizers.Optimizer, epoch: int,
             curve: list[Any]) -> None:
        """Save the pass `name` after `epoch` epochs, with the validations so far."""
        checkpoint.save(self._directory / name, recommender, optimizer=optimizer, meta={"epoch": epoch, "curve": curve})

    def restore(self, name: str, recommender: Recommender, optimizer: tf.keras.optimizers.Optimizer) -> tuple[int, list[Any]]:
        """Fill in the saved weights. Returns the number of finished epochs (0 where nothing is saved) and the validations."""
        directory = self._directory / name
        recover(directory)
        if not (directory / "checkpoint.json").is_file():
            return 0, []
        optimizer.build(recommender.model.trainable_variables)
        checkpoint.read_weights(directory, recommender, optimizer)
        meta = checkpoint.read_meta(directory)
        return int(meta["epoch"]), list(meta["curve"])

    def finish(self, name: str, result: dict[str, Any]) -> None:
        """Save the result of a pass, and remove its checkpoint."""
        self._result_file(name).write_text(json.dumps(result))
        shutil.rmtree(self._directory / name, ignore_errors=True)

    def result(self, name: str) -> dict[str, Any] | None:
        """Return what `finish` saved; None where the pass is not done."""
        path = self._result_file(name)
        return json.loads(path.read_text()) if path.is_file() else None

    def clear(self) -> None:
        """Remove everything: the training is done."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _result_file(self, name: str) -> Path:
        return self._directory / f"{name}.json"

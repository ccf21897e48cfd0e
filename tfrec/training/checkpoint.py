"""A recommender on disk, whole: weights, moving averages, optimiser, popularity counts, slots, catalogue, and the step that seeds
all noise, so that a restored one goes on as if it had never stopped.

A checkpoint is a directory that appears, and is replaced, by one rename. Arrays and JSON only: reading one runs nothing.
"""
import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.config import Config
from tfrec.data.items.catalogue import Catalogue, read_catalogue
from tfrec.data.items.item_features import ItemFeatures
from tfrec.data.readers.rows import Quarantine
from tfrec.data.staging import recover, replace_directory, staging
from tfrec.errors import DataError, ModelError
from tfrec.models.bayesian_head import BayesianHead
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.pretrained.checkpoint_files import fingerprint
from tfrec.models.recommender import Recommender, encode_catalogue, towers
from tfrec.models.text_encoder import load_encoder

FORMAT = 3
FREE = ("batch_size", "tuning")  # settings that no vector depends on
CATALOGUE_FILES = frozenset({"slots.npz", "prior.npz", "catalogue.jsonl"})


def _weights(recommender: Recommender, optimizer: tf.keras.optimizers.Optimizer | None) -> tf.train.Checkpoint:
    m = recommender.model
    scalars = {"log_scale": m.log_scale, "search_scale": m.search_scale, "mean_query": m.mean_query, "beta": m.beta,
               "steps": m.steps, "averaged": m.average.count}
    optional = {"optimizer": optimizer} if optimizer is not None else {}
    return tf.train.Checkpoint(items=m.items, queries=m.queries, head=recommender.head, average=m.average.values,
                               **scalars, **optional)


def save(directory: Path, recommender: Recommender, *, meta: dict[str, Any] | None = None,
         optimizer: tf.keras.optimizers.Optimizer | None = None) -> Path:
    """Write a checkpoint, replacing what is at `directory`."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with staging(directory.parent, f".{directory.name}.staging-") as made:
        _weights(recommender, optimizer).write(str(made / "weights"))
        save_catalogue(made, recommender)
        (made / "checkpoint.json").write_text(json.dumps({
            "format": FORMAT,
            "features": recommender.features.model_dump(mode="json"),
            "text_width": recommender.text.shape[1],
            "actions": recommender.actions,
            "optimizer": optimizer is not None,
            "model": recommender.config.model.model_dump(mode="json"),
            "text": recommender.config.text.model_dump(mode="json"),
            "encoder": fingerprint(recommender.config.text.encoder),
            "meta": meta or {},
        }))
        replace_directory(made, directory)
    return directory


def save_catalogue(directory: Path, recommender: Recommender) -> None:
    """Write the part of a checkpoint that a catalogue and its popularity are, without the weights: `CATALOGUE_FILES`."""
    np.savez(directory / "slots.npz", slot=recommender.slot)
    recommender.prior.save(directory / "prior.npz")
    recommender.catalogue.write(directory / "catalogue.jsonl")


def load(directory: Path, config: Config, *, catalogue: Catalogue | None = None,
         optimizer: tf.keras.optimizers.Optimizer | None = None) -> tuple[Recommender, dict[str, Any]]:
    """Read a checkpoint: the recommender and the `meta` that was saved with it.

    Args:
        directory: of the checkpoint.
        config: of the run; its model and text sections must be those of the checkpoint.
        catalogue: the present one, whose first items are the checkpoint's; default: as it was.
        optimizer: a new one, to be filled with the saved state when there is one.

    Raises:
        ModelError: no checkpoint there, or one of another format, configuration, text encoder or catalogue.
    """
    found = _described(directory)
    for section in ("model", "text"):
        now = getattr(config, section).model_dump(mode="json")
        differing = {k: (found[section].get(k), v) for k, v in now.items() if found[section].get(k) != v and k not in FREE}
        if differing:
            words = ", ".join(f"{section}.{k} = {new!r}, the checkpoint has {old!r}" for k, (old, new) in differing.items())
            raise ModelError(f"{directory}: {words}. Set them back, or train a new model in another run directory.")
    if found["encoder"] != fingerprint(config.text.encoder):
        raise ModelError(f"{directory}: the text encoder {config.text.encoder!r} is not the one that this model was trained "
                         "with: its files have changed. Put them back, or train a new model in another run directory.")
    known = read_catalogue(directory / "catalogue.jsonl")
    present = catalogue or known
    if not np.array_equal(present.ids[: len(known)], known.ids):
        raise ModelError(f"{directory}: the catalogue does not begin with the {len(known)} items of the checkpoint in their "
                         "order. Add items at the end (Catalogue.with_items).")
    text = encode_catalogue(config, present.texts)
    features = ItemFeatures.model_validate(found["features"])
    model = towers(config, text_width=found["text_width"], feature_width=features.width)
    slot = np.concatenate([read_slots(directory), np.zeros(len(present) - len(known), np.int32)])
    prior = PopularityPrior.load(directory / "prior.npz")
    prior.grow(len(present))
    recommender = Recommender(config, present, text, features, slot, tuple(found["actions"]), prior, model,
                              BayesianHead(config.model.dim))
    if optimizer is not None:
        optimizer.build(model.trainable_variables)
    _read_weights(directory, recommender, optimizer if found.get("optimizer", True) else None)
    recommender.refresh()
    return recommender, found["meta"]


def load_items(directory: Path, items: Sequence[int]) -> Recommender:
    """The model of a checkpoint with some of its items only, under the settings that it was saved with: to see what it makes of
    them, without encoding a whole catalogue. Nothing is known of their popularity.

    Raises:
        ModelError: as `load` does.
    """
    found = _described(directory)
    config = Config.model_validate({"model": found["model"], "text": found["text"]})
    if found["encoder"] != fingerprint(config.text.encoder):
        raise ModelError(f"{directory}: the text encoder {config.text.encoder!r} is not the one of this model: "
                         "its files have changed. Put them back.")
    known = read_catalogue(directory / "catalogue.jsonl")
    some = Catalogue([known.items[item] for item in items])
    text = load_encoder(config.text).encode(some.texts, batch_size=config.text.batch_size)
    features = ItemFeatures.model_validate(found["features"])
    model = towers(config, text_width=found["text_width"], feature_width=features.width)
    recommender = Recommender(config, some, text, features, read_slots(directory)[list(items)], tuple(found["actions"]),
                              PopularityPrior(len(some)), model, BayesianHead(config.model.dim))
    _read_weights(directory, recommender, None)
    recommender.refresh()
    return recommender


def _read_weights(directory: Path, recommender: Recommender, optimizer: tf.keras.optimizers.Optimizer | None) -> None:
    try:
        status = _weights(recommender, optimizer).read(str(directory / "weights"))
        status.assert_existing_objects_matched().expect_partial()
    except (AssertionError, IndexError, RuntimeError, ValueError, tf.errors.OpError) as e:
        raise ModelError(f"{directory}/weights: not the weights of this model: {str(e).splitlines()[0]}") from e


def _described(directory: Path) -> dict[str, Any]:
    recover(directory)
    path = directory / "checkpoint.json"
    if not path.is_file():
        raise ModelError(f"{directory}: expected a checkpoint, found none. Train first: tfrec train.")
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except ValueError as e:
        raise ModelError(f"{path}: expected JSON: {e}. The file is damaged: train again, or take another checkpoint.") from e
    if found["format"] != FORMAT:
        raise ModelError(f"{path}: expected format {FORMAT}, got {found['format']}. Train again, or use the version of "
                         "tfrec that wrote it.")
    return found


def read_slots(directory: Path) -> npt.NDArray[np.int32]:
    """`[n_items]`: the slot of each item of a checkpoint."""
    path = directory / "slots.npz"
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as arrays:
            return np.asarray(arrays["slot"], np.int32)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as e:
        raise ModelError(f"{path}: expected the slots of a checkpoint: {e}. Train again, or take another checkpoint.") from e


def read_meta(directory: Path) -> dict[str, Any]:
    """The `meta` of a checkpoint, without loading it."""
    meta: dict[str, Any] = _described(directory)["meta"]
    return meta


def grown_catalogue(directory: Path, items: Path | None, quarantine: Quarantine | None = None, *,
                    withdraw_at_most: float | None = None) -> Catalogue:
    """The catalogue of a checkpoint, with the items of the file `items` as they are there: changed, or new at the end.

    Args:
        directory: of the checkpoint.
        items: the file; None: the catalogue as it was.
        quarantine: where its bad rows go.
        withdraw_at_most: None where `items` holds changes only. Else it is the whole catalogue: an item without a row is not
            shown any more (a history may still name it) and comes back with its row. No more than this share of the items that
            are shown may go at once, or the file is taken for an empty or half-written one.

    Raises:
        DataError: more would go, or the file cannot be used.
    """
    _described(directory)
    known = read_catalogue(directory / "catalogue.jsonl")
    if items is None:
        return known
    present = read_catalogue(items, quarantine, kinds=known.kinds)
    if withdraw_at_most is None:
        return known.with_items(present.items)
    gone = [item for item in known.items if item.available and item.id not in present.index]
    shown = int(known.available.sum())
    if len(gone) > withdraw_at_most * shown:
        raise DataError(f"{items}: {len(gone)} of the {shown} items that are shown have no row any more, such as {gone[0].id!r}; "
                        f"data.withdraw_at_most is {withdraw_at_most:g} of them. Is the file whole? If they are to go, run this "
                        "once with --set data.withdraw_at_most=1.")
    return known.with_items([*(item.model_copy(update={"available": False}) for item in gone), *present.items])


class TrainingState:
    """The last finished epoch of each pass of a training, so that an interrupted one goes on.

    Args:
        directory: of the training; what an other training left there is removed.
        identity: digest of everything that the training is a function of.
        resume: False removes what is there.
    """

    def __init__(self, directory: Path, *, identity: str, resume: bool) -> None:
        self._directory = directory
        mark = directory / "identity"
        if not resume or not mark.is_file() or mark.read_text() != identity:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            mark.write_text(identity)

    def save(self, name: str, recommender: Recommender, optimizer: tf.keras.optimizers.Optimizer, epoch: int,
             curve: list[Any]) -> None:
        """Keep the state after `epoch` epochs."""
        save(self._directory / name, recommender, optimizer=optimizer, meta={"epoch": epoch, "curve": curve})

    def restore(self, name: str, recommender: Recommender, optimizer: tf.keras.optimizers.Optimizer) -> tuple[int, list[Any]]:
        """Fill in the kept state; the number of finished epochs (0: none) and the curve so far."""
        directory = self._directory / name
        recover(directory)
        if not (directory / "checkpoint.json").is_file():
            return 0, []
        optimizer.build(recommender.model.trainable_variables)
        _weights(recommender, optimizer).read(str(directory / "weights")).assert_existing_objects_matched().expect_partial()
        meta = read_meta(directory)
        return int(meta["epoch"]), list(meta["curve"])

    def finish(self, name: str, result: dict[str, Any]) -> None:
        """Keep the result of a pass, and drop its epochs."""
        (self._directory / f"{name}.json").write_text(json.dumps(result))
        shutil.rmtree(self._directory / name, ignore_errors=True)

    def result(self, name: str) -> dict[str, Any] | None:
        """What `finish` kept, None before."""
        path = self._directory / f"{name}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def clear(self) -> None:
        """Remove everything: the training is done."""
        shutil.rmtree(self._directory, ignore_errors=True)

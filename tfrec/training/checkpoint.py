"""Checkpoints: a whole recommender on disk, from which training goes on as if it had never stopped.

A checkpoint holds the weights, their moving average, the optimiser, popularity over time, residual slots, the catalogue, and the
step, which seeds all noise. It is a directory that appears, and is replaced, by one rename. It holds arrays and JSON only, so
reading one runs no code.
"""
import json
import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.config import Config, FeaturesConfig, RankerConfig
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.items.catalogue_cache import cached_catalogue
from tfrec.data.items.item_features import ItemFeatures
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.staging import recover, replace_directory, staging
from tfrec.errors import DataError, ModelError
from tfrec.models.bayesian_head import BayesianHead
from tfrec.models.bert.bert_files import trained_from
from tfrec.models.context.request_features import RequestFeatures
from tfrec.models.item_store import capacity_for
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.pretrained.checkpoint_files import fingerprint
from tfrec.models.prior_timeline import PriorTimeline
from tfrec.models.ranking.item_rates import ItemRates
from tfrec.models.recommender import Recommender, encode_catalogue, new_ranker, towers, with_encoder
from tfrec.models.text_encoder import load_encoder

FORMAT = 3
UNCHECKED_SETTINGS = ("batch_size", "tuning", "users")  # no vector depends on them
RATES = "rates.npz"
CATALOGUE_FILES = frozenset({"slots.npz", "prior.npz", RATES, "catalogue.jsonl"})

log = logging.getLogger(__name__)


def _trackable(recommender: Recommender, optimizer: tf.keras.optimizers.Optimizer | None, *,
               ranker: bool = True) -> tf.train.Checkpoint:
    """The variables in the file `weights`, with those of the second stage where it has one."""
    m = recommender.model
    variables = {"log_scale": m.log_scale, "search_scale": m.search_scale, "mean_query": m.mean_query, "beta": m.beta,
                 "steps": m.steps, "averaged": m.average.count}
    optional = {"optimizer": optimizer} if optimizer is not None else {}
    optional |= {"context": m.context} if m.context is not None else {}
    optional |= {"ranker": recommender.ranker} if ranker and recommender.ranker is not None else {}
    return tf.train.Checkpoint(items=m.items, queries=m.queries, head=recommender.head, average=m.average.values,
                               **variables, **optional)


def save(directory: Path, recommender: Recommender, *, meta: dict[str, Any] | None = None,
         optimizer: tf.keras.optimizers.Optimizer | None = None) -> Path:
    """Write a checkpoint to `directory`, replacing the one that is there.

    Args:
        directory: of the checkpoint.
        recommender: with its weights and their moving average.
        meta: JSON values that `load` gives back.
        optimizer: whose state is saved too; None leaves it out.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with staging(directory.parent, f".{directory.name}.staging-") as staged:
        _trackable(recommender, optimizer).write(str(staged / "weights"))
        recommender.timeline.save(staged / "timeline.npz")
        save_catalogue(staged, recommender)
        (staged / "checkpoint.json").write_text(json.dumps({
            "format": FORMAT,
            "features": recommender.features.model_dump(mode="json"),
            "text_width": recommender.text.shape[1],
            "actions": recommender.actions,
            "optimizer": optimizer is not None,
            "model": recommender.config.model.model_dump(mode="json"),
            "text": recommender.config.text.model_dump(mode="json"),
            "request_features": recommender.config.features.model_dump(mode="json"),
            "knots": recommender.requests.knots,
            "ranker": recommender.config.ranker.model_dump(mode="json", exclude={"epochs", "learning_rate"}),
            "encoder": fingerprint(recommender.config.text.encoder),
            "trained_from": trained_from(recommender.config.text.encoder),
            "meta": meta or {},
        }))
        replace_directory(staged, directory)
    return directory


def save_catalogue(directory: Path, recommender: Recommender) -> None:
    """Write the catalogue, its residual slots and its popularity: the `CATALOGUE_FILES` of a checkpoint."""
    np.savez(directory / "slots.npz", slot=recommender.slot)
    recommender.prior.save(directory / "prior.npz")
    recommender.rates.save(directory / RATES)
    recommender.catalogue.write(directory / "catalogue.jsonl")


def fits(directory: Path, config: Config, onto: Recommender, catalogue: Catalogue) -> bool:
    """Whether the variables of `onto`, and the steps that were traced with them, can take what is in a checkpoint."""
    description, sizes = _read_description(directory), onto.model.items.sizes
    features = ItemFeatures.model_validate(description["features"])
    config = _of_checkpoint(description, config)
    return (bool(description["optimizer"]) and onto.config == config and onto.model.store.rows == capacity_for(len(catalogue))
            and (description["text_width"], features.width) == (sizes["text_width"], sizes["feature_width"]))


def load(directory: Path, config: Config, *, catalogue: Catalogue | None = None,
         optimizer: tf.keras.optimizers.Optimizer | None = None,
         onto: Recommender | None = None) -> tuple[Recommender, dict[str, Any]]:
    """Read a checkpoint: the recommender, and the `meta` that was saved with it.

    Args:
        directory: of the checkpoint.
        config: of the run. Its model and text sections must be those of the checkpoint, apart from `UNCHECKED_SETTINGS`. Where
            training has trained `text.encoder`, the recommender has the trained one in its configuration.
        catalogue: the present one, which must begin with the checkpoint's items; by default the checkpoint's own.
        optimizer: a new one, or that of `onto`; it gets the saved state if there is one.
        onto: another recommender, whose variables are filled in; see `fits`. It must not be used any more.

    Raises:
        ModelError: there is no checkpoint, or it has another format, configuration, text encoder or catalogue.
    """
    description = _read_description(directory)
    config = _of_checkpoint(description, config)
    _check_configuration(directory, description, config)
    _check_encoder(directory, description, config, "Put them back, or train a new model in another run directory.")
    known = cached_catalogue(directory / "catalogue.jsonl")
    present = catalogue or known
    if not np.array_equal(present.ids[: len(known)], known.ids):
        raise ModelError(f"{directory}: the catalogue does not begin with the {len(known)} items of the checkpoint in their "
                         "order. Add items at the end (Catalogue.with_items).")
    text = encode_catalogue(config, present.texts)
    slot = np.concatenate([read_slots(directory), np.zeros(len(present) - len(known), np.int32)])
    prior = PopularityPrior.load(directory / "prior.npz")
    prior.grow(len(present))
    timeline = PriorTimeline.load(directory / "timeline.npz")
    timeline.grow(len(present))
    recommender = _untrained(description, config, present, text, slot, prior, timeline, onto=onto)
    if optimizer is not None and onto is None:
        optimizer.build(recommender.model.trainable_variables)
    knows = _knows_heads(description, config)
    read_weights(directory, recommender, optimizer if description["optimizer"] else None, ranker=knows)
    _take_heads(directory, recommender, knows)
    recommender.refresh()
    return recommender, description["meta"]


def load_items(directory: Path, items: Sequence[int]) -> Recommender:
    """Read the model of a checkpoint with some of its items only, under the settings that it was saved with.

    No other item is encoded. Popularity is unknown: the prior is that of items without any feedback.

    Raises:
        ModelError: as for `load`.
    """
    description = _read_description(directory)
    config = Config.model_validate({"model": description["model"], "text": description["text"],
                                    "features": description.get("request_features", {}),
                                    "ranker": description.get("ranker", {})})
    _check_encoder(directory, description, config, "Put them back.")
    known = cached_catalogue(directory / "catalogue.jsonl")
    chosen = Catalogue([known.items[item] for item in items])
    text = load_encoder(config.text).encode(chosen.texts, batch_size=config.text.batch_size)
    slot = read_slots(directory)[list(items)]
    recommender = _untrained(description, config, chosen, text, slot, PopularityPrior(len(chosen)),
                             PriorTimeline.empty(len(chosen)))
    read_weights(directory, recommender, None)
    recommender.refresh()
    return recommender


def _untrained(description: dict[str, Any], config: Config, catalogue: Catalogue, text: npt.NDArray[np.float32],
               slot: npt.NDArray[np.int32], prior: PopularityPrior, timeline: PriorTimeline, *,
               onto: Recommender | None = None) -> Recommender:
    """The recommender that a checkpoint describes, before its weights are filled in."""
    features = ItemFeatures.model_validate(description["features"])
    if onto is not None:
        model, head, ranker = onto.model, onto.head, onto.ranker
    else:
        model = towers(config, text_width=description["text_width"], feature_width=features.width)
        head, ranker = BayesianHead(config.model.dim), new_ranker(config, features.width)
    return Recommender(config, catalogue, text, features, slot, tuple(description["actions"]), prior, timeline, model, head,
                       RequestFeatures(config.features, description.get("knots")), ranker=ranker,
                       rates=ItemRates(len(catalogue), config.ranker.names))


def _knows_heads(description: dict[str, Any], config: Config) -> bool:
    """Whether a checkpoint has the second stage that `config` describes."""
    saved = RankerConfig.model_validate(description.get("ranker", {}))
    return bool(saved.names) and (saved.names, saved.after) == (config.ranker.names, config.ranker.after)


def of_version(directory: Path, config: Config) -> Config:
    """`config` with the second stage that a checkpoint has, whose graph is to be used as it is."""
    saved = RankerConfig.model_validate(_read_description(directory).get("ranker", {}))
    return config.model_copy(update={"ranker": saved})


def _take_heads(directory: Path, recommender: Recommender, knows: bool) -> None:
    """Fill in the rates of a checkpoint, and what the configuration says of heads; without them, begin with none."""
    if recommender.ranker is None:
        return
    settings = recommender.config.ranker
    if knows:
        recommender.rates = ItemRates.load(directory / RATES)
        recommender.rates.grow(len(recommender.catalogue))
    else:
        log.info("%s has no second stage with the heads %s: it begins to learn now", directory, ", ".join(settings.names))
        recommender.ranker.learnt.assign(0.0)
    recommender.ranker.configure(settings.min_slates, [settings.heads[name] for name in settings.names])


def read_weights(directory: Path, recommender: Recommender, optimizer: tf.keras.optimizers.Optimizer | None, *,
                 ranker: bool = True) -> None:
    """Fill in the weights of a checkpoint, and the state of an optimiser that is built already.

    Args:
        directory: of the checkpoint.
        recommender: whose variables are filled in.
        optimizer: the same; None leaves its state out.
        ranker: whether the checkpoint has the second stage of `recommender`.

    Raises:
        ModelError: the file is damaged, or holds the weights of another model.
    """
    try:
        status = _trackable(recommender, optimizer, ranker=ranker).read(str(directory / "weights"))
        status.assert_existing_objects_matched().expect_partial()
    except (AssertionError, IndexError, RuntimeError, ValueError, tf.errors.OpError) as e:
        raise ModelError(f"{directory}/weights: not the weights of this model: {str(e).splitlines()[0]}") from e


def _of_checkpoint(description: dict[str, Any], config: Config) -> Config:
    """`config`, with the encoder of the checkpoint where training has made that one of `text.encoder`."""
    if description.get("trained_from") == config.text.encoder:
        return with_encoder(config, description["text"]["encoder"])
    return config


def _check_configuration(directory: Path, description: dict[str, Any], config: Config) -> None:
    for section, key in (("model", "model"), ("text", "text"), ("features", "request_features")):
        settings = getattr(config, section).model_dump(mode="json")
        saved = description.get(key, FeaturesConfig().model_dump(mode="json"))  # of a checkpoint from before there were any
        differing = {k: (saved.get(k), v) for k, v in settings.items() if saved.get(k) != v and k not in UNCHECKED_SETTINGS}
        if differing:
            words = ", ".join(f"{section}.{k} = {new!r}, the checkpoint has {old!r}" for k, (old, new) in differing.items())
            raise ModelError(f"{directory}: {words}. Set them back, or train a new model in another run directory.")


def _check_encoder(directory: Path, description: dict[str, Any], config: Config, remedy: str) -> None:
    if description["encoder"] != fingerprint(config.text.encoder):
        raise ModelError(f"{directory}: the text encoder {config.text.encoder!r} is not the one that this model was trained "
                         f"with: its files have changed. {remedy}")


def _read_description(directory: Path) -> dict[str, Any]:
    recover(directory)
    path = directory / "checkpoint.json"
    if not path.is_file():
        raise ModelError(f"{directory}: expected a checkpoint, found none. Train first: tfrec train.")
    try:
        description: dict[str, Any] = json.loads(path.read_text())
    except ValueError as e:
        raise ModelError(f"{path}: expected JSON: {e}. The file is damaged: train again, or take another checkpoint.") from e
    if description["format"] != FORMAT:
        raise ModelError(f"{path}: expected format {FORMAT}, got {description['format']}. Train again, or use the version of "
                         "tfrec that wrote it.")
    return description


def read_slots(directory: Path) -> npt.NDArray[np.int32]:
    """Return the residual slot of each item of a checkpoint, `[n_items]`."""
    path = directory / "slots.npz"
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as arrays:
            return np.asarray(arrays["slot"], np.int32)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as e:
        raise ModelError(f"{path}: expected the slots of a checkpoint: {e}. Train again, or take another checkpoint.") from e


def read_meta(directory: Path) -> dict[str, Any]:
    """Return the `meta` of a checkpoint without loading the model."""
    meta: dict[str, Any] = _read_description(directory)["meta"]
    return meta


def grown_catalogue(directory: Path, items: Path | None, quarantine: Quarantine | None = None, *,
                    withdraw_at_most: float | None = None) -> Catalogue:
    """Return the catalogue of a checkpoint with the changes in the file `items`: items changed, or new ones added at the end.

    Args:
        directory: of the checkpoint.
        items: the file; None returns the catalogue as it is.
        quarantine: where bad rows go.
        withdraw_at_most: None if `items` holds changes only. Otherwise `items` is the whole catalogue, and an item without a row
            is not shown any more (a history may still name it) until its row is back. If more than this share of the items that
            are shown would go at once, the file is taken for an empty or half-written one.

    Raises:
        DataError: too many items would go, or the file cannot be used.
    """
    _read_description(directory)
    known = cached_catalogue(directory / "catalogue.jsonl")
    if items is None:
        return known
    present = cached_catalogue(items, quarantine, kinds=known.kinds)
    if withdraw_at_most is None:
        return known.with_items(present.items)
    gone = [item for item in known.items if item.available and item.id not in present.index]
    shown = int(known.available.sum())
    if len(gone) > withdraw_at_most * shown:
        raise DataError(f"{items}: {len(gone)} of the {shown} items that are shown have no row any more, such as {gone[0].id!r}; "
                        f"data.withdraw_at_most is {withdraw_at_most:g} of them. Is the file whole? If they are to go, run this "
                        "once with --set data.withdraw_at_most=1.")
    return known.with_items([*(item.model_copy(update={"available": False}) for item in gone), *present.items])

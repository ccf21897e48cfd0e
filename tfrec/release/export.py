"""A recommender in, a version directory out, ready for `release.publish` and for the retrain that goes on from it.

    saved_model.pb  variables/   the graph (`signatures.py`)       prior.npz  items.jsonl   for the gateway (`live_popularity.py`)
    assets.extra/                the warm-up                  manifest.json            with probes answered by the model in memory
    checkpoint/                  what the next retrain continues from

It appears by one rename, whole or not at all. The weights are those that the recommender has now: training leaves their moving
averages in place.
"""
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec import __version__
from tfrec.client.inputs import UNKNOWN_AGE
from tfrec.client.warmup import Request, read_signatures, record_probes, write_warmup
from tfrec.config import Config
from tfrec.data.staging import recover, staging
from tfrec.errors import UsageError
from tfrec.graph.signatures import Graph
from tfrec.models.recommender import Recommender
from tfrec.models.text_encoder import load_encoder
from tfrec.release.file_digests import digests
from tfrec.release.manifest import Manifest, read_manifest, write_manifest
from tfrec.release.popularity_files import write_prior
from tfrec.release.publish import newest_dir
from tfrec.release.weight_shards import split
from tfrec.training import checkpoint
from tfrec.training.train import checkpoint_dir

CHECKPOINT = "checkpoint"  # its directory, beside saved_model.pb

_DAY = 86_400
_BATCHES = (1, 4)  # a lone request and a batch: other shapes, other kernels


def export(
    recommender: Recommender,
    directory: str | Path,
    *,
    created_at: int,
    parent: int | None = None,
    window: Mapping[str, Any] | None = None,
    scorecard: Mapping[str, Any] | None = None,
    identity: str | None = None,
    optimizer: tf.keras.optimizers.Optimizer | None = None,
    held_back: Collection[Sequence[str]] = (),
    slates_until: int = 0,
    result: Mapping[str, Any] | None = None,
) -> Path:
    """Write `directory`, which must not exist, and return it.

    Args:
        recommender: what is exported, with the weights, items, texts and popularity that it has now.
        directory: of the export.
        created_at: seconds since 1970.
        parent, window, scorecard, identity: for the manifest.
        optimizer: the one that trained it: the next retrain goes on with its moments.
        held_back: (user, item) of the events in the window that judged and were not learnt.
        slates_until: seconds since 1970; requests up to then have been learnt.
        result: what the retrain that exports will have to say of itself, should it be killed once this is published.

    Raises:
        UsageError: `directory` exists or cannot be made; nothing has been done.
    """
    directory = Path(directory)
    with _making(directory) as made:
        text = recommender.config.text
        graph = Graph(recommender, load_encoder(text))
        requests = recorded_requests(recommender)
        tf.saved_model.save(graph.module(), str(made), signatures=graph.signatures())
        split(made / "variables")
        warm = [request for request in requests if request.signature not in _cold(recommender.config)]
        write_warmup(made, warm, model=recommender.config.serving.model_name)
        catalogue = recommender.catalogue
        write_prior(made, recommender.prior, catalogue.ids.tolist(), hidden=catalogue.unavailable)
        meta = {"held_back": list(held_back)} | ({} if result is None else {"result": dict(result)})
        checkpoint.save(made / CHECKPOINT, recommender, optimizer=optimizer, meta=meta)
        manifest = Manifest(
            identity=identity,
            parent=parent,
            created_at=created_at,
            window=None if window is None else dict(window),
            slates_until=slates_until,
            config_digest=recommender.config.digest(),
            catalogue_digest=recommender.catalogue.digest(),
            code_version=__version__,
            scorecard=dict(scorecard or {}),
            index=graph.measured,
            signatures=read_signatures(made),
            shortlist=graph.shortlist,
            probes=record_probes(graph.functions, requests),
            files=digests(made),
        )
        write_manifest(made, manifest)
        made.rename(directory)
    return directory


def newest_model(config: Config) -> tuple[Path, dict[str, Any]]:
    """The checkpoint that an export starts from, and what `export` is told of its lineage.

    It is the newest published version's, whose window and held back events are then the export's too, so that a retrain goes on
    where it would have without this export. A training that ended after that version was made comes before it, with no lineage.
    """
    trained, live = checkpoint_dir(config), newest_dir(config.models_dir)
    recover(trained)
    if live is None:
        return trained, {}
    manifest = read_manifest(live)
    if trained.is_dir() and checkpoint.read_meta(trained).get("trained_at", 0) > manifest.created_at:
        return trained, {}
    return live / CHECKPOINT, {"parent": manifest.version, "window": manifest.window, "scorecard": manifest.scorecard,
                               "held_back": held_back(live), "slates_until": slates_until(live)}


def held_back(version_dir: Path) -> list[list[str]]:
    """(user, item) of the events that judged a version and were not learnt, for the next retrain; none after a rollback."""
    manifest = read_manifest(version_dir)
    if manifest.copy_of is not None or manifest.of_copy:
        return []  # the version that was regretted has learnt them
    return list(checkpoint.read_meta(version_dir / CHECKPOINT).get("held_back", []))


def slates_until(version_dir: Path) -> int:
    """Seconds since 1970 until which what was shown is no news to a version; 0 when all of it is."""
    return read_manifest(version_dir).slates_until


@contextmanager
def _making(directory: Path) -> Iterator[Path]:
    """An empty directory beside `directory`, made now so that an output that cannot be written is refused before any work."""
    if directory.exists() or directory.is_symlink():
        raise UsageError(f"{directory}: exists already, and an export never changes one. Choose another directory, or remove it.")
    with ExitStack() as stack:
        try:
            if not directory.parent.exists():
                directory.parent.mkdir(parents=True)
            made = stack.enter_context(staging(directory.parent, f".{directory.name}.staging-"))
        except OSError as error:
            raise UsageError(f"{directory}: cannot be written ({error.strerror}). Choose another directory.") from error
        yield made


def _cold(config: Config) -> set[str]:
    """Signatures that are not warmed up, each a good part of a second of every load: their first request takes it instead."""
    return {"explain", "explore", "thompson", "linucb"} - {config.gateway.exploring}


def recorded_requests(recommender: Recommender) -> list[Request]:
    """Each signature, with and without query, and `recommend` in a batch, on the catalogue's own items: probes and warm-up."""
    ids, texts = recommender.catalogue.ids.tolist(), [text or "a" for text in recommender.catalogue.texts]
    length = recommender.config.model.history
    requests = []
    for batch in _BATCHES:
        k = np.full(batch, 10, np.int32)
        some = [ids[row % len(ids)] for row in range(batch)]
        history = np.array([[ids[(row * length + place) % len(ids)] for place in range(length)] for row in range(batch)], object)
        history[1:, : length // 2] = ""  # shorter ones
        behaviour = {
            "history": history,
            "history_action": np.where(history == "", "", next(iter(recommender.actions), "")),
            "history_age_s": np.where(history == "", UNKNOWN_AGE, np.arange(length, 0, -1) * _DAY).astype(np.int64),
        }
        unfiltered = {"exclude": _text(batch, 0), "allow_tags": _text(batch, 0), "deny_tags": _text(batch, 0),
                      "prior_items": _text(batch, 0), "prior_log_p": np.zeros([batch, 0], np.float32)}
        filtered = unfiltered | {"exclude": history, "prior_items": np.array([[item] for item in some], object),
                                 "prior_log_p": np.full([batch, 1], -1.0, np.float32)}
        nothing, texted = [""] * batch, [texts[row % len(ids)] for row in range(batch)]
        for query in (nothing, texted):
            requests.append(Request("recommend", {**behaviour, **filtered, "query": query, "k": k}))
        if batch > 1:  # the other signatures share their graph with `recommend`; each further record costs a load its time
            continue
        for query in (nothing, texted):
            requests += [
                Request("serving_default", {"history": history, "query": query, "k": k}),
                Request("recommend", {**behaviour, **unfiltered, "query": query, "k": k}),
                Request("embed_query", {"history": history, "query": query}),
            ]
        prior = {name: filtered[name] for name in ("prior_items", "prior_log_p")}
        ranked, bandit = prior | {"candidates": history}, {"alpha": np.ones(batch, np.float32)}
        # not by Gumbel noise, with which scores that another kernel rounds otherwise may give another slate
        policy = {"temperature": np.zeros(batch, np.float32), "epsilon": np.full(batch, 0.5, np.float32),
                  "seed": np.arange(batch, dtype=np.int64)}
        requests += [
            Request("explore", {**behaviour, **filtered, **policy, "query": nothing, "k": k}),
            Request("thompson", {**behaviour, **filtered, **bandit, "seed": policy["seed"], "query": nothing, "k": k}),
            Request("linucb", {**behaviour, **filtered, **bandit, "query": nothing, "k": k}),
            Request("rank", {**behaviour, **ranked, "query": nothing}),
            Request("explain", {**behaviour, **prior, "item": some, "query": texted}),
            Request("similar", {"item": some, "k": k}),
            Request("embed_item", {"text": texted}),
        ]
    return requests


def _text(batch: int, width: int, fill: str = "") -> np.ndarray:
    return np.full([batch, width], fill, object)

"""Publishes a delta: a version with a new catalogue or popularity and its parent's weights, made in seconds without training.

The parent is the newest published version. What changes is a file of items, or the outcomes that came into the log since the
parent's popularity was counted. New and changed texts are embedded, an item that is no longer `available` is not recommended any
more, and the lists of the index keep their centroids. Graph, weights and warm-up are hard links to the parent's files.

The probes of a delta are the parent's recommendations, answered anew by the model in memory, and a search with the text of the
newest item: they show what is new. Everything else was verified with the parent.
"""
import logging
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.client.contract import OPTIONAL, SIGNATURES, Probe
from tfrec.client.slate_options import nothing_asked
from tfrec.client.tensors import from_values
from tfrec.client.warmup import Request, record_probes
from tfrec.config import Config, RewardConfig
from tfrec.data.behaviour.first_seen import from_newcomers
from tfrec.data.behaviour.newest_outcomes import first_positives, newest_outcomes
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.readers.quarantine import Quarantine
from tfrec.data.staging import link, staging
from tfrec.errors import UsageError
from tfrec.graph.index_choice import Given, InvertedLists
from tfrec.graph.inverted_index import ProbeLimits
from tfrec.graph.signatures import Graph
from tfrec.models.recommender import Recommender
from tfrec.models.text_encoder import load_encoder
from tfrec.release.export import FOR_GATEWAY, write_for_gateway
from tfrec.release.file_digests import check_files, digests
from tfrec.release.manifest import CHECKPOINT, FILE_NAME, Manifest, read_manifest, write_manifest
from tfrec.release.publish import newest_dir, publish, pull
from tfrec.release.shared_versions import store_of
from tfrec.release.verify import Verifier
from tfrec.release.weight_shards import CATALOGUE, read_catalogue_array, share
from tfrec.review.scan import scan_before_publishing
from tfrec.training import checkpoint

log = logging.getLogger(__name__)

ASKED_OF_DELTA = "recommend"  # the signature whose answers show all that a delta may change
# in a version; the rest is the parent's
_NEW = {"variables", FILE_NAME, *FOR_GATEWAY, CHECKPOINT}


def publish_delta(
    config: Config, *, items: Path | None = None, prior: bool = False, now: int, quarantine: Quarantine | None = None,
    verifier: Verifier | None = None,
) -> int:
    """Publish the newest version with other items or newer popularity; returns the number of the new version.

    When the newest version has all of that already, nothing is published and its number is returned.

    Args:
        config: of the run.
        items: rows that are new or changed; the others stay as they are.
        prior: count the outcomes in the log that the version has not counted.
        now: seconds since 1970; an outcome that claims to be later counts as of now.
        quarantine: where bad rows of `items` go.
        verifier: begun before; by default one begins here, and gets ready while the version is written.

    Raises:
        UsageError: nothing is published yet.
        ServingError: a file of the newest version is damaged, or the new version answers otherwise than it should.
    """
    store = store_of(config)
    pull(config.models_dir, store)
    parent = newest_dir(config.models_dir)
    if parent is None:
        raise UsageError(f"{config.models_dir}: no version is published whose items could change. Publish an export first.")
    manifest = read_manifest(parent)
    check_files(parent, manifest, below=CHECKPOINT)
    with ExitStack() as stack:
        verifier = verifier or stack.enter_context(Verifier())
        catalogue = checkpoint.grown_catalogue(parent / CHECKPOINT, items, quarantine)
        scan_before_publishing(config, catalogue.items, now=now)
        as_served = checkpoint.of_version(parent / CHECKPOINT, config)
        recommender, _ = checkpoint.load(parent / CHECKPOINT, as_served, catalogue=catalogue)
        counted = count_outcomes(recommender, FeedbackLog(config.log_uri), reward=config.reward, now=now) if prior else 0
        if not counted and manifest.version and catalogue.digest() == manifest.catalogue_digest:
            log.info("version %d has these items and outcomes already: nothing to publish", manifest.version)
            return manifest.version  # as when a publish was killed after its version had appeared
        made = stack.enter_context(staging(config.models_dir.parent, f".{config.models_dir.name}-delta-"))
        write_delta(made, parent, manifest, recommender, new_items=items is not None, now=now)
        return publish(made, config.models_dir, verifier=verifier, store=store)


def count_outcomes(recommender: Recommender, log: FeedbackLog, *, reward: RewardConfig, now: int) -> int:
    """Count in the popularity what the log has of rewarded outcomes since its clock; returns their number."""
    outcomes = newest_outcomes(log)
    first = first_positives(outcomes, LabelRule.of_rewards(reward, recommender.catalogue))
    newcomer = from_newcomers(first, outcomes, now=now)
    times, names = first["time"].to_numpy(), first["item"].to_pylist()
    index = recommender.catalogue.index
    new = [at for at in np.flatnonzero(times > recommender.prior.clock) if names[at] in index]
    recommender.prior.update([index[names[at]] for at in new], np.minimum(times[new], now), newcomer=newcomer[new])
    return len(new)


def write_delta(made: Path, parent: Path, manifest: Manifest, recommender: Recommender, *, new_items: bool, now: int) -> None:
    """Fill the empty directory `made` with the version `parent`, its catalogue and popularity those of `recommender`."""
    text = recommender.config.text
    graph = Graph(recommender, load_encoder(text), given=index_of(parent, manifest), shortlist=manifest.shortlist)
    for entry in parent.iterdir():
        if entry.name not in _NEW:
            _link_all(entry, made / entry.name)
    share(parent / "variables", made / "variables", {CATALOGUE: graph.catalogue_state})
    (made / CHECKPOINT).mkdir()
    for entry in (parent / CHECKPOINT).iterdir():
        if entry.name not in checkpoint.CATALOGUE_FILES:
            _link_all(entry, made / CHECKPOINT / entry.name)
    checkpoint.save_catalogue(made / CHECKPOINT, recommender)
    write_for_gateway(made, recommender, graph)
    shared = {name: digest for name, digest in manifest.files.items() if _is_same(parent / name, made / name)}
    write_manifest(made, manifest.model_copy(update={
        "version": None, "identity": None, "copy_of": None, "rolled_back_from": None,
        "of_copy": manifest.copy_of is not None or manifest.of_copy,
        "parent": manifest.version, "created_at": now,
        "catalogue_digest": recommender.catalogue.digest(),
        "index": graph.measured,
        "probes": _probes(manifest, graph, recommender, new_items=new_items),
        "files": digests(made, known=shared),
    }))


def index_of(parent: Path, manifest: Manifest) -> Given:
    """How the version in the directory `parent` indexes its items."""
    storage = manifest.index.get("storage", "float32")
    if manifest.index.get("kind") != "lists":
        return Given(None, storage)
    shallow, deep = (ProbeLimits(**manifest.index[name]) for name in ("near", "far"))
    return Given(InvertedLists(read_catalogue_array(parent / "variables", "list_centre"), shallow, deep), storage)


def _probes(manifest: Manifest, graph: Graph, recommender: Recommender, *, new_items: bool) -> tuple[Probe, ...]:
    requests = []
    for probe in manifest.probes:
        if probe.signature == ASKED_OF_DELTA:
            specs = manifest.signatures[probe.signature].inputs
            inputs = {name: from_values(values, specs[name].dtype) for name, values in probe.inputs.items()}
            requests.append(Request(probe.signature, inputs))
    if new_items:
        some = requests[0].inputs
        text = [recommender.catalogue.texts[-1] or "a"] * len(some["query"])
        requests.append(Request(ASKED_OF_DELTA, {**some, "query": text}))
    return record_probes({name: taking_older_requests(name, function) for name, function in graph.functions.items()}, requests)


def taking_older_requests(signature: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function of a signature, which also takes requests from before the signature had all its inputs."""
    names = OPTIONAL & SIGNATURES[signature][0].keys()

    def answer(inputs: Mapping[str, tf.Tensor]) -> Any:
        nothing = nothing_asked(len(next(iter(inputs.values()))))
        return function({name: tf.constant(nothing[name]) for name in names} | dict(inputs))

    return answer


def _is_same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.samefile(other)


def _link_all(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, copy_function=link)
    else:
        link(str(source), str(target))

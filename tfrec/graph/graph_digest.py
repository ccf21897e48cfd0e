"""A digest of everything that the served graph is a function of, apart from the values of its variables.

Two models with the same digest are served by the same graph: constants in it come from settings, from the names of actions, from
the files of the text encoder and from the code; shapes from the variables. Catalogue, popularity and index are variables of open
length, so a catalogue may grow. What is here in vain costs a tracing; what is missing would serve wrong answers.
"""
import hashlib
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrec.graph.served_weights import Variables
from tfrec.models.pretrained.checkpoint_files import fingerprint
from tfrec.models.recommender import Recommender

_TRACED = ("client", "graph", "models")  # the rooms whose code makes the graph
_LIBRARIES = ("tensorflow", "tensorflow-text", "tf_keras")


def graph_digest(recommender: Recommender, weights: Variables, catalogue: Variables, *, index: str, shortlist: int,
                 signatures: list[str]) -> str:
    """SHA-256, in hexadecimal.

    Args:
        recommender: whose settings, actions and encoder are meant.
        weights: the variables that the graph may read.
        catalogue: the variables of the index, of open length.
        index: the kind of it.
        shortlist: how many of the best items `explore` chooses among.
        signatures: their names.
    """
    config = recommender.config
    parts = {
        "code": code_digest(Path(__file__).parents[1]), "libraries": [_version(name) for name in _LIBRARIES],
        "model": config.model.model_dump(mode="json"), "text": config.text.model_dump(mode="json"),
        "encoder": fingerprint(config.text.encoder), "actions": recommender.actions, "max_k": config.serving.max_k,
        "index": index, "shortlist": shortlist, "signatures": sorted(signatures),
        "features": config.features.model_dump(mode="json", exclude={"users", "dropout"}), "knots": recommender.requests.knots,
        "ranker": config.ranker.model_dump(mode="json", include={"after"}) | {"heads": config.ranker.names},
        "weights": {name: [variable.dtype.name, variable.shape.as_list()] for name, variable in weights.items()},
        "catalogue": {name: [variable.dtype.name, variable.shape.as_list()] for name, variable in catalogue.items()},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_unknown).encode()).hexdigest()


@cache
def code_digest(package: Path) -> str:
    """SHA-256 of the sources that the graph is traced from, as they were when this process first asked."""
    sha = hashlib.sha256()
    for path in sorted(path for room in _TRACED for path in (package / room).rglob("*.py")):
        sha.update(path.read_bytes())
    return sha.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # TensorFlow has packages of other names, such as tensorflow-cpu
        return str(tf.__version__)


def _unknown(value: Any) -> str:
    raise TypeError(f"graph_digest: expected values of JSON, got {value!r}.")

"""A SavedModel with tfrec's signatures whose answers can be worked out by hand: no weights, no training, made once a process."""
import atexit
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import tensorflow as tf

from tfrec.client.contract import SIGNATURES, TEXT, TensorKinds
from tfrec.client.warmup import Request, read_signatures, record_probes, write_warmup
from tfrec.graph.request import Inputs, tensor_specs
from tfrec.release.file_digests import digests
from tfrec.release.manifest import Manifest, write_manifest

ITEMS = ("a", "b", "c", "d", "e")

Answer = dict[str, tf.Tensor]


def taking(inputs: TensorKinds) -> Any:
    """Decorates a method that takes named tensors."""
    return tf.function(input_signature=[tensor_specs(inputs)])


@dataclass(frozen=True)
class Running:
    """Where a server listens."""

    grpc: str
    rest: str
    base_path: Path


class Tiny(tf.Module):
    """Scores item i by `base - i`, 100 more when it is the query, and its log p of the request; tags say nothing.

    History and exclude are left out of the answer.
    """

    def __init__(self, base: float = 10.0, items: Sequence[str] = ITEMS) -> None:
        super().__init__()
        self.ids = tf.Variable(list(items), trainable=False)
        codes = tf.lookup.KeyValueTensorInitializer(list(items), tf.range(len(items), dtype=tf.int64))
        self.codes = tf.lookup.StaticHashTable(codes, -1)  # a server must run the initialisers
        self.scores = tf.Variable([base - i for i in range(len(items))], trainable=False)

    def _answer(self, hidden: tf.Tensor, query: tf.Tensor, k: tf.Tensor, prior: tf.Tensor | float = 0.0) -> Answer:
        said = tf.cast(tf.equal(query[:, None], self.ids[None]), tf.float32)
        scores = self.scores[None] + 100.0 * said + prior
        out = tf.reduce_any(tf.equal(hidden[:, :, None], self.ids[None, None]), axis=1)
        scores = tf.where(out, -float("inf"), scores)
        width = tf.minimum(tf.reduce_max(k), tf.shape(self.ids)[0])
        best, places = tf.math.top_k(scores, width)
        shown = (tf.range(width)[None] < k[:, None]) & (best > -float("inf"))
        return {
            "items": tf.where(shown, tf.gather(self.ids, places), ""),
            "scores": tf.where(shown, best, -float("inf")),
        }

    @taking(SIGNATURES["serving_default"][0])
    def serving_default(self, inputs: Inputs) -> Answer:
        return self._answer(inputs["history"], inputs["query"], inputs["k"])

    @taking(SIGNATURES["recommend"][0])
    def recommend(self, inputs: Inputs) -> Answer:
        history = inputs["history"]
        same = [tf.assert_equal(tf.shape(history), tf.shape(inputs[name])) for name in ("history_action", "history_age_s")]
        named = tf.cast(tf.equal(inputs["prior_items"][:, :, None], self.ids[None, None]), tf.float32)
        with tf.control_dependencies(same):
            prior = tf.reduce_sum(named * inputs["prior_log_p"][:, :, None], axis=1)
            return self._answer(tf.concat([history, inputs["exclude"]], axis=1), inputs["query"], inputs["k"], prior)

    @tf.function(input_signature=[{"x": tf.TensorSpec([None, 2], tf.float32, name="x")}])
    def double(self, inputs: Inputs) -> Answer:
        return {"y": 2.0 * inputs["x"]}

    @taking(SIGNATURES["similar"][0])
    def similar(self, inputs: Inputs) -> Answer:
        item = inputs["item"]
        return self._answer(item[:, None], tf.zeros_like(item), inputs["k"])

    @taking({"item": TEXT})
    def echo(self, inputs: Inputs) -> Answer:
        item = inputs["item"]
        return {"items": item, "raw_bytes": item, "total": tf.size(item), "code": self.codes.lookup(item)}


REQUESTS = (
    Request("serving_default", {"history": [["b", ""]], "query": ["d"], "k": tf.constant([3]).numpy()}),
    Request("double", {"x": tf.constant([[1.0, 2.0]]).numpy()}),
)


def save_two(root: Path) -> Path:
    """Versions 3 and 4 of the model "tiny", labels "stable" (4) and "old" (3); version 3's scores are 10 lower. Its config."""
    save_tiny(root / "tiny" / "3", base=0.0)
    save_tiny(root / "tiny" / "4", base=10.0)
    (root / "tiny" / "notes").mkdir()
    config = root / "models.config"
    config.write_text(
        f"""model_config_list {{ config {{ name: "tiny" base_path: "{root}/tiny" model_platform: "tensorflow"
        model_version_policy {{ all {{}} }}
        version_labels {{ key: "stable" value: 4 }} version_labels {{ key: "old" value: 3 }} }} }}"""
    )
    return config


def save_tiny(directory: Path, *, base: float = 10.0, has_requests: bool = True) -> Path:
    """A whole export at `directory`: SavedModel, warm-up file, manifest with probes."""
    shutil.copytree(_made(base, has_requests), directory, dirs_exist_ok=True)
    return directory


@cache
def _made(base: float, has_requests: bool) -> Path:
    """An export to copy: to trace its functions and to write it takes a second."""
    directory = Path(mkdtemp(prefix="tiny-"))
    atexit.register(shutil.rmtree, directory)
    model, requests = Tiny(base), REQUESTS if has_requests else ()
    functions = {name: getattr(model, name) for name in ("serving_default", "recommend", "similar", "double", "echo")}
    tf.saved_model.save(model, str(directory), signatures=functions)
    if requests:
        write_warmup(directory, requests)
    manifest = Manifest(created_at=1, signatures=read_signatures(directory), probes=record_probes(functions, requests),
                        files=digests(directory))
    write_manifest(directory, manifest)
    return directory

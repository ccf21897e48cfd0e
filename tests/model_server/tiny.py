"""A SavedModel with tfrec's signatures whose answers can be worked out by hand: no weights, no training, made once a process."""
import atexit
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import tensorflow as tf

from tfrec.client.warmup import Request, read_signatures, record_probes, write_warmup
from tfrec.release.manifest import Manifest, write_manifest

ITEMS = ("a", "b", "c", "d", "e")

_TEXT = tf.TensorSpec([None], tf.string)
_TEXTS = tf.TensorSpec([None, None], tf.string)
_COUNT = tf.TensorSpec([None], tf.int32)
_LOGS = tf.TensorSpec([None, None], tf.float32)


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

    def _answer(self, hidden: tf.Tensor, query: tf.Tensor, k: tf.Tensor, prior: tf.Tensor | float = 0.0) -> dict[str, tf.Tensor]:
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

    @tf.function(input_signature=[_TEXTS, _TEXT, _COUNT])
    def serving_default(self, history: tf.Tensor, query: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._answer(history, query, k)

    @tf.function(input_signature=[_TEXTS, _TEXTS, tf.TensorSpec([None, None], tf.int64), _TEXT, _COUNT, *[_TEXTS] * 4, _LOGS])
    def recommend(
        self,
        history: tf.Tensor,
        history_action: tf.Tensor,
        history_age_s: tf.Tensor,
        query: tf.Tensor,
        k: tf.Tensor,
        exclude: tf.Tensor,
        allow_tags: tf.Tensor,
        deny_tags: tf.Tensor,
        prior_items: tf.Tensor,
        prior_log_p: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        same = tf.assert_equal(tf.shape(history), tf.shape(history_action))
        named = tf.cast(tf.equal(prior_items[:, :, None], self.ids[None, None]), tf.float32)
        with tf.control_dependencies([same, tf.assert_equal(tf.shape(history), tf.shape(history_age_s))]):
            prior = tf.reduce_sum(named * prior_log_p[:, :, None], axis=1)
            return self._answer(tf.concat([history, exclude], axis=1), query, k, prior)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32)])
    def double(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": 2.0 * x}

    @tf.function(input_signature=[_TEXT, _COUNT])
    def similar(self, item: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._answer(item[:, None], tf.zeros_like(item), k)

    @tf.function(input_signature=[_TEXT])
    def echo(self, item: tf.Tensor) -> dict[str, tf.Tensor]:
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
    manifest = Manifest(created_at=1, signatures=read_signatures(directory), probes=record_probes(functions, requests))
    write_manifest(directory, manifest)
    return directory

"""What needs the model: whether serving scored as training would (skew), and whether people search for other things than before.

Both are looked at once in a while, as a model takes seconds to load.
"""
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tensorflow as tf
from scipy import stats
from scipy.cluster.vq import kmeans2, vq

from tfrec.client.contract import signatures
from tfrec.client.logged_inputs import logged_inputs
from tfrec.client.padding import padded
from tfrec.config import Config
from tfrec.data.feedback_log.contexts import context_values
from tfrec.data.people.queries import is_hidden
from tfrec.data.records import boosts_of, pinned_of
from tfrec.errors import ModelError
from tfrec.graph.signatures import Graph
from tfrec.models.query_tower import HIDDEN
from tfrec.models.text_encoder import load_encoder
from tfrec.monitors.counted import Counted
from tfrec.monitors.estimates import GROUPS, MonitorFinding, compared, difference, jackknife, psi, unknown
from tfrec.ope import graph_of
from tfrec.release.manifest import CHECKPOINT

_REQUESTS, _LEAST, _AT_ONCE = 256, 20, 32
_TOLERANCE = 0.05  # between two scores, which are logits
_SKEWED = 0.05  # of the requests
_QUERIES, _CLUSTERS = 1_000, 12
_SAME = 1e-3  # between vectors of one text, computed in two batches


def skew(counts: Counted, config: Config, models: Path) -> MonitorFinding:
    """The share of logged requests that a version's checkpoint scores otherwise than the log says that it was served.

    It is of the version that answered most in the newest window. Requests with boosts or pins are left out.
    """
    cells = counts.parts("version")
    names, sums = cells.by_part(most=20)
    newest = sums[:, -1, : len(names)].sum(axis=0)
    known = [(n, int(name)) for n, name in zip(newest.tolist(), names, strict=True)
             if n and (models / name / CHECKPOINT).is_dir()]
    if not known:
        return unknown("no version that answered in the newest window is on disk")
    version = max(known)[1]
    rows = [one for one in _slates(counts.requests_of(version, most=_REQUESTS)) if not boosts_of(one["context"])
            and not pinned_of(one["context"])]
    if len(rows) < _LEAST:
        return unknown(f"needs {_LEAST} requests that version {version} answered by its scores and no rule changed, has "
                       f"{len(rows)}")
    try:
        graph, _ = graph_of(config, models / str(version))
    except ModelError as error:  # of a checkpoint or an encoder whose files are not those of its training
        return MonitorFinding("alarm", str(error))
    far = ~_scored_alike(graph, rows)
    sums = np.zeros((GROUPS, 2))
    np.add.at(sums, [one["grp"] for one in rows], np.stack([far, np.ones_like(far)], axis=1))
    share, deviation = jackknife(difference, sums, np.zeros_like(sums))
    width = deviation * float(stats.t.ppf(1 - config.monitors.level / 2, GROUPS - 1))
    what = f"requests of version {version} whose scores differ from those that were logged"
    return MonitorFinding("alarm" if share - width > _SKEWED else "ok", what, value=float(far.mean()), usual=0.0, change=share,
                   low=share - width, high=share + width, bound=_SKEWED)


def _slates(rows: pa.Table) -> list[dict[str, Any]]:
    """A row for each request, with the items and the scores of its slate; what the log has once is in the first row."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows.to_pylist():
        slate = found.setdefault(row["request_id"], row | {"items": [], "scores": []})
        slate["items"].append(row["item"])
        slate["scores"].append(row["score"])
    return list(found.values())


def _scored_alike(graph: Graph, rows: list[dict[str, Any]]) -> npt.NDArray[np.bool_]:
    """Whether the graph scores each request as the log has it. An item that the version does not have makes no difference."""
    names = signatures(context=bool(graph.features.width))["rank"][0]
    found = []
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        columns = {name: [one[name] for one in some] for name in some[0]}
        features = graph.features.readable(context_values(pa.chunked_array([columns["context"]], pa.string())))
        inputs = logged_inputs(columns, features) | {"candidates": padded(columns["items"], "")[:, 1:]}
        scores = graph.functions["rank"]({name: tf.constant(inputs[name]) for name in names})["scores"].numpy()
        for logged, own in zip(columns["scores"], scores, strict=True):
            there = own[: len(logged)] > HIDDEN / 2
            found.append(bool((np.abs(own[: len(logged)] - np.array(logged))[there] <= _TOLERANCE).all()))
    return np.array(found)


def queries(counts: Counted, config: Config) -> MonitorFinding:
    """Drift of what is searched for: of the shares of clusters of the queries' vectors."""
    if config.data.queries != "keep":
        return unknown(f"the log has no texts of queries: data.queries is {config.data.queries!r}")
    rows = counts.queries(most=_QUERIES)
    texts = rows["query"].to_pylist()
    newest = rows["window"].to_numpy() == counts.windows.count - 1
    if is_hidden(rows["query"]).to_numpy(zero_copy_only=False).any():
        return unknown("the log has queries that are not kept as text")
    if min(newest.sum(), (~newest).sum()) < config.monitors.min_requests / 5:
        return unknown(f"needs {config.monitors.min_requests / 5:g} searches in the newest window and before it, has "
                       f"{newest.sum()} and {(~newest).sum()}")
    different = sorted(set(texts))
    vectors = load_encoder(config.text).encode(different, role="query", batch_size=config.text.batch_size).astype(np.float64)
    of_row = np.searchsorted(np.array(different), np.array(texts))
    part = _parts(vectors, of_row[~newest])[of_row]
    sums = np.zeros((GROUPS, counts.windows.count, int(part.max()) + 1))
    np.add.at(sums, (rows["grp"].to_numpy(), rows["window"].to_numpy(), part), 1.0)
    return compared(psi, sums, counts=sums.sum(axis=(0, 2)), least=config.monitors.min_requests / 50, margin=config.monitors.psi,
                    level=config.monitors.level, side="rise", of="clusters of queries")


def _parts(vectors: npt.NDArray[np.float64], earlier: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """The cluster of each vector `[n]`, of those that rows of the earlier windows have; the last one is far from all of them.

    Far is farther than 99 of 100 earlier rows are from their own centre.
    """
    clusters = min(_CLUSTERS, len(np.unique(earlier)))
    if clusters < 2:  # nothing to tell apart, and k-means wants more points than clusters
        centres = vectors[earlier[:1]]
    else:
        centres, _ = kmeans2(vectors[earlier], clusters, minit="++", seed=0, missing="warn")
    nearest, distance = vq(vectors, centres)
    bound = np.quantile(distance[earlier], 0.99) + _SAME
    return np.where(distance > bound, len(centres), nearest).astype(np.int64)

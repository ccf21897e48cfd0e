"""Writes a recommender as a version directory, for `release.publish` and for the retrain that goes on from it.

    saved_model.pb  variables/                  the graph (`signatures.py`)
    assets.extra/                               the warm-up
    prior.npz  items.jsonl  unavailable.json    popularity, for the gateway; so are the names of numeric_columns.json,
    words.json  words_*                         and what it needs to search by words
    manifest.json                               lineage, digests, and probes answered by the model in memory
    checkpoint/                                 what the next retrain continues from

The directory appears by one rename, whole or not at all. The weights are those that the recommender has now: training leaves
their moving averages in place. Where the live version has the same graph, that is shared and not traced (`shared_graph.py`).
"""
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrec import __version__
from tfrec.client.warmup import Request, read_signatures, record_probes, write_warmup
from tfrec.data.staging import staging
from tfrec.errors import UsageError
from tfrec.graph.signatures import Graph
from tfrec.models.recommender import Recommender
from tfrec.models.text_encoder import load_encoder
from tfrec.release.file_digests import digests
from tfrec.release.lineage import Lineage
from tfrec.release.manifest import CHECKPOINT, Manifest, write_manifest
from tfrec.release.popularity_files import COLUMNS_FILE, HIDDEN_FILE, ITEMS_FILE, PRIOR_FILE, write_columns, write_prior
from tfrec.release.recorded_requests import asked_of_shared, cold_signatures, recorded_requests
from tfrec.release.shared_graph import SharedGraph
from tfrec.release.weight_shards import split
from tfrec.release.words.word_files import WORD_FILES, write_words
from tfrec.training import checkpoint

_FIRST = Lineage()
FOR_GATEWAY = (PRIOR_FILE, ITEMS_FILE, HIDDEN_FILE, COLUMNS_FILE, *WORD_FILES)


def export(
    recommender: Recommender,
    directory: str | Path,
    *,
    created_at: int,
    lineage: Lineage = _FIRST,
    parent: Path | None = None,
    optimizer: tf.keras.optimizers.Optimizer | None = None,
    result: Mapping[str, Any] | None = None,
) -> Path:
    """Write `directory`, which must not exist, and return it.

    Args:
        recommender: what is exported, with the weights, items, texts and popularity that it has now.
        directory: of the export.
        created_at: seconds since 1970.
        lineage: where the model comes from; by default from a first training.
        parent: directory of the live version, whose graph is shared where it is the same; None traces a graph.
        optimizer: the one that trained it: the next retrain goes on with its moments.
        result: what the exporting retrain reports, for the case that it is killed once this is published.

    Raises:
        UsageError: `directory` exists or cannot be made; nothing has been done.
    """
    directory = Path(directory)
    with _making(directory) as made:
        graph = Graph(recommender, load_encoder(recommender.config.text))
        requests, shared = recorded_requests(recommender), SharedGraph.of(parent, graph)
        if shared is not None:
            shared.write(made, graph)
        else:
            tf.saved_model.save(graph.module(), str(made), signatures=graph.signatures())
            split(made / "variables")
        warm = [request for request in requests if request.signature not in cold_signatures(recommender.config)]
        write_warmup(made, warm, model=recommender.config.serving.model_name)
        write_for_gateway(made, recommender, graph)
        meta = {"held_back": list(lineage.held_back)} | ({} if result is None else {"result": dict(result)})
        checkpoint.save(made / CHECKPOINT, recommender, optimizer=optimizer, meta=meta)
        asked = requests if shared is None else asked_of_shared(requests)
        write_manifest(made, _manifest(made, graph, recommender, asked, lineage, created_at=created_at,
                                       known=None if shared is None else shared.digests))
        made.rename(directory)
    return directory


def write_for_gateway(made: Path, recommender: Recommender, graph: Graph) -> None:
    """Write into a version what a gateway reads of it: `FOR_GATEWAY`."""
    catalogue = recommender.catalogue
    write_prior(made, recommender.prior, catalogue.ids.tolist(), hidden=catalogue.unavailable)
    write_columns(made, catalogue.numeric_columns)
    write_words(made, graph.plain_words())


def _manifest(made: Path, graph: Graph, recommender: Recommender, requests: list[Request], lineage: Lineage, *,
              created_at: int, known: dict[str, str] | None) -> Manifest:
    """The manifest of an export whose other files are all in `made`."""
    return Manifest(
        identity=lineage.identity,
        parent=lineage.parent,
        created_at=created_at,
        window=None if lineage.window is None else dict(lineage.window),
        slates_until=lineage.slates_until,
        learnt=lineage.learnt, erasures=lineage.erasures, traces=tuple(lineage.traces),
        config_digest=recommender.config.digest(),
        catalogue_digest=recommender.catalogue.digest(),
        code_version=__version__,
        graph_digest=graph.digest,
        scorecard=dict(lineage.scorecard),
        index=graph.measured,
        signatures=read_signatures(made),
        shortlist=graph.shortlist,
        probes=record_probes(graph.functions, requests),
        files=digests(made, known=known),
    )


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

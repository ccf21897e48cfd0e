"""An export that shares the graph of the live version: nothing is traced, and only the towers and the catalogue are written.

A retrain changes the values of variables and not the graph. Where the digest of a graph (`graph/graph_digest.py`) is that of the
parent's, the SavedModel and the text encoder are hard links to the parent's files. Tracing, and writing an encoder that nobody
has changed, is most of the time of an export; that a server still computes what it did is proven by the digests of these files.
"""
import logging
import shutil
from pathlib import Path

from tfrec.data.staging import link
from tfrec.errors import ServingError
from tfrec.graph.served_weights import ENCODER, TOWERS, Variables
from tfrec.graph.signatures import Graph
from tfrec.release.file_digests import check_files
from tfrec.release.manifest import Manifest, read_manifest
from tfrec.release.weight_shards import CATALOGUE, data_file, parts_of, share, stored

log = logging.getLogger(__name__)

GRAPH_FILE = "saved_model.pb"
_SIZES = "fingerprint.pb"  # TensorFlow's own digests, which a server logs


def graph_files(version_dir: Path) -> list[str]:
    """The files of a version that are its graph: the SavedModel and the weights of the text encoder."""
    names = parts_of(version_dir / "variables")
    encoder = [f"variables/{data_file(names.index(ENCODER), len(names))}"] if ENCODER in names else []
    return [GRAPH_FILE, *encoder]


def shares_graph(version_dir: Path, manifest: Manifest, parent: Path | None) -> bool:
    """Whether a version has the graph and the text encoder of `parent`: their files have the same SHA-256."""
    if parent is None:
        return False
    try:
        theirs = read_manifest(parent).files
    except ServingError:
        return False
    files = graph_files(version_dir)
    return len(files) > 1 and all(name in theirs and theirs[name] == manifest.files.get(name) for name in files)


class SharedGraph:
    """The version whose graph an export shares.

    Attributes:
        digests: of the files that are shared, by their paths in the version.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._directory = directory
        self.digests = {name: manifest.files[name] for name in (*graph_files(directory), _SIZES) if name in manifest.files}

    @classmethod
    def of(cls, parent: Path | None, graph: Graph) -> "SharedGraph | None":
        """The version in the directory `parent`, if it has the graph that `graph` would be traced into; else None."""
        if parent is None:
            return None
        try:
            manifest = read_manifest(parent)
            if not manifest.graph_digest or manifest.graph_digest != graph.digest:
                return None
            found = cls(parent, manifest)
            for name in found.digests:
                check_files(parent, manifest, below=name)
        except ServingError as error:
            log.warning("the graph is traced anew: %s", error)
            return None
        return found if found._fits(graph) else None

    def write(self, made: Path, graph: Graph) -> None:
        """Fill the directory `made` with the SavedModel: links to what is shared, and the weights that `graph` has now."""
        for name in (GRAPH_FILE, _SIZES):
            if (self._directory / name).is_file():
                link(str(self._directory / name), str(made / name))
        if (self._directory / "assets").is_dir():
            shutil.copytree(self._directory / "assets", made / "assets", copy_function=link)
        towers = stored(self._directory / "variables", TOWERS)
        share(self._directory / "variables", made / "variables",
              {TOWERS: {name: graph.tower_weights[name] for name in towers}, CATALOGUE: graph.catalogue_state})

    def _fits(self, graph: Graph) -> bool:
        """Whether the stored variables are those of the graph; the digest says so, and nothing is written on its word alone."""
        def fits(part: str, variables: Variables) -> bool:
            found = stored(self._directory / "variables", part)
            return bool(found) and all(
                name in variables and variables[name].dtype == dtype and variables[name].shape.is_compatible_with(shape)
                for name, (dtype, shape) in found.items())

        variables = self._directory / "variables"
        return (fits(TOWERS, graph.tower_weights) and fits(CATALOGUE, graph.catalogue_state) and not stored(variables, "weights")
                and stored(variables, CATALOGUE).keys() == graph.catalogue_state.keys())

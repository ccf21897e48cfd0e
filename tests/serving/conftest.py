"""Servers for the tests: a whole one in this process for most, in a process of its own where that is what is tested."""
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.once import once
from tests.serving.tiny import save_two
from tests.serving.tiny_recommender import recommender
from tfrec.models.recommender import Recommender
from tfrec.serving.embedded import EmbeddedServer
from tfrec.serving.export import export
from tfrec.serving.process import free_port
from tfrec.serving.saved_model import SavedModel
from tfrec.serving.server import ServeOptions


@dataclass(frozen=True)
class Running:
    """Where a server listens."""

    grpc: str
    rest: str
    base_path: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serves what `save_two` saves."""
    root = tmp_path_factory.mktemp("models")
    options = ServeOptions(
        port=free_port(),
        rest_api_port=free_port(),
        model_config_file=str(save_two(root)),
        allow_version_labels_for_unavailable_models=True,
        host="127.0.0.1",
    )
    running = EmbeddedServer(options, stopping=threading.Event())
    running.start()
    yield Running(f"127.0.0.1:{options.port}", f"http://127.0.0.1:{options.rest_api_port}", root / "tiny")
    running.stop()


@pytest.fixture(scope="session")
def model(shared: Path, tiny_checkpoint: str) -> Recommender:
    """A recommender, to be read only."""
    return recommender(shared / "run", tiny_checkpoint)


@pytest.fixture(scope="session")
def version(shared: Path, model: Recommender) -> Path:
    """Its export, as version 3 of "tfrec"; to be read only."""
    def build(directory: Path) -> None:
        export(model, directory, created_at=5, parent=2, window={"end": {"gateway": 9}}, scorecard={"hr@10": 0.1},
               identity="job-1", held_back=[["u1", "i2"]])

    return once(shared / "models" / "tfrec" / "3", build)


@pytest.fixture(scope="session")
def served(version: Path) -> SavedModel:
    """The export as a server has it."""
    return SavedModel(version)

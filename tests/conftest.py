"""Set before anything is imported: Keras 2 for the process, and TensorFlow's start-up lines kept out of the test output."""
import gc
import logging
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

settings.register_profile("tfrec", deadline=None)  # a shared machine stalls for longer than any one example takes
settings.load_profile("tfrec")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors that matter are raised, not logged
# what is compiled runs a few times: to compile it well takes twice as long as to compile it
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from tests.once import once  # noqa: E402
from tfrec.terminal import end, quiet_native_code  # noqa: E402  before any test module can import TensorFlow

if TYPE_CHECKING:
    from tests.forked import Forks
    from tests.model_server.tiny import Running
    from tfrec.model_server.saved_model import SavedModel
    from tfrec.models.recommender import Recommender

Report = pytest.CollectReport


# files that take longest, so that with two workers neither waits for the other's last one; 5 seconds and more each
LONGEST_FIRST = (
    "test_shop", "test_loop", "test_shared_graph", "test_job", "test_tune", "test_slate_laws", "test_trainer", "test_settle",
    "test_slates", "test_planted_faults", "test_replicas", "test_outdated", "test_delta", "test_ope", "test_join_windows",
    "test_session", "test_notebook", "test_imports", "test_server", "test_two_tower", "test_learning", "test_object_store",
)


class QuietDirectories:
    """pytest captures what test files print when they are imported, but not what the conftest.py of a directory prints."""

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Report, Report]:
        if not isinstance(collector, pytest.Directory):
            return (yield)
        with quiet_native_code():
            return (yield)


def pytest_configure(config: pytest.Config) -> None:
    # as a plugin: hooks in a conftest.py are not called for directories below it
    config.pluginmanager.register(QuietDirectories())
    gc.set_threshold(100_000, 50, 100)  # see `few_collections`


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="module", autouse=True)
def few_collections() -> None:
    """TensorFlow's graphs are millions of objects, which the collector of cycles would walk again and again.

    Each module's leftovers are taken once, and what stays is not looked at any more.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers have; see `once`."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"


@pytest.fixture(scope="session")
def tiny_checkpoint(shared: Path) -> str:
    """Directory of a BERT of width 16 with random weights: a text tower that costs nothing."""
    from tests.models.bert.tiny import write_bert

    return str(once(shared / "bert", write_bert))


@pytest.fixture(scope="session", autouse=True)
def graphs_as_they_are_written() -> None:
    """Most graphs of tests run once or twice: to optimise one takes longer than that saves. Processes that tests start do it."""
    if "tensorflow" in sys.modules:
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(scope="session")
def forks() -> Iterator["Forks"]:
    """For servers that need not start from nothing."""
    from tests.forked import Forks

    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture(scope="module")
def forked(forks: "Forks") -> Iterator[None]:
    """Verifiers and the demo's servers are forked in this module."""
    with forks.servers():
        yield


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Running"]:
    """A model server in this process; it serves what `save_two` saves."""
    from tests.model_server.tiny import Running, save_two
    from tfrec.model_server.embedded import EmbeddedServer
    from tfrec.model_server.options import ServeOptions
    from tfrec.model_server.process import free_port

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
def model(shared: Path, tiny_checkpoint: str) -> "Recommender":
    """A recommender of 60 items, to be read only."""
    from tests.graph.tiny_recommender import recommender

    return recommender(shared / "run", tiny_checkpoint)


@pytest.fixture(scope="session")
def version(shared: Path, model: "Recommender") -> Path:
    """Its export, as version 3 of "tfrec"; to be read only."""
    from tfrec.release.export import export
    from tfrec.release.lineage import Lineage

    def build(directory: Path) -> None:
        lineage = Lineage(parent=2, window={"end": {"gateway": 9}}, scorecard={"hr@10": 0.1}, identity="job-1",
                          held_back=[["u1", "i2"]])
        export(model, directory, created_at=5, lineage=lineage)

    return once(shared / "models" / "tfrec" / "3", build)


@pytest.fixture(scope="session")
def served(version: Path) -> "SavedModel":
    """The export as a server has it."""
    from tfrec.model_server.saved_model import SavedModel

    return SavedModel(version)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """`call("join", "--json")` -> exit code, standard output, standard error."""
    from tfrec.cli.app import app

    def run(*words: object) -> tuple[int, str, str]:
        code = end(lambda: app([str(word) for word in words], prog_name="tfrec"))
        return code, *capsys.readouterr()

    logger = logging.getLogger("tfrec")
    before = logger.handlers[:], logger.level, logger.propagate
    yield run
    logger.handlers[:], logger.level, logger.propagate = before

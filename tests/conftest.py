"""Set before anything is imported: Keras 2 for the process, and TensorFlow's start-up lines kept out of the test output."""
import gc
import logging
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("tfrec", deadline=None)  # a shared machine stalls for longer than any one example takes
settings.load_profile("tfrec")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors that matter are raised, not logged
# what is compiled runs a few times: to compile it well takes twice as long as to compile it
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from tests.once import once  # noqa: E402
from tfrec.terminal import end, held_back  # noqa: E402  before any test module can import TensorFlow

Report = pytest.CollectReport


# files that take longest, so that with two workers neither waits for the other's last one; 20 seconds and more each
LONGEST_FIRST = (
    "test_shop", "test_retrain", "test_planted_faults", "test_delta", "test_replicas", "test_tune", "test_slate_course",
    "test_retrain_slates", "test_verify", "test_notebook", "test_two_tower", "test_slate_laws", "test_join", "test_ope",
    "test_server", "test_signatures", "test_families", "test_export", "test_checkpoint", "test_pointwise", "test_gateway",
)


class QuietDirectories:
    """pytest captures what test files print when they are imported, but not what the conftest.py of a directory prints."""

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Report, Report]:
        if not isinstance(collector, pytest.Directory):
            return (yield)
        with held_back():
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
    from tests.models.tiny import write_bert

    return str(once(shared / "bert", write_bert))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """`call("join", "--json")` -> exit code, standard output, standard error."""
    from tfrec.cli import app

    def run(*words: object) -> tuple[int, str, str]:
        code = end(lambda: app([str(word) for word in words], prog_name="tfrec"))
        return code, *capsys.readouterr()

    logger = logging.getLogger("tfrec")
    before = logger.handlers[:], logger.level, logger.propagate
    yield run
    logger.handlers[:], logger.level, logger.propagate = before

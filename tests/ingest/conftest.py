"""A run to ingest into, and what is then in its log."""
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pytest

from tfrec.config import Config
from tfrec.data.feedback_log.log import FeedbackLog


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory."""
    return tmp_path_factory.mktemp("beside") / "run"


@pytest.fixture
def config(run: Path) -> Config:
    """Its settings, with commits that do not wait."""
    return Config.model_validate({"run": run, "ingest": {"commit_seconds": 0.05}})


@pytest.fixture
def logged(run: Path) -> Callable[[], tuple[Counter[str], Counter[str]]]:
    """`logged()` -> how often each request (an item of it) and each event is in the log."""
    def count() -> tuple[Counter[str], Counter[str]]:
        log = FeedbackLog(run / "log")
        shown, done = log.read("impressions"), log.read("outcomes")
        first = shown.filter(pc.equal(shown["position"], 0))
        return Counter(first["request_id"].to_pylist()), Counter(done["event_id"].to_pylist())

    return count

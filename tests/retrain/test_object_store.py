"""A retrain on a machine that has nothing: the log, the examples and the versions are in an object store."""
import shutil
from dataclasses import asdict
from pathlib import Path
from unittest import mock

from tests.object_store import local_s3, needs_s3
from tests.retrain.test_job import EVENTS, NOW, VERIFY, cheap, published  # noqa: F401  fixtures
from tfrec.config import Config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.settled.examples import SettledExamples
from tfrec.release.manifest import read_manifest
from tfrec.release.publish import pull, versions
from tfrec.release.shared_versions import store_of
from tfrec.retrain import PROMOTED, WAITING, retrain


@needs_s3
def test_it_ends_as_one_on_a_disk_and_another_machine_goes_on(published: Config, tmp_path: Path) -> None:  # noqa: F811
    local, first, second = (published.model_copy(update={"run": tmp_path / name}) for name in ("local", "first", "second"))
    shutil.copytree(published.run, local.run)
    with local_s3(), mock.patch(VERIFY):
        expected = retrain(local, now=NOW)
        shared = {"data": published.data.model_copy(update={"log": "s3://bucket/log", "examples": "s3://bucket/examples"}),
                  "serving": published.serving.model_copy(update={"models": "s3://bucket/models"})}
        first, second = (config.model_copy(update=shared) for config in (first, second))
        rows = FeedbackLog(published.log_dir).read("outcomes")
        FeedbackLog(first.log_uri).tables["outcomes"].append(rows, writer="test")
        pull(published.models_dir, store_of(first))  # a run from before there was a store
        assert not first.run.exists()

        result = retrain(first, now=NOW)
        assert (result.outcome, result.version, result.events) == (PROMOTED, 2, EVENTS)
        assert asdict(result) | {"seconds": {}} == asdict(expected) | {"seconds": {}}
        store = store_of(first)
        assert store is not None
        assert store.versions() == versions(first.models_dir) == [1, 2]
        assert read_manifest(first.models_dir / "2").parent == 1
        assert SettledExamples(first.examples_uri).last() == SettledExamples(local.examples_uri).last()

        again = retrain(second, now=NOW + 10)  # nothing is new but what judged the first run
        assert (again.outcome, again.version, versions(second.models_dir)) == (WAITING, 2, [2])
        assert 0 < again.events < EVENTS

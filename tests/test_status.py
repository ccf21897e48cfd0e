"""What a run directory holds, in words and numbers."""
import pytest

from tfrec.config import Config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.records import Outcome
from tfrec.errors import DataError, ServingError
from tfrec.model_server.process import free_port
from tfrec.release.manifest import Manifest, write_manifest
from tfrec.status import status


def test_versions_come_newest_first_with_where_they_are_from(tmp_path):
    config = Config(run=tmp_path)
    for number, manifest in {
        1: Manifest(version=1, created_at=0),
        2: Manifest(version=2, created_at=60, parent=1),
        3: Manifest(version=3, created_at=120, copy_of=1, rolled_back_from=2),
    }.items():
        (config.models_dir / str(number)).mkdir(parents=True)
        write_manifest(config.models_dir / str(number), manifest)
    config.log_dir.mkdir()
    found = status(config)
    assert (found["model"], found["log"]) == ("tfrec", {"impressions": 0, "outcomes": 0})
    assert [(v["version"], v["parent"], v["copy_of"], v["rolled_back_from"]) for v in found["versions"]] == [
        (3, None, 1, 2),
        (2, 1, None, None),
        (1, None, None, None),
    ]
    assert found["versions"][1]["created_at"] == "1970-01-01 00:01:00+00:00"


def test_a_truncated_table_is_named(tmp_path):
    log = FeedbackLog(Config(run=tmp_path).log_dir)
    outcome = Outcome(event_id="e", user="u", item="a", action="click", time=5)
    log.append("outcomes", [(1, outcome.model_dump_json())], writer="w")
    [part] = (tmp_path / "log" / "outcomes").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(DataError, match=rf"{part}: truncated or damaged"):
        status(Config(run=tmp_path))


def test_an_empty_run_has_nothing(tmp_path):
    found = status(Config(run=tmp_path / "new"))
    assert (found["log"], found["versions"]) == ({}, [])


def test_a_server_that_is_not_there_is_named(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ServingError, match=f"{address}/v1/models/tfrec: no model server answers there"):
        status(Config(run=tmp_path), server=address)


def test_a_version_that_cannot_be_read_hides_no_other(tmp_path):
    config = Config(run=tmp_path)
    for number in (1, 2, 3):
        (config.models_dir / str(number)).mkdir(parents=True)
        write_manifest(config.models_dir / str(number), Manifest(version=number, created_at=60))
    (config.models_dir / "2" / "manifest.json").write_text("{")
    (config.models_dir / "3" / "manifest.json").unlink()
    newest, damaged, sound = status(config)["versions"]
    assert (newest["version"], "no manifest" in newest["error"]) == (3, True)
    assert (damaged["version"], "manifest.json: the file: " in damaged["error"]) == (2, True)
    assert (sound["version"], "error" in sound) == (1, False)

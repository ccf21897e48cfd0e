"""The manifest survives a round trip, infinities included, and says what is wrong with a file that is none."""
import json
import math
from pathlib import Path

import pytest

from tfrec.client.contract import Probe, Signature, TensorSpec
from tfrec.errors import ServingError
from tfrec.release.manifest import Manifest, read_manifest, write_manifest

MANIFEST = Manifest(
    version=7,
    parent=6,
    created_at=1_700_000_000,
    window={"start": {"w": 1}, "end": {"w": 9}},
    scorecard={"hr@10": 0.08},
    signatures={
        "s": Signature(
            inputs={"query": TensorSpec(dtype="string", shape=(None,))},
            outputs={"scores": TensorSpec(dtype="float32", shape=(None, None))},
        )
    },
    probes=(Probe(signature="s", inputs={"query": ["x"]}, outputs={"scores": [[1.5, -0.25]]}),),
)


def test_round_trip(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_infinity_is_text_so_that_the_file_is_json(tmp_path: Path) -> None:
    probe = Probe(signature="s", inputs={}, outputs={"scores": [[1.5, -math.inf]]})
    path = write_manifest(tmp_path, Manifest(created_at=1, probes=(probe,)))
    raw = json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert raw["probes"][0]["outputs"]["scores"] == [[1.5, "-Infinity"]]


def test_a_hard_link_to_the_old_manifest_keeps_the_old(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    path = write_manifest(tmp_path, MANIFEST)
    (tmp_path / "old" / "manifest.json").hardlink_to(path)
    write_manifest(tmp_path, MANIFEST.model_copy(update={"version": 8}))
    assert read_manifest(tmp_path).version == 8
    assert read_manifest(tmp_path / "old").version == 7


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"manifest\.json: no manifest.*tfrec export"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text('{"created_at": -1}')
    with pytest.raises(ServingError, match=r"manifest\.json: created_at: .*Export the model again"):
        read_manifest(tmp_path)

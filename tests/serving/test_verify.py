"""A fresh server's answers are held against the model's: one real process for the good case, the comparison on its own."""
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving.conftest import Running
from tests.serving.tiny import save_tiny
from tfrec.errors import ServingError
from tfrec.serving.client import Client
from tfrec.serving.manifest import read_manifest, write_manifest
from tfrec.serving.verify import _difference, _wrong, verify
from tfrec.serving.warmup import WARMUP_FILE


def test_one_wrong_answer_of_a_fresh_server_is_told(tmp_path: Path) -> None:
    export = save_tiny(tmp_path / "export")
    manifest = read_manifest(export)
    probe = manifest.probes[1].model_copy(update={"outputs": {"y": [[2.0, 4.5]]}})
    write_manifest(export, manifest.model_copy(update={"probes": (manifest.probes[0], probe)}))
    with pytest.raises(ServingError, match=r"export: not verified.*probe 1 \(double\): y\[0, 1\]: expected 4.5, got 4.0"):
        verify(export, seconds=60)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"items": [["d", "a", "c"]], "scores": [[107.0, 10.0, 8.0]]}, ""),
        ({"items": [["d", "c", "a"]], "scores": [[107.0, 10.0, 8.0]]}, "items[0, 1]: expected b'c', got b'a' (2 of 3 differ)"),
        ({"items": [["d", "a"]], "scores": [[107.0, 10.0]]}, "items: expected the shape (1, 2), got (1, 3)"),
        ({"items": [["d", "a", "c"]]}, "expected the outputs ['items'], got ['items', 'scores']"),
    ],
)
def test_differences_are_told_in_words(server: Running, outputs: dict[str, Any], message: str) -> None:
    manifest = read_manifest(server.base_path / "4")
    with Client(server.grpc, model="tiny") as client:
        assert _difference(client, manifest, manifest.probes[0].model_copy(update={"outputs": outputs})) == message


def test_the_time_limit_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"not verified.*did not answer within 0.2 s"):
        verify(save_tiny(tmp_path / "export"), seconds=0.2)


def test_what_cannot_be_verified_is_refused(tmp_path: Path) -> None:
    export = save_tiny(tmp_path / "export", requests=())
    with pytest.raises(ServingError, match="no probes or no assets.extra"):
        verify(export)
    export = save_tiny(tmp_path / "cold")
    (export / WARMUP_FILE).unlink()
    with pytest.raises(ServingError, match="no probes or no assets.extra"):
        verify(export)


SCORES = np.array([[3.0, 2.0, 2.00005, -np.inf]], np.float32)


@pytest.mark.parametrize(
    ("got", "wrong"),
    [
        ([[b"a", b"b", b"c", b""]], [False, False, False, False]),
        ([[b"a", b"c", b"b", b""]], [False, False, False, False]),  # a tie
        ([[b"b", b"a", b"c", b""]], [True, True, False, False]),
        ([[b"a", b"b", b"d", b""]], [False, False, True, False]),
    ],
)
def test_items_may_change_places_only_in_a_tie(got: list[list[bytes]], wrong: list[bool]) -> None:
    expected = np.array([[b"a", b"b", b"c", b""]], object)
    assert _wrong(expected, np.array(got, object), scores=SCORES)[0].tolist() == wrong
    assert _wrong(expected, np.array(got, object), scores=None).tolist() == (expected != np.array(got, object)).tolist()


def test_numbers_agree_to_1e_4_infinities_included() -> None:
    assert not _wrong(SCORES, SCORES + np.float32(5e-5), scores=None).any()
    assert _wrong(SCORES, SCORES + np.float32(1e-2), scores=None)[0].tolist() == [True, True, True, False]


def test_an_item_from_beyond_the_list_may_tie_with_its_last() -> None:
    expected = np.array([[b"a", b"b"]], object)
    scores = np.array([[3.0, 2.0]], np.float32)
    assert not _wrong(expected, np.array([[b"a", b"z"]], object), scores=scores).any()
    assert _wrong(expected, np.array([[b"z", b"b"]], object), scores=scores)[0].tolist() == [True, False]

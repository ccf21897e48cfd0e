"""A fresh server's answers are held against the model's: one real process for the good case, the comparison on its own."""
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.model_server.tiny import Running
from tfrec.client.client import Client
from tfrec.errors import NotVerified
from tfrec.release.manifest import read_manifest, write_manifest
from tfrec.release.probes import differing, probe_difference
from tfrec.release.verify import Verifier, verify


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
        probe = manifest.probes[0].model_copy(update={"outputs": outputs})
        assert probe_difference(lambda *asked: client.predict(*asked).outputs, manifest, probe) == message


def test_a_server_that_uses_up_its_time_is_not_waited_for(version: Path) -> None:
    with pytest.raises(NotVerified, match=r"not verified.*did not answer within 0.2 s of processor time"):
        verify(version, seconds=0.2)


def test_the_installed_model_server_verifies_whatever_its_parent_is(
        version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A stand-in on the PATH notes its flags and serves as the real one would. A parent that it cannot load keeps nobody out."""
    binary, noted = tmp_path / "tensorflow_model_server", tmp_path / "flags"
    binary.write_text(f"""#!/bin/sh
echo "$@" > {noted}
exec {sys.executable} -m tfrec.model_server.server "$@"
""")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    broken = shutil.copytree(version, tmp_path / "1")
    (broken / "saved_model.pb").write_bytes(b"broken")
    write_manifest(broken, read_manifest(broken).model_copy(update={"files": {}}))  # it shares nothing
    assert verify(version, parent=broken) == len(read_manifest(version).probes)
    assert "nothing is compared with it" in caplog.text
    flags = noted.read_text()
    assert "--model_config_file=" in flags
    assert not {"--host", "--parent", "--poll_seconds"} & {word.partition("=")[0] for word in flags.split()}


def test_what_killed_verifiers_left_is_swept(version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "tfrec-verify-1-abc").mkdir()
    with Verifier():
        [directory] = tmp_path.glob("tfrec-verify-*")
        assert directory.name != "tfrec-verify-1-abc"
    assert list(tmp_path.glob("tfrec-verify-*")) == []


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
def test_items_may_swap_positions_only_in_a_tie(got: list[list[bytes]], wrong: list[bool]) -> None:
    expected = np.array([[b"a", b"b", b"c", b""]], object)
    assert differing(expected, np.array(got, object), scores=SCORES)[0].tolist() == wrong
    assert differing(expected, np.array(got, object), scores=None).tolist() == (expected != np.array(got, object)).tolist()


def test_numbers_agree_to_1e_4_infinities_included() -> None:
    assert not differing(SCORES, SCORES + np.float32(5e-5), scores=None).any()
    assert differing(SCORES, SCORES + np.float32(1e-2), scores=None)[0].tolist() == [True, True, True, False]


def test_an_item_from_beyond_the_list_may_tie_with_its_last() -> None:
    expected = np.array([[b"a", b"b"]], object)
    scores = np.array([[3.0, 2.0]], np.float32)
    assert not differing(expected, np.array([[b"a", b"z"]], object), scores=scores).any()
    assert differing(expected, np.array([[b"z", b"b"]], object), scores=scores)[0].tolist() == [True, False]

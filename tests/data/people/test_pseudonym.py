"""Pseudonyms are stable for a key, different between keys, and the key is made once and kept from others."""
import hashlib
import hmac
import stat
from pathlib import Path

import pytest

from tfrec.data.people.pseudonym import Pseudonyms, load_pseudonyms
from tfrec.errors import ServingError, UsageError


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TFREC_PSEUDONYM_KEY", raising=False)


def test_a_keyed_hash() -> None:
    key = b"0123456789abcdef"
    assert Pseudonyms(key).of("jürgen") == hmac.new(key, "jürgen".encode(), hashlib.sha256).hexdigest()[:32]
    assert Pseudonyms(key).of("a") != Pseudonyms(key[::-1]).of("a")


def test_the_key_is_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    first = load_pseudonyms(tmp_path / "run").of("a")
    assert load_pseudonyms(tmp_path / "run").of("a") == first
    assert load_pseudonyms(tmp_path / "other").of("a") != first
    path = tmp_path / "run" / "pseudonym.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["pseudonym.key"]


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFREC_PSEUDONYM_KEY", "k" * 16)
    assert load_pseudonyms(tmp_path).of("a") == Pseudonyms(b"k" * 16).of("a")
    assert list(tmp_path.iterdir()) == []


def test_weak_and_broken_keys_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pseudonym.key").write_bytes(b"\xff\xfe")
    with pytest.raises(ServingError, match=r"pseudonym\.key: the pseudonym key cannot be read"):
        load_pseudonyms(tmp_path)
    monkeypatch.setenv("TFREC_PSEUDONYM_KEY", "short")
    with pytest.raises(UsageError, match="at least 16 bytes, got 5"):
        load_pseudonyms(tmp_path)

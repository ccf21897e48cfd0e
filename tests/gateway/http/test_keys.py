"""The file of keys."""
import hashlib
import logging
import os
from pathlib import Path

import pytest

from tfrec.errors import UsageError
from tfrec.gateway.http.keys import Keys


def sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_without_a_file_everyone_may_do_all() -> None:
    caller = Keys(None).caller(None)
    assert caller is not None
    assert caller.roles == {"serve", "log", "explain", "forget", "review"}


def test_keys_are_read_again_when_the_file_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys"
    path.write_text(f"shop serve {sha('old')}\n")
    keys = Keys(path, rate=3.0, look_seconds=0.0)

    def change(text: str) -> None:
        path.write_text(text)
        os.utime(path, ns=(1, os.stat(path).st_mtime_ns + 1))

    first = keys.caller(b"old")
    assert first is not None
    assert keys.caller(b"new") is None
    change(f"shop serve {sha('old')}\nshop serve {sha('new')}\n\n# rotated\n")
    second = keys.caller(b"new")
    assert second is not None
    assert second.bucket is first.bucket  # a new key is no new allowance
    change("shop serve not-a-hash\n")
    with caplog.at_level(logging.ERROR):
        assert keys.caller(b"old") is not None
    assert "keys line 1: expected name roles sha256 [rate]" in caplog.text
    assert "not-a-hash" not in caplog.text  # it may be a key
    change(f"shop log {sha('new')} 9\n")
    third = keys.caller(b"new")
    assert third is not None
    assert (keys.caller(b"old"), third.roles, third.bucket.rate) == (None, {"log"}, 9.0)


@pytest.mark.parametrize("text", ["shop", f"shop admin {sha('k')}", f"shop serve {sha('k')[1:]}", f"shop serve {sha('k')} fast"])
def test_a_line_that_is_no_key_is_told_by_its_number(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(f"# keys\n{text}\n")
    with pytest.raises(UsageError, match="keys line 2: expected name roles"):
        Keys(tmp_path / "keys")
    with pytest.raises(UsageError, match="gateway.keys: .*none cannot be read"):
        Keys(tmp_path / "none")

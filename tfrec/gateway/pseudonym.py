"""Pseudonyms: users are logged under a keyed hash of their id, so that a log on its own names nobody.

The key comes from TFREC_PSEUDONYM_KEY, or from a file of the run that is made at the first start. With the key and the log one
can test a guess. Without the key nobody can tell which rows belong to a user. A plain hash would not do: user ids are so few that
all of them can be tried.
"""
import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from tfrec.data import durable_files
from tfrec.errors import ServingError, UsageError

_MIN_BYTES = 16  # 128 bits: too many keys to try
_DIGITS = 32  # of 64; the chance that two of a billion users get the same pseudonym is 1e-21


class Pseudonyms:
    """Gives each user 32 hexadecimal digits, the same ones for the same key.

    Raises:
        UsageError: the key is too short.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < _MIN_BYTES:
            advice = "Make one: openssl rand -hex 32"
            raise UsageError(f"The pseudonym key must have at least {_MIN_BYTES} bytes, got {len(key)}. {advice}")
        self._key = key

    def of(self, user: str) -> str:
        """The pseudonym of `user`."""
        return hmac.new(self._key, user.encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def load_pseudonyms(run: str | Path) -> Pseudonyms:
    """The pseudonyms of a run: by TFREC_PSEUDONYM_KEY if it is set, else by `<run>/pseudonym.key`, which is made if missing.

    Raises:
        ServingError: the file cannot be read.
    """
    named = os.environ.get("TFREC_PSEUDONYM_KEY")
    if named is not None:
        return Pseudonyms(named.encode())
    path = Path(run) / "pseudonym.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with contextlib.suppress(FileExistsError):  # of two processes that start at once, the first one's key stays
            durable_files.create(path, f"{secrets.token_hex(32)}\n".encode())
    try:
        return Pseudonyms(path.read_text(encoding="ascii").strip().encode())
    except (OSError, UnicodeDecodeError) as error:
        raise ServingError(f"{path}: the pseudonym key cannot be read: {error}. Restore it from a backup.") from error

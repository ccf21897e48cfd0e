"""User keys as they reach the disk: a keyed hash, so that a log on its own names nobody.

The key comes from TFREC_PSEUDONYM_KEY, or from a file of the run that is made at the first start. Whoever has key and log can
test a guess; whoever loses the key can no longer tell which rows are a person's. A plain hash would not do: user keys are few
enough to try them all.
"""
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from tfrec.errors import ServingError, UsageError

_MIN_BYTES = 16  # 128 bits cannot be tried
_DIGITS = 32  # of 64: two of a billion users are the same person with a chance of 1e-21


class Pseudonyms:
    """`of(user)` gives the same 32 hexadecimal digits for the same user and key."""

    def __init__(self, key: bytes) -> None:
        if len(key) < _MIN_BYTES:
            advice = "Make one: openssl rand -hex 32"
            raise UsageError(f"The pseudonym key must have at least {_MIN_BYTES} bytes, got {len(key)}. {advice}")
        self._key = key

    def of(self, user: str) -> str:
        """The name of `user` in logs and memory."""
        return hmac.new(self._key, user.encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def load_pseudonyms(run: str | Path) -> Pseudonyms:
    """The pseudonyms of a run: by TFREC_PSEUDONYM_KEY when it is set, else by `<run>/pseudonym.key`, made when it is missing."""
    named = os.environ.get("TFREC_PSEUDONYM_KEY")
    if named is not None:
        return Pseudonyms(named.encode())
    path = Path(run) / "pseudonym.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _write_once(path, secrets.token_hex(32))
    try:
        return Pseudonyms(path.read_text(encoding="ascii").strip().encode())
    except (OSError, UnicodeDecodeError) as error:
        raise ServingError(f"{path}: the pseudonym key cannot be read: {error}. Restore it from a backup.") from error


def _write_once(path: Path, key: str) -> None:
    """Readable by the owner alone; of two processes that start at once, the first one's key stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(key + "\n")
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()

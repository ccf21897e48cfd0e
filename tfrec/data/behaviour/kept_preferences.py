"""Keeps what `read_preferences` made of a file of behaviour, so that the next run need not read and check every row again.

What is kept is a Parquet file, under the digest of all that it depends on: the contents of the file, the label rule, the items,
the pseudonyms and the version of the package. If any of them has changed, the file is read anew. So is a file of which there is
something to tell, bad rows or a warning: they are told in each run.
"""
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tfrec import __version__ as tfrec_version
from tfrec.data import durable_files
from tfrec.data.behaviour.interaction_files import read_preferences
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.labels.pair_rewards import ACTIONS, rename_users
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.data.readers.files import contents_digest
from tfrec.data.readers.quarantine import Quarantine

log = logging.getLogger(__name__)

_KEY, _NOW = b"tfrec.key", b"tfrec.now"


def kept_preferences(path: str | Path, rule: LabelRule, *, quarantine: Quarantine, now: int, pseudonym: Callable[[str], str],
                     kept: Path, people: Pseudonyms | None = None) -> pa.Table:
    """`read_preferences` with its users under their pseudonyms.

    Args:
        path: the file of behaviour, or a directory of files.
        rule: the label rule.
        quarantine: takes bad rows.
        now: seconds since 1970; what claims to be later is corrected.
        pseudonym: the name of a user in the log.
        kept: the file that this function keeps for itself. One process at a time may use it.
        people: know who was erased: what these users did until then is not read.

    Raises:
        DataError: the file of behaviour cannot be used.
    """
    key = _key(path, rule, pseudonym, people)
    found = _read(kept, key, now=now)
    if found is not None:
        return found
    before = quarantine.count
    with _warnings() as told:
        found = rename_users(read_preferences(path, rule, quarantine=quarantine, now=now, people=people), pseudonym)
    if not told and quarantine.count == before and _key(path, rule, pseudonym, people) == key:  # nor did it change meanwhile
        _keep(found, kept, key, now=now)
    elif kept.is_file():  # what is no longer in the file of behaviour shall not stay here
        kept.unlink()
    return found


def _key(path: str | Path, rule: LabelRule, pseudonym: Callable[[str], str], people: Pseudonyms | None) -> str:
    lengths = {action: dict(lengths) for action, lengths in rule.lengths.items()}
    parts = [tfrec_version, contents_digest(path), rule.digest, rule.catalogue_ids, lengths,
             pseudonym("") if people is None else people.digest]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _read(kept: Path, key: str, *, now: int) -> pa.Table | None:
    """What was kept under a key; None without it, or when `now` is before the time that it was read by."""
    try:
        with kept.open("rb") as raw, pq.ParquetFile(raw, page_checksum_verification=True) as file:
            about = file.schema_arrow.metadata or {}
            if about[_KEY] != key.encode() or int(about[_NOW]) > now:
                return None
            return file.read().replace_schema_metadata().cast(ACTIONS)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        log.warning("%s: damaged (%s). It is made again.", kept, " ".join(str(error).split())[:200])
        return None


def _keep(found: pa.Table, kept: Path, key: str, *, now: int) -> None:
    """Write what was read. Without it a run is slower, and right."""
    about = {_KEY: key.encode(), _NOW: str(now).encode()}
    out = pa.BufferOutputStream()
    pq.write_table(found.replace_schema_metadata(about), out, compression="zstd", write_page_checksum=True)
    try:
        durable_files.make_directory(kept.parent)
        for left in kept.parent.glob(f".{kept.name}.*"):  # of a process that was killed while it wrote
            left.unlink()
        durable_files.replace(kept, out.getvalue())
    except OSError as error:
        log.warning("%s: cannot be written (%s). The next run reads the whole file of behaviour again.", kept, error.strerror)


@contextmanager
def _warnings() -> Iterator[list[logging.LogRecord]]:
    """The warnings that this thread logs in the block; they are shown as ever."""
    told: list[logging.LogRecord] = []
    listener, thread, package = logging.Handler(logging.WARNING), threading.get_ident(), logging.getLogger("tfrec")
    listener.emit = lambda record: told.append(record) if record.thread == thread else None  # type: ignore[method-assign]
    package.addHandler(listener)
    try:
        yield told
    finally:
        package.removeHandler(listener)

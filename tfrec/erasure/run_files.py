"""Files of a run directory that may name a user, besides the tables and the versions: each is left without them.

    wal/*.wal                    of a gateway that runs: it does it itself, and says so in `wal/<writer>.erasures`
    wal/*.quarantine.jsonl  quarantine-*.jsonl  retrain/quarantine-*.jsonl     lines go as a whole
    retrain/*.json               names go
    retrain/behaviour.parquet  known_users.parquet                             are made anew when they are needed
"""
import contextlib
import json
import logging
import re
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tfrec.data import durable_files
from tfrec.data.feedback_log.wal_lines import decode
from tfrec.data.feedback_log.write_ahead_log import WriteAheadFile
from tfrec.data.feedback_log.writer import forget_erased
from tfrec.data.people.pseudonym import Pseudonyms
from tfrec.erasure.versions import is_named, without_names
from tfrec.errors import UsageError

log = logging.getLogger(__name__)

CACHES = ("retrain/behaviour.parquet", "known_users.parquet")
_SET_ASIDE = ("wal/*.quarantine.jsonl", "quarantine-*.jsonl", "retrain/quarantine-*.jsonl")
_OF_PEOPLE = re.compile(r"user|client", re.IGNORECASE)  # in the names of fields that hold ids of people
_ANSWER_SECONDS = 30.0  # for which a gateway that runs is waited for
_UNSCANNED = ("variables", "encoders", "tensorboard")  # directories of arrays


def lines_in_wal(run: Path, names: Collection[str]) -> int:
    """How many lines of all write-ahead files are of one of `names`."""
    found = 0
    for path in run.glob("wal/*.wal"):
        with contextlib.suppress(FileNotFoundError):
            entries, _ = decode(path.read_bytes())
            found += sum(is_named(entry.payload.encode(), names) for entry in entries)
    return found


def clear_wal(run: Path, people: Pseudonyms, *, number: int, seconds: float = _ANSWER_SECONDS) -> list[str]:
    """Let go of the lines of erased users; returns the gateways that run and have not done so yet.

    Args:
        run: the run directory.
        people: know who was erased.
        number: of the newest erasure, which gateways that run must have taken up.
        seconds: to wait for them.
    """
    until, waiting = time.monotonic() + seconds, sorted(run.glob("wal/*.wal"))
    while True:
        waiting = [path for path in waiting if not _cleared(path, people, number)]
        if not waiting or time.monotonic() >= until:
            return [path.stem for path in waiting]
        time.sleep(0.1)


def _cleared(path: Path, people: Pseudonyms, number: int) -> bool:
    try:
        wal = WriteAheadFile(path.parent, path.stem, room_bytes=0)
    except UsageError:  # a gateway is at work
        return taken_up(path) >= number
    try:
        forget_erased(wal, people.erased_among)
    finally:
        wal.close()
    return True


def taken_up(path: Path) -> int:
    """The newest erasure that the gateway with this write-ahead file has taken up; 0 when it never said so."""
    try:
        return int(path.with_suffix(".erasures").read_text())
    except (FileNotFoundError, ValueError):
        return 0


def say_taken_up(path: Path, number: int) -> None:
    """Say so."""
    durable_files.replace(path.with_suffix(".erasures"), str(number).encode())


def set_aside_lines(run: Path, user: str, names: Collection[str]) -> int:
    """Remove the lines of rows that were set aside and may be of a user; returns their number."""
    def leaves(line: bytes) -> bool:
        return is_named(line, names) or _is_of(line, user)

    return sum(durable_files.without_lines(path, leaves) for pattern in _SET_ASIDE for path in run.glob(pattern))


def _is_of(line: bytes, user: str) -> bool:
    """Whether a line of rows that were set aside is of a user: by its fields, or by any word where it has none."""
    text = line.decode(errors="replace")
    if user not in text and json.dumps(user)[1:-1] not in text:
        return False
    try:
        entry = json.loads(text)
    except ValueError:
        return True  # cut short
    row = entry.get("row", entry.get("payload", entry.get("line"))) if isinstance(entry, dict) else entry
    if isinstance(row, str):
        with contextlib.suppress(ValueError):
            row = json.loads(row)
    ids = _ids(row)
    whole = re.compile(rf"(?<!\w){re.escape(user)}(?!\w)")
    return user in ids if ids else whole.search(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) is not None


def _ids(value: Any, *, of_person: bool = False) -> list[str]:
    """The values of all fields of people in a row."""
    if isinstance(value, dict):
        return [found for key, one in value.items() for found in _ids(one, of_person=bool(_OF_PEOPLE.search(str(key))))]
    if isinstance(value, list):
        return [found for one in value for found in _ids(one, of_person=of_person)]
    return [str(value)] if of_person and value is not None else []


def results(run: Path, names: Collection[str]) -> int:
    """Take `names` out of the results of retrains; returns in how many files they were."""
    found = 0
    for path in run.glob("retrain/*.json"):
        data = path.read_bytes()
        if is_named(data, names):
            durable_files.replace(path, json.dumps(without_names(json.loads(data), names), indent=1).encode())
            found += 1
    return found


def caches(run: Path) -> int:
    """Remove what is kept of files of people, and made anew when it is missing; returns how many files that were."""
    found = 0
    for name in CACHES:
        path = run / name
        for file in (path, *path.parent.glob(f".{path.name}.*")):
            if file.is_file():
                file.unlink(missing_ok=True)
                found += file == path
    return found


def still_named(run: Path, names: Collection[str], *, but: Path) -> list[str]:
    """The files of a run in which one of `names` stands plainly; arrays and Parquet are not looked into.

    Args:
        run: the run directory.
        names: pseudonyms.
        but: a directory that is left out.
    """
    found = []
    for path in sorted(run.rglob("*")):
        if path.suffix == ".parquet" or but in path.parents or any(part in _UNSCANNED for part in path.parts):
            continue
        with contextlib.suppress(OSError):
            if path.is_file() and not path.name.startswith("weights") and is_named(path.read_bytes(), names):
                found.append(str(path.relative_to(run)))
    return found

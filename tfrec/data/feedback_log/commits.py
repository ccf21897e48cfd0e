"""The commits of a Delta table in a local directory, written so that a power cut leaves a commit whole or not at all.

The Delta library names a commit before its bytes, and those of its Parquet files, are on disk. After a power cut there may be a
commit of 0 bytes, which the library reads as a commit that changed nothing. So the two kinds of commits that the log needs, an
append and a rewrite of small files, are written here by the rules of the protocol: data first, then a commit under the next free
number. Reading, checkpoints and creation are left to the library.

Protocol: https://github.com/delta-io/delta/blob/master/PROTOCOL.md, "Actions" and "Delta Log Entries".
"""
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable

from tfrec import __version__
from tfrec.data import durable_files
from tfrec.data.feedback_log.parquet_file import Bounds
from tfrec.data.readers.files import unreadable
from tfrec.errors import DataError

Action = dict[str, dict[str, Any]]

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\..*parquet")
ADVICE = "Restore it from a backup, or see \"A damaged log\" in serving/RUNBOOK.md"


class Commits:
    """The directory `_delta_log` of a table, and the Parquet files beside it."""

    def __init__(self, directory: Path) -> None:
        """Name the directory, which need not exist."""
        self.directory = directory
        self._log = directory / "_delta_log"
        self._whole: dict[int, int] = {}  # size in bytes of the commits that were found whole

    def versions(self) -> list[int]:
        """The numbers of all commits that are still there, ascending."""
        return self._numbers(_COMMIT)

    def newest(self) -> int:
        """The number of the newest commit, -1 when there is none."""
        return max([*self.versions(), *self.checkpoints()], default=-1)

    def checkpoints(self) -> list[int]:
        """The numbers of commits of which there is a checkpoint, ascending."""
        return self._numbers(_CHECKPOINT)

    def path(self, version: int) -> Path:
        """The file of a commit."""
        return self._log / f"{version:020d}.json"

    def read(self, version: int) -> list[Action]:
        """The actions of a commit.

        Raises:
            DataError: the commit is empty, cut short or not JSON.
            FileNotFoundError: there is no such commit.
        """
        path = self.path(version)
        try:
            actions = [json.loads(line) for line in path.read_bytes().splitlines()]
        except ValueError as error:
            raise unreadable(path, error, advice=ADVICE) from error
        if not any("commitInfo" in action for action in actions):  # the last line of those that are written here
            raise unreadable(path, "a commit without its end" if actions else "an empty commit", advice=ADVICE)
        return actions

    def check(self) -> None:
        """Check all commits that a reader of the newest version reads; the library would take an empty one for no change.

        Raises:
            DataError: a commit is damaged (names the first), or there are data files without any commit.
        """
        versions, since = self.versions(), max(self.checkpoints(), default=-1)
        if not versions and since < 0 and next(self.directory.glob("*.parquet"), None) is not None:
            raise DataError(f"{self.directory}: Parquet files without their _delta_log, which says what they hold. Restore the "
                            "directory _delta_log from a backup; to begin an empty log, move the Parquet files away.")
        for version in versions:
            if version > since:
                try:
                    size = self.path(version).stat().st_size
                    if self._whole.get(version) != size:
                        self.read(version)
                        self._whole[version] = size
                except FileNotFoundError:  # cleaned up at this moment, because there is a newer checkpoint
                    continue

    def create(self, schema: pa.Schema, configuration: dict[str, str | None]) -> None:
        """Create the table, unless another process does."""
        durable_files.make_directory(self.directory.parent)
        durable_files.make_directory(self.directory)
        durable_files.make_directory(self._log)
        with _Scratch(self.directory) as scratch:
            DeltaTable.create(scratch, schema=schema, configuration=configuration)
            first = (scratch / "_delta_log" / self.path(0).name).read_bytes()
        try:
            durable_files.create(self.path(0), first)
        except FileExistsError:
            durable_files.sync_directory(self._log)

    def commit(self, version: int, actions: Iterable[Action], *, operation: str) -> bool:
        """Write commit number `version`, whose Parquet files must be on disk; False when another process was faster."""
        info = {"commitInfo": {"timestamp": _now_ms(), "operation": operation, "operationParameters": {},
                               "engineInfo": f"tfrec {__version__}"}}
        durable_files.sync_directory(self.directory)
        try:  # commitInfo comes last, so a commit without it was cut short
            durable_files.create(self.path(version), "".join(json.dumps(action) + "\n" for action in [*actions, info]).encode())
        except FileExistsError:
            return False
        return True

    def sync(self, versions: Iterable[int] = ()) -> None:
        """Put on disk the commits that another process or tool wrote and the files they added, as later commits build on them."""
        for version in versions:
            for action in self.read(version):
                if (added := action.get("add")) is not None and (file := self.directory / unquote(added["path"])).is_file():
                    durable_files.sync_file(file)
            durable_files.sync_file(self.path(version))
        durable_files.sync_directory(self.directory)
        durable_files.sync_directory(self._log)

    def checkpoint(self, version: int) -> None:
        """Write a checkpoint of the table at its newest version, so that it opens fast and older commits can be removed."""
        if version in self.checkpoints():
            return
        since = max(self.checkpoints(), default=-1)
        with _Scratch(self.directory) as scratch:  # the library would name a checkpoint before its bytes are on disk
            log = scratch / "_delta_log"
            log.mkdir()
            for file in self._log.iterdir():
                number = _CHECKPOINT.fullmatch(file.name) or _COMMIT.fullmatch(file.name)
                if number and since <= int(number[1]) <= version:
                    os.link(file, log / file.name)
            DeltaTable(scratch).create_checkpoint()
            made = [file for file in log.iterdir() if (n := _CHECKPOINT.fullmatch(file.name)) and int(n[1]) == version]
            for file in made:
                file.chmod(durable_files.PRIVATE_FILE)
                durable_files.sync_file(file)
                os.replace(file, self._log / file.name)
            durable_files.sync_directory(self._log)
            durable_files.replace(self._log / "_last_checkpoint", (log / "_last_checkpoint").read_bytes())

    def clean(self, *, before: float) -> list[str]:
        """Remove what is needed by no version that was the newest at `before` (seconds since 1970) or later.

        A file that no commit names is removed only when it is as old, as a writer may be about to commit it. (The library's own
        vacuum removes such files whatever their age, or leaves them for ever.) Returns the names of the removed data files.
        """
        versions = self.versions()
        old = [version for version in versions if self.path(version).stat().st_mtime < before]
        floor = max((c for c in self.checkpoints() if old and c <= old[-1]), default=-1)
        needed = self._named(floor, versions)
        self.sync()  # what takes the place of these files is on disk before they go
        gone = []
        for file in self.directory.iterdir():
            if _older(file, before):
                if file.suffix == ".parquet" and file.name not in needed:
                    file.unlink(missing_ok=True)
                    gone.append(file.name)
                elif file.name.startswith(_Scratch.PREFIX):
                    shutil.rmtree(file, ignore_errors=True)
        for file in self._log.iterdir():
            number = _COMMIT.fullmatch(file.name) or _CHECKPOINT.fullmatch(file.name)
            if (number and int(number[1]) < floor) or (file.name.startswith(".") and _older(file, before)):
                file.unlink(missing_ok=True)
        return gone

    def named(self) -> set[str]:
        """The data files of all versions whose commits are still there, and of the oldest checkpoint."""
        versions = self.versions()
        return self._named(-1, versions) | self._named(min(self.checkpoints(), default=-1), versions)

    def new_file(self) -> Path:
        """A new name for a Parquet file."""
        return self.directory / f"part-{uuid.uuid4()}.parquet"

    def added(self, file: Path, rows: int, bounds: Bounds, *, is_new: bool) -> Action:
        """The action that adds a file, with the least and the greatest value of some columns.

        There are no other statistics: what people asked for, and who they are, would stay in the log after their rows are
        deleted.

        Args:
            file: the Parquet file, on disk.
            rows: the number of its rows.
            bounds: of its columns.
            is_new: false where the rows were rewritten.
        """
        stats = {"numRecords": rows, "minValues": {name: low for name, (low, _) in bounds.items()},
                 "maxValues": {name: high for name, (_, high) in bounds.items()}, "nullCount": {}}
        return {"add": {"path": file.name, "partitionValues": {}, "size": file.stat().st_size, "modificationTime": _now_ms(),
                        "dataChange": is_new, "stats": json.dumps(stats)}}

    def _named(self, floor: int, versions: list[int]) -> set[str]:
        """The data files of version `floor`, and those that later commits add."""
        names: set[str] = set()
        if floor >= 0:
            names.update(Path(uri).name for uri in DeltaTable(self.directory, version=floor).file_uris())
        for version in versions:
            if version > floor:
                names.update(unquote(action["add"]["path"]) for action in self.read(version) if "add" in action)
        return names

    def _numbers(self, pattern: re.Pattern[str]) -> list[int]:
        try:
            found = [pattern.fullmatch(name) for name in os.listdir(self._log)]
        except FileNotFoundError:
            return []
        return sorted(int(match[1]) for match in found if match)


class _Scratch:
    """A directory beside the data files, on the same file system, that is removed at the end."""

    PREFIX = "_scratch-"

    def __init__(self, directory: Path) -> None:
        self._path = directory / f"{self.PREFIX}{uuid.uuid4().hex}"

    def __enter__(self) -> Path:
        self._path.mkdir(mode=durable_files.PRIVATE_DIRECTORY)
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


def _older(file: Path, before: float) -> bool:
    try:
        return file.stat().st_mtime < before
    except FileNotFoundError:
        return False


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

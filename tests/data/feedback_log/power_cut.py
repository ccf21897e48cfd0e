"""What a power cut leaves of a directory, at every step of some work in it.

POSIX promises little: a file's bytes are on disk after a sync of the file, its name after a sync of its directory. Whatever was
not synced may be there or not, each change on its own. So the recorder notes at each sync what it made sure of, and at each step
(a sync, or a change of a name) what a process sees. `leaves` gives directories that a cut at that moment may leave.
"""
import hashlib
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

Entry = tuple[str, int]  # path below the root, inode
NAMES = ("link", "replace", "rename", "unlink", "mkdir", "rmdir")  # functions of `os` that change names
DIRECTORY = None  # instead of bytes
NOTHING, ADDED, GONE, NAMED = "nothing", "names added", "names gone", "all names"
SOME = "some"  # of the names, and of the bytes that were not synced
WAYS = (NOTHING, ADDED, GONE, NAMED, SOME)  # which changes since the last syncs survived


class Cut(NamedTuple):
    """One moment: what is on disk for sure, and what a process sees."""

    step: str
    acknowledged: int  # records whose call had returned
    names: dict[int, dict[str, int]]  # on disk: of a directory's inode, what its names mean
    data: dict[int, bytes]  # on disk, of a file's inode
    seen_names: dict[int, dict[str, int]]
    seen_data: dict[int, bytes | None]


class PowerCuts:
    """Records the steps of work in a directory; `acknowledged` is for the one who works to count up."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.acknowledged = 0
        self.cuts: list[Cut] = []
        self._names: dict[int, dict[str, int]] = {root.stat().st_ino: {}}
        self._data: dict[int, bytes] = {}
        self._pinned: dict[int, int] = {}  # files are kept open, or the number of one that is gone would be given to another
        self._patches = ExitStack()

    def __enter__(self) -> "PowerCuts":
        self._open, self._fsync, self._close = os.open, os.fsync, os.close
        for name in ("fsync", "fdatasync"):
            self._patches.enter_context(mock.patch.object(os, name, self._synced))
        for name in NAMES:
            self._patches.enter_context(mock.patch.object(os, name, partial(self._changed, name, getattr(os, name))))
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()
        for opened in self._pinned.values():
            self._close(opened)

    def _synced(self, file: Any) -> None:
        opened = file if isinstance(file, int) else file.fileno()
        self._cut("before a sync")
        found = os.fstat(opened)
        if found.st_ino in self._seen_names:
            self._names[found.st_ino] = dict(self._seen_names[found.st_ino])
        elif (data := self._seen_data.get(found.st_ino)) is not None:
            self._data[found.st_ino] = data
        else:
            return  # elsewhere
        self._cut("after a sync")

    def _changed(self, name: str, change: Callable[..., object], *args: Any, **options: Any) -> object:
        result = change(*args, **options)
        if options.get("dir_fd") is None:  # else it is a directory on its way out, file by file
            self._cut(f"after {name} {args[0]}")
        return result

    def _cut(self, step: str) -> None:
        self._seen_names, self._seen_data = dict[int, dict[str, int]](), dict[int, bytes | None]()
        self._look(self.root)
        self.cuts.append(Cut(step, self.acknowledged, dict(self._names), dict(self._data), self._seen_names, self._seen_data))

    def _look(self, directory: Path) -> None:
        inode = directory.stat().st_ino
        self._seen_names[inode], self._seen_data[inode] = {}, DIRECTORY
        for entry in os.scandir(directory):
            if (known := entry.inode()) not in self._pinned:
                self._pinned[known] = self._open(entry.path, os.O_RDONLY)
            self._seen_names[inode][entry.name] = known
            if entry.is_dir(follow_symlinks=False):
                self._look(Path(entry.path))
            else:
                self._seen_data[known] = os.pread(self._pinned[known], entry.stat().st_size, 0)


def leaves(cuts: PowerCuts, *, seed: int = 0) -> list[tuple[Cut, str, dict[str, bytes | None]]]:
    """Directories that cuts may leave, as path -> bytes (a directory: None), each once: at the latest cut that may leave it."""
    made, chance = dict[str, tuple[Cut, str, dict[str, bytes | None]]](), random.Random(seed)
    kinds = {inode: data is DIRECTORY for cut in cuts.cuts for inode, data in cut.seen_data.items()}
    for cut in cuts.cuts:
        for way in WAYS:
            left = dict(_tree(cut, way, chance, cuts.root.stat().st_ino, "", kinds))
            made[hashlib.sha256(repr(sorted(left.items(), key=lambda row: row[0])).encode()).hexdigest()] = cut, way, left
    return list(made.values())


def put(left: dict[str, bytes | None], root: Path) -> None:
    """Make the directory `root` of what was left."""
    root.mkdir()
    for path, data in left.items():  # a directory comes before what is in it
        if data is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(data)


def _tree(cut: Cut, way: str, chance: random.Random, inode: int, above: str, kinds: dict[int, bool]
          ) -> Iterator[tuple[str, bytes | None]]:
    sure, seen = cut.names.get(inode, {}), cut.seen_names.get(inode, {})
    for name in sorted({*sure, *seen}):
        means = {NOTHING: sure.get(name), NAMED: seen.get(name), ADDED: seen.get(name, sure.get(name)),
                 GONE: sure.get(name) if name in seen else None}.get(way, chance.choice([sure.get(name), seen.get(name)]))
        if means is None:
            continue
        if kinds[means]:
            yield above + name, DIRECTORY
            yield from _tree(cut, way, chance, means, f"{above}{name}/", kinds)
        else:
            data = cut.data.get(means, b"")
            now = cut.seen_data.get(means) or data
            k = chance.randint(0, len(now))
            torn = now[:k] + data[k:]  # what was on disk is overwritten up to there
            yield above + name, chance.choice([data, now, torn]) if way == SOME and now != data else data

"""Files and directories that survive a power cut once the call that makes them has returned.

A file's bytes are on disk after a sync of the file, and its name after a sync of the directory that holds it. A file that others
look for by name is first written whole under another name, so nobody finds half of it, before or after a power cut. All but
`replacing` makes what only its owner can read.
"""
import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PRIVATE_FILE = 0o600  # what people did and asked for is nobody else's business
PRIVATE_DIRECTORY = 0o700


def make_directory(path: Path) -> None:
    """Create a directory that only its owner may enter. Missing parents get the usual rights."""
    if path.is_dir():
        return
    missing = [parent for parent in path.parents if not parent.is_dir()]
    for parent in reversed(missing):
        _make(parent, 0o777)
    _make(path, PRIVATE_DIRECTORY)


def open_new(path: Path) -> IO[bytes]:
    """Open an empty, unbuffered file for its owner alone. It replaces any file of the name."""
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
    os.fchmod(opened, PRIVATE_FILE)  # of one that was there before
    return os.fdopen(opened, "r+b", buffering=0)


def write_all(file: IO[bytes], data: bytes) -> None:
    """Write all of `data`: an unbuffered write may take less than it was given."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def create(path: Path, data: bytes) -> None:
    """Create a file that must not exist.

    Raises:
        FileExistsError: another process was faster; its file is untouched.
    """
    with _Staged(path, data) as staged:
        os.link(staged, path)
    sync_directory(path.parent)


def replace(path: Path, data: bytes) -> None:
    """Create a file, or replace it."""
    with _Staged(path, data) as staged:
        os.replace(staged, path)
    sync_directory(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A buffered file with the usual rights, which takes the place of `path` when the block ends.

    After an error in the block nothing has changed.
    """
    staged = _name_beside(path)
    try:
        with staged.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)
    sync_directory(path.parent)


def append(path: Path, data: bytes) -> None:
    """Write to the end of a file, which is created when there is none."""
    with appending(path) as file:
        write_all(file, data)
        os.fsync(file.fileno())
    sync_directory(path.parent)


@contextmanager
def appending(path: Path) -> Iterator[IO[bytes]]:
    """An unbuffered file to whose end is written, created when there is none. Meanwhile `without_lines` does not replace it."""
    while True:
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE_FILE), "ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_still(file, path):
                yield file
                return


def without_lines(path: Path, leaves: Callable[[bytes], bool]) -> int:
    """Replace a file by one without the lines for which `leaves` holds; returns their number. No line that is added is lost."""
    if not path.is_file():
        return 0
    with appending(path):
        lines = path.read_bytes().split(b"\n")
        kept = [line for line in lines if not (line and leaves(line))]
        if len(kept) < len(lines):
            replace(path, b"\n".join(kept))
        return len(lines) - len(kept)


def sync_file(path: Path) -> None:
    """Put a file's bytes on disk, whoever wrote them."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sync_directory(path: Path) -> None:
    """Put the names of a directory's files on disk."""
    sync_file(path)


class _Staged:
    """A file with its bytes on disk under a name that nobody looks for; removed at the end if it was not moved."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = _name_beside(path)
        self._data = data

    def __enter__(self) -> Path:
        try:
            with open_new(self._path) as file:
                write_all(file, self._data)
                os.fsync(file.fileno())
        except OSError:
            self._path.unlink(missing_ok=True)
            raise
        return self._path

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)


def _is_still(file: IO[bytes], path: Path) -> bool:
    """Whether an open file is the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _name_beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def _make(path: Path, mode: int) -> None:
    path.mkdir(mode=mode, exist_ok=True)  # another process may have been faster
    sync_directory(path.parent)

"""Staging directories, which appear under their final name whole or not at all.

A directory is written under a hidden name and gets its own name by one rename. Its maker holds a lock on it. The system releases
the lock when the process ends, however it ends, so the next process can tell leftovers from work in progress and sweep them away.
"""
import contextlib
import ctypes
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # <fcntl.h>, <linux/fs.h>


@contextmanager
def staging(parent: str | Path, prefix: str, *, mode: int = 0o777) -> Iterator[Path]:
    """Create an empty directory `<parent>/<prefix>...`, which is removed at the end unless it was renamed.

    Leftovers under the same prefix are removed first.

    Args:
        parent: an existing directory, on the file system of the final name.
        prefix: begins with a dot, so that nobody takes the directory for finished work.
        mode: of the directory, before the process's umask.
    """
    sweep(parent, prefix)
    directory, handle = _locked(Path(parent), prefix, mode)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(handle)


def sweep(parent: str | Path, prefix: str) -> list[Path]:
    """Remove the directories `<parent>/<prefix>...` that no living process holds; returns them."""
    swept = []
    for left in sorted(Path(parent).glob(f"{prefix}*")):
        with contextlib.suppress(OSError):  # another user's, or gone meanwhile
            handle = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
                swept.append(left)
            finally:
                os.close(handle)
    return swept


def link(source: str, target: str) -> None:
    """Make a hard link, or a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def replace_directory(new: Path, target: Path) -> None:
    """Replace the directory `target`, which may exist, by `new`. The old directory is `new` afterwards, or removed.

    On Linux both are exchanged in one step. Where a file system cannot do that, `target` is missing for a moment, and `recover`
    finds what a kill in that moment left.
    """
    recover(target)
    if not target.exists():
        new.rename(target)
        return
    shutil.rmtree(_old(target), ignore_errors=True)
    if not _exchange(new, target):
        target.rename(_old(target))
        new.rename(target)
        shutil.rmtree(_old(target), ignore_errors=True)


def recover(target: Path) -> None:
    """Put back the directory that `replace_directory` was replacing when it was killed, if there is no `target`."""
    if not target.exists():
        with contextlib.suppress(FileNotFoundError):
            _old(target).rename(target)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths; False where the system or the file system cannot."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except AttributeError:  # not Linux
        return False
    return int(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)) == 0


def _locked(parent: Path, prefix: str, mode: int) -> tuple[Path, int]:
    while True:
        directory = parent / f"{prefix}{os.getpid()}-{secrets.token_hex(4)}"
        directory.mkdir(mode=mode)
        with contextlib.suppress(FileNotFoundError):  # swept between these lines: then another one
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if directory.exists():
                return directory, handle
            os.close(handle)

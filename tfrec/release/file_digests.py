"""Digests of the files of a version: the manifest has a SHA-256 of each, so that damage is noticed.

Versions share files by hard links, so a disk that damages one file damages it in all of them. Files are read once more at each
point after which they would be trusted for long: before a publication, a rollback, and a retrain that continues from them.
"""
import hashlib
import os
from pathlib import Path

from tfrec.errors import ServingError
from tfrec.release.manifest import FILE_NAME, Manifest

_DAMAGED = "Export the model again, or roll back to another version"


def digests(version_dir: str | Path, *, known: dict[str, str] | None = None) -> dict[str, str]:
    """SHA-256 of every file of a version but its manifest, by path; each file has reached the disk when this returns.

    Args:
        version_dir: the directory.
        known: digests of files that need not be read again.
    """
    root, found = Path(version_dir), dict(known or {})
    return {name: found.get(name) or _digest(root / name, sync=True) for name in sorted(_files(root))}


def check_files(version_dir: str | Path, manifest: Manifest, *, below: str = "") -> None:
    """Raise `ServingError` unless the files of a version, or `below` a path in it, are those of its manifest."""
    root = Path(version_dir)
    expected, there = ({name for name in names if not below or name == below or name.startswith(f"{below}/")}
                       for names in (manifest.files, _files(root)))
    for name in sorted(expected - there):
        raise ServingError(f"{root / name}: is missing. {_DAMAGED}.")
    for name in sorted(there - expected):
        raise ServingError(f"{root / name}: is not a file of this version, which its manifest lists. Remove it. {_DAMAGED}.")
    for name in sorted(expected):
        try:
            same = _digest(root / name) == manifest.files[name]
        except OSError as error:
            raise ServingError(f"{root / name}: cannot be read: {error.strerror}. {_DAMAGED}.") from error
        if not same:
            raise ServingError(f"{root / name}: is not what was exported: its SHA-256 is another one than the manifest's. "
                               f"{_DAMAGED}.")


def _files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()} - {FILE_NAME}


def _digest(path: Path, *, sync: bool = False) -> str:
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()

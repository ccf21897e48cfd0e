"""Published versions at an object store's URL, which the run directories of several machines share.

    <url>/<name>/<version>/...       the files of a version
    <url>/<name>/.numbers/<version>  to which version the number was given: a number is given once

An object store has no rename: a directory is there as soon as its first file is. So `saved_model.pb`, without which no server
loads a version, is written last and removed first, and a version without it is none. What is common with an earlier version is
copied within the store, by the digests of the two manifests, so a version costs what is new in it.

The environment names credentials, region and endpoint, by the same variables as for Delta tables: AWS_*, GOOGLE_*, AZURE_*.
"""
import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from tfrec.data.staging import link
from tfrec.errors import ServingError, UsageError
from tfrec.release.manifest import FILE_NAME, Manifest

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_LAST = "saved_model.pb"
_NUMBERS = ".numbers"
_PARALLEL = 8  # files that are copied at once
_CHUNK = 8 << 20  # bytes
_ABANDONED_SECONDS = 3600  # a version that was begun so long ago, and is not whole, never will be
T = TypeVar("T")


class ModelStore:
    """The versions of one model at a URL."""

    def __init__(self, url: str) -> None:
        """Name the base URL, below which each version has a directory.

        Raises:
            UsageError: the package that speaks to object stores is missing.
        """
        try:
            import obstore
        except ImportError as error:
            raise UsageError("serving.models at a URL needs obstore: pip install 'tfrec[object-store]'.") from error
        self.url = url
        self._obstore = obstore
        self._store: ObjectStore = self._tried(lambda: obstore.store.from_url(url))

    def versions(self) -> list[int]:
        """The whole versions, oldest first."""
        return [number for number in self._numbers_in("") if self._has(f"{number}/{_LAST}")]

    def manifest(self, number: int) -> Manifest:
        """The manifest of a version."""
        try:
            return Manifest.model_validate_json(self._read(f"{number}/{FILE_NAME}"))
        except (FileNotFoundError, ValidationError) as error:
            raise ServingError(f"{self.url}/{number}/{FILE_NAME}: is missing or no manifest ({type(error).__name__}). Remove the "
                               "version, or publish again.") from error

    def claim(self, number: int, manifest: Manifest) -> bool:
        """Take a number for the version of a manifest; False when another version has it."""
        place, owner = f"{_NUMBERS}/{number}", _digest_of(manifest)
        try:
            self._tried(lambda: self._obstore.put(self._store, place, owner, mode="create"))
        except FileExistsError:
            return self._read(place) == owner
        return True

    def push(self, version_dir: Path, manifest: Manifest) -> None:
        """Write the files of a version, whose number has been claimed. One that was begun before is completed."""
        number, twins = int(version_dir.name), self._places_by_digest()

        def write(name: str) -> None:
            twin = twins.get(manifest.files[name])
            target = f"{number}/{name}"
            if twin is None:
                self._tried(lambda: self._obstore.put(self._store, target, version_dir / name))
            elif twin != target:
                self._tried(lambda: self._obstore.copy(self._store, twin, target))

        _at_once(write, (name for name in manifest.files if name != _LAST))
        self._tried(lambda: self._obstore.put(self._store, f"{number}/{FILE_NAME}", version_dir / FILE_NAME))
        write(_LAST)

    def pull(self, number: int, target: Path, have: dict[str, Path]) -> None:
        """Fill the empty directory `target` with a version.

        Args:
            number: of the version.
            target: a directory that no server reads yet.
            have: files of versions that are here already, by their SHA-256; those are linked and not fetched.

        Raises:
            ServingError: a file is missing, or is not what was published.
        """
        manifest = self.manifest(number)

        def fetch(name: str) -> None:
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            digest = manifest.files[name]
            if digest in have:
                link(str(have[digest]), str(place))
            elif self._fetch(f"{number}/{name}", place) != digest:
                raise ServingError(f"{self.url}/{number}/{name}: is not what was published: its SHA-256 is another one than the "
                                   "manifest's. Remove the version, or roll back to another one.")

        _at_once(fetch, manifest.files)
        (target / FILE_NAME).write_bytes(self._read(f"{number}/{FILE_NAME}"))

    def remove(self, number: int) -> None:
        """Remove a version, whole or not."""
        if self._has(f"{number}/{_LAST}"):
            self._tried(lambda: self._obstore.delete(self._store, f"{number}/{_LAST}"))
        names = [found["path"] for part in self._tried(lambda: list(self._obstore.list(self._store, prefix=f"{number}/")))
                 for found in part]
        self._tried(lambda: self._obstore.delete(self._store, names))
        with contextlib.suppress(FileNotFoundError):
            self._tried(lambda: self._obstore.delete(self._store, f"{_NUMBERS}/{number}"))

    def abandoned(self) -> list[int]:
        """What publishers that were killed left behind: begun an hour ago and not whole."""
        return [number for number in self._numbers_in("") if not self._has(f"{number}/{_LAST}") and self._is_old(number)]

    def _places_by_digest(self) -> dict[str, str]:
        """Where files of whole versions are, by their SHA-256; of several versions, in the newest."""
        found: dict[str, str] = {}
        for number in self.versions():
            found |= {digest: f"{number}/{name}" for name, digest in self.manifest(number).files.items()}
        return found

    def _numbers_in(self, place: str) -> list[int]:
        names = self._tried(lambda: self._obstore.list_with_delimiter(self._store, prefix=place))["common_prefixes"]
        return sorted(int(name) for name in names if name.isdecimal())

    def _is_old(self, number: int) -> bool:
        try:
            claim = self._tried(lambda: self._obstore.head(self._store, f"{_NUMBERS}/{number}"))
        except FileNotFoundError:
            return True
        return bool(time.time() - claim["last_modified"].timestamp() > _ABANDONED_SECONDS)

    def _has(self, place: str) -> bool:
        try:
            self._tried(lambda: self._obstore.head(self._store, place))
        except FileNotFoundError:
            return False
        return True

    def _read(self, place: str) -> bytes:
        return bytes(self._tried(lambda: self._obstore.get(self._store, place).bytes()))

    def _fetch(self, place: str, target: Path) -> str:
        """Write an object to a file; returns its SHA-256."""
        sha = hashlib.sha256()

        def run() -> None:
            with target.open("wb") as file:
                for chunk in self._obstore.get(self._store, place).stream(min_chunk_size=_CHUNK):
                    file.write(chunk)
                    sha.update(chunk)

        try:
            self._tried(run)
        except FileNotFoundError as error:
            raise ServingError(f"{self.url}/{place}: is missing. The version may have been removed meanwhile.") from error
        return sha.hexdigest()

    def _tried(self, work: Callable[[], T]) -> T:
        """Do `work`, with an error that names the store in place of the library's."""
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            return work()
        except AlreadyExistsError as error:
            raise FileExistsError(str(error)) from error
        except BaseError as error:
            reason = " ".join(str(error).split())[:500]
            raise ServingError(f"{self.url}: the object store cannot be used ({reason}). Check serving.models, and what the "
                               "environment says of the store and the credentials.") from error


def have_files(version_dirs: Iterable[Path]) -> dict[str, Path]:
    """The files of versions in a run directory, by their SHA-256."""
    found: dict[str, Path] = {}
    for directory in version_dirs:
        manifest = Manifest.model_validate_json((directory / FILE_NAME).read_bytes())
        found |= {digest: directory / name for name, digest in manifest.files.items()}
    return found


def _digest_of(manifest: Manifest) -> bytes:
    manifest = Manifest.model_validate_json(manifest.model_dump_json())  # as it is when it is read back
    return hashlib.sha256(manifest.model_dump_json().encode()).hexdigest().encode()


def _at_once(work: Callable[[str], None], names: Iterable[str]) -> None:
    with ThreadPoolExecutor(_PARALLEL) as pool:
        for done in [pool.submit(work, name) for name in names]:
            done.result()

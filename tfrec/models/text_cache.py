"""A file of what was made of each text, so that it is made once.

The key is a digest of the text, and of what made the rows and what that reads of a text: the vectors of one encoder are never
read as those of another.
"""
import hashlib
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from tfrec.data import durable_files

FloatArray = npt.NDArray[np.float32]
_KEY = hashlib.sha1(usedforsecurity=False).digest_size
R = TypeVar("R")  # rows, of which a list of positions takes some


class TextCache(ABC, Generic[R]):
    """Rows by text in `path` (npz). A damaged file is read as empty: it is a cache, and is written anew.

    Args:
        path: The file; it is made when first written.
        identity: Of what makes the rows, such as a digest of the encoder's checkpoint and the token limit.
    """

    def __init__(self, path: Path, *, identity: str) -> None:
        self._path = path
        self._identity = identity

    def rows(self, texts: Sequence[str], make: Callable[[Sequence[str]], R]) -> R:
        """A row for each text; `make` is called at most once, with the distinct texts that are not kept yet."""
        keys = [hashlib.sha1(f"{self._identity}\0{text}".encode(), usedforsecurity=False).digest() for text in texts]
        known, kept = self._read()
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing or kept is None:
            new = make(list(missing.values()))
            kept = new if kept is None else self._joined(kept, new)
            for key in missing:
                known[key] = len(known)
            self._write(known, kept)
        found: R = kept[[known[key] for key in keys]]  # type: ignore[index]
        return found

    @abstractmethod
    def _joined(self, rows: R, more: R) -> R:
        """The rows, then `more`."""

    @abstractmethod
    def _packed(self, rows: R) -> dict[str, npt.NDArray[Any]]:
        """Rows as arrays with names."""

    @abstractmethod
    def _unpacked(self, arrays: Mapping[str, npt.NDArray[Any]]) -> R:
        """The rows of `_packed`; a KeyError or a ValueError for other arrays."""

    def _read(self) -> tuple[dict[bytes, int], R | None]:
        try:
            with self._path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                keys, rows = file["keys"], self._unpacked(file)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return {}, None
        return ({key.tobytes(): row for row, key in enumerate(keys)}, rows) if len(keys) else ({}, None)

    def _write(self, known: dict[bytes, int], rows: R) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with durable_files.replacing(self._path) as out:
            arrays = self._packed(rows) | {"keys": np.frombuffer(b"".join(known), np.uint8).reshape(-1, _KEY)}
            np.savez(out, allow_pickle=False, **arrays)


class VectorCache(TextCache[FloatArray]):
    """Vectors `[texts, width]`."""

    def _joined(self, rows: FloatArray, more: FloatArray) -> FloatArray:
        return np.concatenate([rows, more])

    def _packed(self, rows: FloatArray) -> dict[str, npt.NDArray[Any]]:
        return {"vectors": rows}

    def _unpacked(self, arrays: Mapping[str, npt.NDArray[Any]]) -> FloatArray:
        return arrays["vectors"]

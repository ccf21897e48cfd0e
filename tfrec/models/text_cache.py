"""A file of text vectors, so that each text is encoded once.

The key is a digest of the text, the encoder and what it reads of a text, so another encoder never reads the vectors of this one.
"""
import hashlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfrec.data import durable_files

FloatArray = npt.NDArray[np.float32]


class TextCache:
    """Vectors by text in `path` (npz). A damaged file is read as empty: it is a cache, and is written anew.

    Args:
        path: The file; it is made when first written.
        identity: Of the encoder, such as a digest of its checkpoint and the token limit.
    """

    def __init__(self, path: Path, *, identity: str) -> None:
        self._path = path
        self._identity = identity

    def vectors(self, texts: Sequence[str], encode: Callable[[Sequence[str]], FloatArray]) -> FloatArray:
        """Vectors `[len(texts), width]`; `encode` is called at most once, with the distinct texts that are not kept yet."""
        keys = [hashlib.sha1(f"{self._identity}\0{text}".encode(), usedforsecurity=False).digest() for text in texts]
        known, kept = self._read()
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing or not known:
            new = encode(list(missing.values()))
            kept = np.concatenate([kept, new]) if len(kept) else new
            for key in missing:
                known[key] = len(known)
            self._write(known, kept)
        return kept[[known[key] for key in keys]]

    def _read(self) -> tuple[dict[bytes, int], FloatArray]:
        try:
            with self._path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                keys, vectors = file["keys"], file["vectors"]
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return {}, np.zeros((0, 0), np.float32)
        return {key.tobytes(): row for row, key in enumerate(keys)}, vectors

    def _write(self, known: dict[bytes, int], vectors: FloatArray) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with durable_files.replacing(self._path) as out:
            np.savez(out, keys=np.frombuffer(b"".join(known), np.uint8).reshape(len(known), -1), vectors=vectors)

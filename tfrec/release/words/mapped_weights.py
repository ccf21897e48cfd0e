"""Reads arrays of a version's weights without TensorFlow, in place: pages of the file are read when they are looked at.

A checkpoint is an index and data files (tensorflow/core/util/tensor_bundle). The index is an uncompressed table of LevelDB. It
has blocks of entries, each with what its key does not share with the one before, and a footer that says where the block of blocks
is. An entry is a protobuf message that says of an array what type and shape it has, and where in which data file it begins.
"""
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfrec.errors import ModelError

MAGIC = 0xDB4775248B80FB57
_FOOTER = 48  # bytes
_TYPES: dict[int, npt.DTypeLike] = {1: np.float32, 3: np.int32, 9: np.int64}  # of DataType; others are not read here


def map_weights(prefix: Path, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Arrays of the checkpoint at `prefix`, read-only and not in memory. Names that it lacks are left out.

    Raises:
        ModelError: the files are damaged, or an array has another type than float32, int32 or int64.
    """
    path = prefix.with_name(f"{prefix.name}.index")
    try:
        entries = _entries(path.read_bytes())
        shards = _fields(entries[b""]).get(1, 1)
        return {name: _mapped(prefix, _fields(entries[name.encode()]), shards) for name in names if name.encode() in entries}
    except (OSError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise ModelError(f"{path}: expected the index of a checkpoint, with its data files beside it: {error!r}. "
                         "Export the model again.") from error


def _mapped(prefix: Path, entry: dict[int, Any], shards: int) -> npt.NDArray[Any]:
    """The array of a BundleEntryProto: type 1, shape 2, data file 3, offset 4, size 5."""
    path = prefix.with_name(f"{prefix.name}.data-{entry.get(3, 0):05}-of-{shards:05}")
    shape = tuple(_fields(dimension).get(1, 0) for number, dimension in _messages(entry.get(2, b"")) if number == 2)
    dtype = np.dtype(_TYPES[entry[1]])
    if entry.get(5, 0) != dtype.itemsize * int(np.prod(shape)):
        raise ValueError(f"{entry.get(5, 0)} bytes for the shape {shape}")
    if not entry.get(5, 0):
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", entry.get(4, 0), shape).view(np.ndarray)


def _entries(table: bytes) -> dict[bytes, bytes]:
    footer = table[-_FOOTER:]
    if len(footer) < _FOOTER or int.from_bytes(footer[-8:], "little") != MAGIC:
        raise ValueError("the footer is not that of a table")
    at = 0
    handle = []
    for _ in range(4):  # of the block of meta data, which is not read, and of the block of blocks: offset and size of each
        number, at = _varint(footer, at)
        handle.append(number)
    found: dict[bytes, bytes] = {}
    for _, where in _block(table, *handle[2:]):
        offset, at = _varint(where, 0)
        found.update(_block(table, offset, _varint(where, at)[0]))
    return found


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if table[offset + size]:
        raise ValueError("a block is compressed")
    block = table[offset : offset + size]
    restarts = int.from_bytes(block[-4:], "little")
    at, key = 0, b""
    while at < len(block) - 4 * (restarts + 1):
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        at += own
        yield key, block[at : at + length]
        at += length


def _fields(message: bytes) -> dict[int, Any]:
    return dict(_messages(message))


def _messages(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protobuf message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        length, at = _varint(message, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a position, and the position behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at

"""Text vectors are computed once, and a damaged file costs only that."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tfrec.models.text_cache import VectorCache


class Encoder:
    """Vectors of two numbers: the text's length and its first letter; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(list(texts))
        return np.array([[len(t), ord(t[0]) if t else 0] for t in texts], np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "text_vectors.npz"


def test_each_text_is_encoded_once(path):
    encode = Encoder()
    cache = VectorCache(path, identity="bert:48")
    expected = [[1, 97], [2, 98], [1, 97], [0, 0]]
    assert cache.rows(["a", "bb", "a", ""], encode).tolist() == expected
    assert cache.rows(["a", "bb", "a", ""], encode).tolist() == expected
    assert VectorCache(path, identity="bert:48").rows(["ccc", "bb"], encode).tolist() == [[3, 99], [2, 98]]
    assert encode.asked == [["a", "bb", ""], ["ccc"]]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_another_encoder_does_not_meet_these_vectors(path):
    encode = Encoder()
    VectorCache(path, identity="bert:48").rows(["a"], encode)
    VectorCache(path, identity="bert:64").rows(["a"], encode)
    assert encode.asked == [["a"], ["a"]]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_damaged_file_is_written_anew(path, share):
    encode = Encoder()
    cache = VectorCache(path, identity="bert:48")
    cache.rows(["a", "bb"], encode)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert cache.rows(["bb", "a"], encode).tolist() == [[2, 98], [1, 97]]
    assert encode.asked[1:] == [["bb", "a"]]
    assert cache.rows(["bb"], encode).tolist() == [[2, 98]]
    assert len(encode.asked) == 2


def test_a_changed_byte_is_seen(path):
    encode = Encoder()
    cache = VectorCache(path, identity="bert:48")
    first = cache.rows(["a", "bb"], encode)
    whole = bytearray(path.read_bytes())
    at = whole.index(first.tobytes())
    whole[at] ^= 1
    path.write_bytes(whole)
    assert_array_equal(cache.rows(["a", "bb"], encode), first)
    assert len(encode.asked) == 2

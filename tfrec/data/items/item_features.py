"""Encodes tags, numeric values and dense vectors of items as one matrix.

The encoding is fitted once, on the first training catalogue, and kept with the checkpoint: a retrain or a new item must not move
the columns under the weights. The most frequent tags have a column each, and other tags share hashed columns. A missing number is
the mean, and a number far from all that were fitted is clipped, so that it does not outweigh everything else.
"""
import hashlib
from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from tfrec.data.records import Item

OWN_TAGS, SHARED_TAGS = 48, 16  # columns of one tag each, and columns that rarer tags share by hash
FAR = 10.0  # standard deviations: a price of 1e30 must not drown the text, nor overflow


class ItemFeatures(BaseModel):
    """The encoding: own tags, shared tags, standardised numbers, dense vectors. Fitted by `fit`, stored as JSON."""

    model_config = ConfigDict(frozen=True)

    tags: tuple[str, ...] = ()
    numeric: dict[str, tuple[float, float]] = {}  # mean and standard deviation
    dense: dict[str, int] = {}  # length of the vector

    @classmethod
    def fit(cls, items: Iterable[Item]) -> "ItemFeatures":
        """Choose columns by the tags, numbers and vectors that the items have."""
        items = list(items)
        counts = Counter(tag for item in items for tag in item.tags)
        values: dict[str, list[float]] = {}
        dense: dict[str, int] = {}
        for item in items:
            for name, value in item.numeric.items():
                values.setdefault(name, []).append(value)
            for name, vector in item.dense.items():
                dense.setdefault(name, len(vector))
        ordered = sorted(counts, key=lambda tag: (-counts[tag], tag))
        return cls(
            tags=tuple(ordered[:OWN_TAGS]),
            numeric={name: _mean_and_deviation(found) for name, found in sorted(values.items())},
            dense=dict(sorted(dense.items())),
        )

    @property
    def width(self) -> int:
        """The number of columns."""
        return OWN_TAGS + SHARED_TAGS + len(self.numeric) + sum(self.dense.values())

    def matrix(self, items: Iterable[Item]) -> npt.NDArray[np.float32]:
        """`[items, width]`, float32. A dense vector whose length is not the fitted one counts as missing."""
        items = list(items)
        out = np.zeros((len(items), self.width), np.float32)
        own = {tag: column for column, tag in enumerate(self.tags)}
        for row, item in enumerate(items):
            for tag in item.tags:
                out[row, own[tag] if tag in own else OWN_TAGS + _shared_column(tag)] = 1.0
            column = OWN_TAGS + SHARED_TAGS
            for name, (mean, deviation) in self.numeric.items():
                out[row, column] = min(FAR, max(-FAR, (item.numeric.get(name, mean) - mean) / deviation))
                column += 1
            for name, length in self.dense.items():
                vector = item.dense.get(name, ())
                if len(vector) == length:
                    out[row, column : column + length] = vector
                column += length
        return out


def _mean_and_deviation(values: list[float]) -> tuple[float, float]:
    mean, deviation = float(np.mean(values)), float(np.std(values))
    # equal numbers can differ from their own mean in the last digit
    return mean, deviation if deviation > 1e-9 * abs(mean) else 1.0


def _shared_column(tag: str) -> int:
    return int.from_bytes(hashlib.sha1(tag.encode(), usedforsecurity=False).digest()[:4]) % SHARED_TAGS

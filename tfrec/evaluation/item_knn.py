"""Item-kNN: an item scores the sum of its cosines to the items of a history, of which each counts for its nearest items only."""
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, vstack

from tfrec.evaluation.protocol import Ints
from tfrec.evaluation.training_matrix import BLOCK_BYTES, FloatArray, TrainingMatrix, row_blocks

NEIGHBOURS = 100


@dataclass(frozen=True)
class ItemKnn:
    """A scorer by cosine. Of each item it keeps the cosines that reach its `NEIGHBOURS`-th largest, ties included."""

    training: TrainingMatrix
    similarity: csr_array  # [items, n_items]: in the column of each item code its nearest neighbours

    @classmethod
    def fit(cls, training: TrainingMatrix, *, neighbours: int = NEIGHBOURS, block_bytes: int = BLOCK_BYTES) -> "ItemKnn":
        """Keep the `neighbours` nearest of each item; products are taken in blocks of `block_bytes`."""
        norm = np.sqrt(training.items.sum(axis=1))
        nearest = []
        for rows, block in row_blocks(training.items, width=len(norm), block_bytes=block_bytes):
            cosine = block @ training.users  # counts of common users, so far
            row = np.repeat(np.arange(cosine.shape[0]), np.diff(cosine.indptr))
            own = norm[rows][row]
            cosine.data /= norm[cosine.indices] * own
            cosine.data[cosine.indices == row + rows.start] = 0  # no item is its own neighbour
            for start, stop in zip(cosine.indptr, cosine.indptr[1:], strict=False):
                if stop - start > neighbours:
                    of_item = cosine.data[start:stop]
                    of_item[of_item < np.partition(of_item, -neighbours)[-neighbours]] = 0
            cosine.eliminate_zeros()
            nearest.append(cosine)
        found = vstack(nearest, format="csr").T.tocsr()
        codes = training.codes[found.indices]
        return cls(training, csr_array((found.data, codes, found.indptr), (len(norm), len(training.column))))

    def __call__(self, events: Ints) -> FloatArray:
        """`[batch, n_items]`: the scores of every item before each event."""
        return np.asarray((self.training.recent(events) @ self.similarity).toarray())

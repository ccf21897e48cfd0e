"""A version directory that has nothing but what a gateway reads, and the ranking of the graph by words alone."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tests.models.bert.tiny import PIECES, tokenizer_files
from tfrec.config import Config
from tfrec.data.items.catalogue import Catalogue
from tfrec.graph.exact_index import ExactIndex, Filters
from tfrec.models.lexical.lexicon import Lexicon
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.tokenizer.tokenizer import Tokenizer
from tfrec.models.two_tower import SEARCH_BETA
from tfrec.release.popularity_files import write_prior
from tfrec.release.weight_shards import CATALOGUE, key_of
from tfrec.release.words.word_files import write_words

SCALE = 6.0
TOKENIZER = Tokenizer(tokenizer_files([*PIECES, "人", "电", "影"]), max_tokens=8)


class Searched:
    """A catalogue in a graph and in the files of a version; items stand in the index in the order `order`."""

    def __init__(self, items: Catalogue, version: Path, *, order: npt.NDArray[np.int64] | None = None, seed: int = 0,
                 traced: bool = True) -> None:
        self.catalogue, self.version = items, version
        signature = [tf.TensorSpec([1], tf.string), tf.TensorSpec([1, None], tf.string)]
        self._ranked = tf.function(self._rank, autograph=False, input_signature=signature) if traced else self._rank
        prior = PopularityPrior(len(items))
        rng = np.random.default_rng(seed)
        prior.update(rng.integers(len(items), size=200), rng.integers(1, 10**6, size=200))
        lexicon = Lexicon.of(Config(), items, TOKENIZER)
        self.index = ExactIndex(items, np.zeros((len(items), 2), np.float32), prior.log_p(), max_k=100, order=order,
                                lexicon=lexicon)
        version.mkdir(parents=True, exist_ok=True)
        write_prior(version, prior, items.ids.tolist(), hidden=items.unavailable)
        write_words(version, None if lexicon is None else {
            "scale": SCALE, "beta": SEARCH_BETA, "order": self.index.order, "tokenizer": TOKENIZER.plain()})
        (version / "variables").mkdir(exist_ok=True)
        tf.raw_ops.SaveV2(
            prefix=str(version / "variables" / "variables"), shape_and_slices=[""] * len(self.index.state),
            tensor_names=[key_of(CATALOGUE, name) for name in self.index.state],
            tensors=[tf.convert_to_tensor(variable) for variable in self.index.state.values()])


    def by_graph(self, query: str, exclude: Sequence[str] = ()) -> tuple[list[str], npt.NDArray[np.float32], bool]:
        """Ids and scores of the graph by words and popularity alone, and whether an item that may be shown has a word."""
        answer, has_words = self._ranked(tf.constant([query]), tf.constant([list(exclude)], tf.string, [1, len(exclude)]))
        ids = [item.decode() for item in answer["items"].numpy()[0] if item]
        return ids, answer["scores"].numpy()[0, : len(ids)], bool(has_words)

    def _rank(self, query: tf.Tensor, exclude: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        words = tf.zeros([1, self.index.size()])
        if self.index.words is not None:
            words = SCALE * self.index.words(query, self.index.size())
        filters = Filters.of(tf.constant(1), words=words, exclude=exclude)
        found = self.index.search(tf.zeros([1, 2]), tf.constant([100]), beta=tf.constant([SEARCH_BETA]), filters=filters)
        return found, tf.reduce_any((words > 0) & self.index.eligible(tf.constant(1), filters))

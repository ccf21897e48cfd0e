"""Strings in, BERT token ids out, as one TensorFlow op, so that training and the served graph cannot disagree.

In training it runs on the host inside `tf.data` (XLA compiles no string op); in an export it is part of the graph.
"""
from collections.abc import Sequence

import tensorflow as tf
import tensorflow_text as tf_text

CHARACTERS_PER_TOKEN = 16  # a text is cut to this many a token before it is read: 100,000 characters cost no more than 768


class Tokenizer(tf.Module):
    """WordPiece with BERT's clean-up (lower case, accents stripped, split at punctuation) in one C++ pass.

    The ids are those of Hugging Face's tokenizer but for characters that Unicode folds into others (NFKC, case folding): here
    ß is ss, … is three dots, and full-width letters are plain ones.

    Args:
        vocabulary: word pieces; the position is the id. Must hold [PAD], [UNK], [CLS], [SEP].
        max_tokens: length to which a text is cut, [CLS] and [SEP] included.
        lower_case: whether the checkpoint was trained on lower-cased text.
    """

    def __init__(self, vocabulary: Sequence[str], *, max_tokens: int, lower_case: bool) -> None:
        super().__init__(name="tokenizer")
        ids = {piece: i for i, piece in enumerate(vocabulary)}
        self.max_tokens = max_tokens
        self._vocabulary = tf.constant(list(vocabulary))
        self.pad, self.start, self.end = ids["[PAD]"], ids["[CLS]"], ids["[SEP]"]
        self.mask = ids.get("[MASK]", ids["[UNK]"])  # a few vocabularies of small models have no piece that hides another
        self._pieces = tf_text.FastBertTokenizer(
            list(vocabulary), token_out_type=tf.int32, lower_case_nfd_strip_accents=lower_case
        )

    def __call__(self, texts: tf.Tensor, *, pad_to_max: bool) -> tf.Tensor:
        """Token ids `[batch, max_tokens]`, or `[batch, longest]` when `pad_to_max` is false, for strings `[batch]`."""
        texts = tf.strings.substr(texts, 0, CHARACTERS_PER_TOKEN * self.max_tokens, unit="UTF8_CHAR")
        rows = self._pieces.tokenize(texts)[:, : self.max_tokens - 2]
        edge = tf.ones([tf.shape(texts)[0], 1], tf.int32)
        rows = tf.concat([edge * self.start, rows, edge * self.end], axis=1)
        return rows.to_tensor(self.pad, shape=[None, self.max_tokens] if pad_to_max else None)

    def pieces(self, ids: tf.Tensor) -> tf.Tensor:
        """The word pieces of token ids, in the form of `ids`; `##` begins one that goes on with a word."""
        return tf.gather(self._vocabulary, ids)

"""The terms of a text: its word pieces, and the character trigrams of its words, most of which survive a typo.

    "Inceptoin"  ->  pieces inc ##ept ##oin;  trigrams "_in" inc nce cep ept pto toi oin "in_"

Pieces are those of the text encoder's tokenizer, so any language that the encoder reads has terms, words of Chinese among them.
Texts are in lower case, also where the encoder tells cases apart. A piece that the vocabulary lacks is no term. Trigrams have no
vocabulary: each is hashed into one of `GRAM_BUCKETS`, so the terms of a catalogue never change its shapes.
"""
import tensorflow as tf

from tfrec.models.lexical.plain_terms import CHARACTERS, EDGE, GRAM, GRAM_BUCKETS, QUERY_PIECES
from tfrec.models.tokenizer.tokenizer import Tokenizer

READING = 1  # changes when the same text and tokenizer come to give other terms


class LexicalTerms:
    """Turns texts into term ids, as one function for catalogues and for the served graph.

    Args:
        tokenizer: of the text encoder.

    Attributes:
        n_pieces: term ids below it are word pieces, the others trigrams.
        count: term ids are below it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.n_pieces = tokenizer.n_pieces
        self.count = self.n_pieces + GRAM_BUCKETS

    def __call__(self, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """Texts `[n]` -> their word pieces `[n, (pieces)]` and their trigrams `[n, (trigrams)]`, int32, in their order."""
        clean = self._clean(texts)
        return self._pieces(clean), self._grams(clean)

    def pieces(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """The word pieces alone."""
        return self._pieces(self._clean(texts))

    def trigrams(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """The trigrams alone."""
        return self._grams(self._clean(texts))

    def of_queries(self, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        """As for any text, but no more than the first terms: what a long query costs is bounded."""
        pieces, grams = self(texts)
        return pieces[:, :QUERY_PIECES], grams[:, : 4 * QUERY_PIECES]

    @property
    def identity(self) -> str:
        """What the terms of a text depend on."""
        return repr((READING, self._tokenizer.digest))

    def _clean(self, texts: tf.Tensor) -> tf.Tensor:
        return self._tokenizer.clean(tf.strings.lower(tf.strings.substr(texts, 0, CHARACTERS, unit="UTF8_CHAR"), "utf-8"))

    def _pieces(self, clean: tf.Tensor) -> tf.RaggedTensor:
        pieces = self._tokenizer.clean_ids(clean)
        return tf.ragged.boolean_mask(pieces, pieces.with_values(pieces.values != self._tokenizer.unknown))

    def _grams(self, clean: tf.Tensor) -> tf.RaggedTensor:
        words = tf.strings.split(tf.strings.regex_replace(clean, "▁", " "))
        characters = tf.strings.unicode_split(tf.strings.join([EDGE, words.values, EDGE]), "UTF-8")
        grams = tf.strings.ngrams(characters, GRAM, separator="")
        hashed = tf.strings.to_hash_bucket_fast(grams.values, GRAM_BUCKETS)
        ids = grams.with_values(tf.cast(hashed, tf.int32) + self.n_pieces)
        return words.with_values(ids).merge_dims(1, 2)

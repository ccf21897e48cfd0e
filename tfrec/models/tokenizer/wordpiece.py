"""Words into word pieces, in the graph, as a checkpoint's own tokenizer has them (Wu et al. 2016, arXiv:1609.08144).

    added tokens as they stand  ->  normalizer  ->  other added tokens  ->  words  ->  the longest pieces from the left

An added token becomes a character of private use on its way, which no text can hold. Pieces that stand for no text, such as
[SEP], are never found in one, however it is written.
"""
import re

import tensorflow as tf
import tensorflow_text as tf_text

from tfrec.errors import ModelError
from tfrec.models.pretrained.tokenizer_files import TokenizerFiles
from tfrec.models.tokenizer.character_map import APART, MARKS, Answer, CharacterFunction
from tfrec.models.tokenizer.normalization import Step, flat, in_graph, normalizing, replacing, splitting

MOST_ADDED = len(MARKS) - 1  # each is looked for by itself
LONGEST = 1_000_000  # bytes of a word: the limit here is in characters


class WordPieces(tf.Module):
    """Texts as ids of word pieces.

    Args:
        files: of the checkpoint; its model is WordPiece.

    Raises:
        ModelError: the tokenizer does something to texts that is not done here.
    """

    def __init__(self, files: TokenizerFiles) -> None:
        super().__init__(name="word_pieces")
        said = files.description()
        model = said["model"]
        self._longest_word, self._unknown = int(model["max_input_chars_per_word"]), str(model["unk_token"])
        if not model["continuing_subword_prefix"]:
            raise ModelError(f"{files.where}: expected a continuing_subword_prefix, such as ##, got none.")
        marks, before, after = _added(files)
        kept: dict[int, Answer] = {ord(mark): (ord(mark),) for mark in marks.values()}
        apart: dict[int, Answer] = {ord(mark): APART for mark in marks.values()}
        cleaned = [_but(step, kept) for step in normalizing(flat(said["normalizer"], parts="normalizers"), files.where)]
        split = splitting(flat(said["pre_tokenizer"], parts="pretokenizers"), files.where).but(apart)
        self._steps = in_graph([*before, *cleaned, *after, split])
        prefix = model["continuing_subword_prefix"]
        fits = range(1, self._longest_word + 1)
        # a piece with a space is in no word; one that is longer than any word is in none either, and NUL ends a key of the trie
        silent = files.roles - {files.unknown}
        vocabulary = [f" {i}" if i in silent or "\0" in piece or len(piece.removeprefix(prefix)) not in fits else piece
                      for i, piece in enumerate(files.pieces)]
        for i, mark in marks.items():
            vocabulary[i] = mark
        try:
            self._pieces = tf_text.FastWordpieceTokenizer(
                vocabulary, suffix_indicator=prefix, max_bytes_per_word=LONGEST, token_out_type=tf.int32,
                unknown_token=self._unknown, no_pretokenization=True)
        except RuntimeError as e:  # such as a piece of more than 256 bytes
            raise ModelError(f"{files.where}: TensorFlow Text refuses the word pieces ({e}). Choose another checkpoint.") from e

    def clean(self, texts: tf.Tensor) -> tf.Tensor:
        """The texts `[n]` with a space between words, and around each that is one character."""
        for step in self._steps:
            texts = step(texts)
        return texts

    def ids(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Ids `[n, (pieces)]` of clean texts."""
        words = tf.strings.split(texts)
        too_long = tf.strings.length(words.flat_values, unit="UTF8_CHAR") > self._longest_word
        words = words.with_flat_values(tf.where(too_long, self._unknown, words.flat_values))
        return self._pieces.tokenize(words).merge_dims(1, 2)


def _added(files: TokenizerFiles) -> tuple[dict[int, str], list[Step], list[Step]]:
    """The mark of each added token by its id, and the steps that put marks in: before and after the normalizer."""
    tokens = files.added()
    if len(tokens) > MOST_ADDED:
        raise ModelError(f"{files.where}: expected at most {MOST_ADDED} added tokens, each of which is looked for in every text, "
                         f"got {len(tokens)}. Put them into the vocabulary.")
    marks: dict[int, str] = {}
    # what a text itself holds of these characters is no text
    before: list[Step] = [replacing(f"[{chr(MARKS[0])}-{chr(MARKS[-1])}]", "\ufffd")] if tokens else []
    after: list[Step] = []
    for token in sorted(tokens, key=lambda token: -len(token.content)):  # of two that begin alike, the longer
        if token.single_word:
            raise ModelError(f"{files.where}: the added token {token.content!r} is to be found as a single word only, which "
                             "is not done here. Choose another checkpoint.")
        mark = chr(MARKS[len(marks)])
        marks[files.pieces.index(token.content)] = mark
        content = token.content
        if token.normalized and files.reference.normalizer is not None:
            content = files.reference.normalizer.normalize_str(content)
            after.append(replacing(re.escape(content), mark))
        else:
            before.append(replacing(re.escape(content), mark))
    return marks, before, after


def _but(step: Step | CharacterFunction, exceptions: dict[int, Answer]) -> Step | CharacterFunction:
    return step.but(exceptions) if isinstance(step, CharacterFunction) and exceptions else step

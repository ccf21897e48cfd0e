"""WordPiece tokenization in the graph (Wu et al. 2016, arXiv:1609.08144); it gives the ids of the checkpoint's own tokenizer.

    verbatim added tokens  ->  normalizer  ->  other added tokens  ->  words  ->  the longest pieces from the left

Each added token is replaced by a character of private use, which no text can hold, until its id is looked up. Special tokens such
as [SEP] are never found in a text, however it is written.
"""
import json
import re
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

from tfrec.errors import ModelError
from tfrec.models.pretrained.tokenizer_files import TokenizerFiles, bare
from tfrec.models.tokenizer.character_map import MARKS, SPACED, CharacterFunction, Replacement
from tfrec.models.tokenizer.normalization import (
    Step,
    build_steps,
    flatten,
    normalizer_steps,
    pre_tokenizer_function,
    replace_step,
)

MAX_ADDED = len(MARKS) - 1  # tokens, each of which is searched for by itself
_FORGED = f"[{chr(MARKS[0])}-{chr(MARKS[-1])}]"  # a mark in a text is none of ours
MAX_BYTES = 1_000_000  # of a word; the limit that counts is in characters


class WordPieces(tf.Module):
    """Turns texts into ids of word pieces.

    Args:
        files: of a checkpoint with a WordPiece model.

    Raises:
        ModelError: the tokenizer has a setting or a step that is not supported.
    """

    def __init__(self, files: TokenizerFiles) -> None:
        super().__init__(name="word_pieces")
        described = files.description()
        model = described["model"]
        self._longest_word, self._unknown = int(model["max_input_chars_per_word"]), str(model["unk_token"])
        if not model["continuing_subword_prefix"]:
            raise ModelError(f"{files.path}: expected a continuing_subword_prefix, such as ##, got none.")
        marks, before, after, inserted = _mark_added_tokens(files)
        unchanged: dict[int, Replacement] = {ord(mark): (ord(mark),) for mark in marks.values()}
        spaced: dict[int, Replacement] = {ord(mark): SPACED for mark in marks.values()}
        normalizer = normalizer_steps(flatten(described["normalizer"], parts="normalizers"), files.path)
        cleaned = [_with_exceptions(step, unchanged) for step in normalizer]
        pre_tokenizer = flatten(described["pre_tokenizer"], parts="pretokenizers")
        split = pre_tokenizer_function(pre_tokenizer, files.path).with_exceptions(spaced)
        self._steps = build_steps([*before, *cleaned, *after, split])
        prefix = model["continuing_subword_prefix"]
        fits = range(1, self._longest_word + 1)
        # a piece with a space is in no word: it stands for special tokens, for pieces longer than any word, and for pieces with
        # NUL, which ends a key of the trie
        special = files.special_ids - {files.unknown}
        vocabulary = [f" {i}" if i in special or "\0" in piece or len(piece.removeprefix(prefix)) not in fits else piece
                      for i, piece in enumerate(files.pieces)]
        for i, mark in marks.items():
            vocabulary[i] = mark
        model_of_words = {**model, "vocab": {piece: i for i, piece in enumerate(vocabulary)}}
        # as text: a module tracks what is in its dicts
        self._plain = json.dumps({"words": bare(described | {"model": model_of_words}), "sentence": None, "marks": inserted,
                                  "forged": _FORGED})
        try:
            self._pieces = tf_text.FastWordpieceTokenizer(
                vocabulary, suffix_indicator=prefix, max_bytes_per_word=MAX_BYTES, token_out_type=tf.int32,
                unknown_token=self._unknown, no_pretokenization=True)
        except RuntimeError as e:  # such as a piece of more than 256 bytes
            raise ModelError(f"{files.path}: TensorFlow Text refuses the word pieces ({e}). Choose another checkpoint.") from e

    def clean(self, texts: tf.Tensor) -> tf.Tensor:
        """Texts `[n]` -> normalized texts `[n]` with spaces between words, also around words of one character."""
        for step in self._steps:
            texts = step(texts)
        return texts

    def ids(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Clean texts `[n]` -> ids `[n, (pieces)]`."""
        words = tf.strings.split(texts)
        too_long = tf.strings.length(words.flat_values, unit="UTF8_CHAR") > self._longest_word
        words = words.with_flat_values(tf.where(too_long, self._unknown, words.flat_values))
        return self._pieces.tokenize(words).merge_dims(1, 2)

    def plain(self) -> dict[str, Any]:
        """See `Tokenizer.plain`."""
        plain: dict[str, Any] = json.loads(self._plain)
        return plain


def _mark_added_tokens(files: TokenizerFiles) -> tuple[dict[int, str], list[Step], list[Step], list[tuple[str, str, bool]]]:
    """The mark of each added token by its id, the steps that insert marks before and after the normalizer, and these in words."""
    tokens = files.added_tokens()
    if len(tokens) > MAX_ADDED:
        raise ModelError(f"{files.path}: expected at most {MAX_ADDED} added tokens, each of which is searched for in every text, "
                         f"got {len(tokens)}. Put them into the vocabulary.")
    marks: dict[int, str] = {}
    # a text must not hold marks of its own
    before: list[Step] = [replace_step(_FORGED, "\ufffd")] if tokens else []
    after: list[Step] = []
    inserted: list[tuple[str, str, bool]] = []  # mark, what it stands for, and whether it is inserted after the normalizer
    for token in sorted(tokens, key=lambda token: -len(token.content)):  # of two with the same beginning, the longer one first
        if token.single_word:
            raise ModelError(f"{files.path}: the added token {token.content!r} is to be found as a single word only, which "
                             "is not supported. Choose another checkpoint.")
        mark = chr(MARKS[len(marks)])
        marks[files.pieces.index(token.content)] = mark
        content, late = token.content, token.normalized and files.reference.normalizer is not None
        if late:
            content = files.reference.normalizer.normalize_str(content)
        (after if late else before).append(replace_step(re.escape(content), mark))
        inserted.append((mark, content, late))
    return marks, before, after, inserted


def _with_exceptions(step: Step | CharacterFunction, exceptions: dict[int, Replacement]) -> Step | CharacterFunction:
    return step.with_exceptions(exceptions) if isinstance(step, CharacterFunction) and exceptions else step

"""The tokenizer as one TensorFlow function from strings to token ids, so training and the served graph cannot disagree.

In training it runs on the host, inside `tf.data` (XLA compiles no string op). In an export it is part of the graph. The ids are
those of the checkpoint's own tokenizer, with one exception on purpose: a text that spells [SEP] or another special token is read
as those characters, so nobody can inject one.
"""
import hashlib
from functools import cached_property
from typing import Any, NamedTuple

import tensorflow as tf

from tfrec.errors import ModelError
from tfrec.models.pretrained.prompts import NO_PROMPTS, ROLES, Prompts, Role
from tfrec.models.pretrained.tokenizer_files import TokenizerFiles
from tfrec.models.tokenizer.sentencepiece import SentencePieces
from tfrec.models.tokenizer.wordpiece import WordPieces

# A text is first cut to this many characters for each token, so that 100,000 characters cost no more than 3,072 (48 tokens). A
# text whose first 3,072 characters give fewer than 48 tokens, such as mostly blanks, ends earlier than with the checkpoint's own
# tokenizer.
CHARACTERS_PER_TOKEN = 64
EDGES = 2  # tokens that every text has: [CLS] and [SEP]
# Texts that both tokenizers read when one is loaded: a setting that is not supported changes the ids of at least one of them.
PROBES = ("The quick brown fox: 1,234.50 items!", "Ça coûte cher, naïve Ångström; ÜBER-größe", "Съешь ещё ЭТИХ булок",
          "Ελληνικά ΓΡΆΜΜΑ", "مرحبا بالعالم", "שלום עולם", "हिन्दी किताब", "ภาษาไทยง่ายมาก", "我喜欢看电影 2024年",
          "ひらがなとカタカナ、漢字", "한국어 영화", "e-mail a_b@c.de #x don't")


class _Prompt(NamedTuple):
    clean: bytes  # normalized
    ids: list[int]
    ends_with_space: bool


class Tokenizer(tf.Module):
    """Turns texts into token ids: [CLS], the prompt, the text, [SEP].

    Args:
        files: of the checkpoint.
        max_tokens: to which a text is cut, including the prompt, [CLS] and [SEP].
        prompts: of queries and of items.

    Raises:
        ModelError: the checkpoint's tokenizer is not supported, or a prompt leaves no room for a text.
    """

    def __init__(self, files: TokenizerFiles, *, max_tokens: int, prompts: Prompts = NO_PROMPTS) -> None:
        super().__init__(name="tokenizer")
        self.max_tokens, self.prompts = max_tokens, prompts
        self.pad, self.start, self.end, self.mask = files.pad, files.start, files.end, files.mask
        self.unknown = files.unknown
        self._names = tf.constant(files.pieces)
        self._reference = files.reference
        self._model = (WordPieces if files.kind == "WordPiece" else SentencePieces)(files)
        _compare(files, self._model)
        self._prompts: dict[Role, _Prompt] = {}
        for role in ROLES:
            prompt = prompts.of(role)
            clean = self._model.clean(tf.constant([prompt]))
            ids = self._model.ids(clean)[0].numpy().tolist()
            if len(ids) + EDGES >= max_tokens:
                raise ModelError(f"{files.path}: the prompt {prompt!r} takes {len(ids)} tokens, and with {EDGES} more leaves no "
                                 f"room for a text in text.max_tokens = {max_tokens}. Raise it.")
            self._prompts[role] = _Prompt(clean.numpy()[0], ids, clean.numpy()[0].endswith(b" "))

    def __call__(self, texts: tf.Tensor, *, role: Role = "item", pad_to_max: bool) -> tf.Tensor:
        """Strings `[batch]` -> token ids `[batch, max_tokens]`, or `[batch, longest]` if `pad_to_max` is False.

        A text without pieces of its own gets no prompt: it is [CLS] and [SEP] alone.
        """
        clean = self._model.clean(tf.strings.substr(texts, 0, CHARACTERS_PER_TOKEN * self.max_tokens, unit="UTF8_CHAR"))
        prompt = self._prompts[role]
        # a prompt that ends with a space is tokenized once; another one may share a piece with the beginning of the text
        rows = self._model.ids(clean if prompt.ends_with_space or not prompt.ids else tf.strings.join([prompt.clean, clean]))
        if prompt.ids:
            is_empty = rows.row_lengths() == 0 if prompt.ends_with_space else tf.strings.strip(clean) == b""
            if prompt.ends_with_space:
                rows = tf.concat([tf.repeat(tf.constant([prompt.ids], tf.int32), tf.shape(texts)[0], axis=0), rows], axis=1)
            rows = tf.ragged.boolean_mask(rows, rows.with_values(tf.repeat(~is_empty, rows.row_lengths())))
        rows = rows[:, : self.max_tokens - EDGES]
        edge = tf.ones([tf.shape(texts)[0], 1], tf.int32)
        rows = tf.concat([edge * self.start, rows, edge * self.end], axis=1)
        return rows.to_tensor(self.pad, shape=[None, self.max_tokens] if pad_to_max else None)

    @property
    def n_pieces(self) -> int:
        """How many pieces there are: ids are below it."""
        return int(self._names.shape[0])

    @cached_property
    def digest(self) -> str:
        """Return a digest of the checkpoint's tokenizer."""
        return hashlib.sha256(self._reference.to_str().encode()).hexdigest()

    def clean(self, texts: tf.Tensor) -> tf.Tensor:
        """Return strings `[batch]` as the checkpoint normalizes them, with spaces (or `▁`) between words."""
        return self._model.clean(texts)

    def clean_ids(self, clean: tf.Tensor) -> tf.RaggedTensor:
        """Return the ids `[batch, (pieces)]` of clean texts, without prompt, [CLS] and [SEP], and not cut."""
        return self._model.ids(clean)

    def plain(self) -> dict[str, Any]:
        """Return what a process without TensorFlow needs to read queries as the graph does (`lexical/plain_terms.py`), for JSON.

        `words` and `sentence` are tokenizers of the package `tokenizers`: the words of a text, and its pieces where these are not
        found word by word. `marks` are the added tokens, and a character of the text that matches `forged` is none.
        """
        return {"n_pieces": self.n_pieces, "unknown": self.unknown, **self._model.plain()}

    def prompt_length(self, role: Role) -> int:
        """Return the number of tokens of the prompt, which follow [CLS] in a text that is not empty."""
        return len(self._prompts[role].ids)

    def pieces(self, ids: tf.Tensor) -> tf.Tensor:
        """Return the pieces of token ids, in the shape of `ids`.

        A piece that continues a word begins with `##`, or one that begins a word with `▁`, depending on the model.
        """
        return tf.gather(self._names, ids)


def _compare(files: TokenizerFiles, model: WordPieces | SentencePieces) -> None:
    """Compare what was built with the checkpoint's own tokenizer.

    Raises:
        ModelError: they read a text differently.
    """
    probes = [*PROBES, *(f"one {token.content} two" for token in files.added_tokens())]
    for text, own in zip(probes, model.ids(model.clean(tf.constant(probes))).to_list(), strict=True):
        expected = files.reference.encode(text, add_special_tokens=False).ids
        if own != expected:
            theirs, ours = ([files.pieces[i] for i in ids] for ids in (expected, own))
            raise ModelError(f"{files.path}: the checkpoint's tokenizer reads {text!r} as {theirs}, and what tfrec builds of "
                             f"it as {ours}. Choose another checkpoint.")

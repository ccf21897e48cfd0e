"""Strings in, token ids out, as one TensorFlow function, so that training and the served graph cannot disagree.

In training it runs on the host inside `tf.data` (XLA compiles no string op); in an export it is part of the graph. The ids are
those of the checkpoint's own tokenizer. One thing differs, on purpose: a text that spells [SEP] or another piece that stands for
no text is read as those characters, so nobody can write one.
"""
import tensorflow as tf

from tfrec.errors import ModelError
from tfrec.models.pretrained.prompts import NO_PROMPTS, ROLES, Prompts, Role
from tfrec.models.pretrained.tokenizer_files import TokenizerFiles
from tfrec.models.tokenizer.sentencepiece import SentencePieces
from tfrec.models.tokenizer.wordpiece import WordPieces

# A text is cut to this many a token before it is read: 100,000 characters cost no more than 3,072. A text of whose first 3,072
# fewer than 48 tokens come, such as mostly blanks, is read less far than the checkpoint's own tokenizer would.
CHARACTERS_PER_TOKEN = 64
EDGES = 2  # tokens that every text has: [CLS] and [SEP]
# Read at load by both tokenizers: what a setting that is not known here would change shows in one of them.
PROBES = ("The quick brown fox: 1,234.50 items!", "Ça coûte cher, naïve Ångström; ÜBER-größe", "Съешь ещё ЭТИХ булок",
          "Ελληνικά ΓΡΆΜΜΑ", "مرحبا بالعالم", "שלום עולם", "हिन्दी किताब", "ภาษาไทยง่ายมาก", "我喜欢看电影 2024年",
          "ひらがなとカタカナ、漢字", "한국어 영화", "e-mail a_b@c.de #x don't")


class Tokenizer(tf.Module):
    """Texts as token ids, a prompt before each, [CLS] and [SEP] around both.

    Args:
        files: of the checkpoint.
        max_tokens: length to which a text is cut, prompt, [CLS] and [SEP] included.
        prompts: what comes before a query and before an item's text.

    Raises:
        ModelError: the checkpoint's tokenizer does something that is not done here, or a prompt leaves no room for a text.
    """

    def __init__(self, files: TokenizerFiles, *, max_tokens: int, prompts: Prompts = NO_PROMPTS) -> None:
        super().__init__(name="tokenizer")
        self.max_tokens, self.prompts = max_tokens, prompts
        self.pad, self.start, self.end, self.mask = files.pad, files.start, files.end, files.mask
        self._names = tf.constant(files.pieces)
        self._texts = (WordPieces if files.kind == "WordPiece" else SentencePieces)(files)
        _compare(files, self._texts)
        self._prompts: dict[Role, tuple[str, list[int], bool]] = {}
        for role in ROLES:
            prompt = prompts.of(role)
            clean = self._texts.clean(tf.constant([prompt]))
            ids = self._texts.ids(clean)[0].numpy().tolist()
            if len(ids) + EDGES >= max_tokens:
                raise ModelError(f"{files.where}: the prompt {prompt!r} takes {len(ids)} tokens, and with {EDGES} more leaves no "
                                 f"room for a text in text.max_tokens = {max_tokens}. Raise it.")
            self._prompts[role] = (clean.numpy()[0], ids, clean.numpy()[0].endswith(b" "))

    def __call__(self, texts: tf.Tensor, *, role: Role = "item", pad_to_max: bool) -> tf.Tensor:
        """Token ids `[batch, max_tokens]`, or `[batch, longest]` when `pad_to_max` is false, for strings `[batch]`.

        A text that has no pieces of its own gets no prompt: it is [CLS] and [SEP] alone.
        """
        clean = self._texts.clean(tf.strings.substr(texts, 0, CHARACTERS_PER_TOKEN * self.max_tokens, unit="UTF8_CHAR"))
        prompt, ids, apart = self._prompts[role]
        rows = self._texts.ids(clean if apart or not ids else tf.strings.join([prompt, clean]))
        if ids:
            empty = rows.row_lengths() == 0 if apart else tf.strings.strip(clean) == b""
            before = tf.repeat(tf.constant([ids], tf.int32), tf.shape(texts)[0], axis=0) if apart else rows[:, :0]
            rows = tf.ragged.boolean_mask(*_emptied(tf.concat([before, rows], axis=1), empty))
        rows = rows[:, : self.max_tokens - EDGES]
        edge = tf.ones([tf.shape(texts)[0], 1], tf.int32)
        rows = tf.concat([edge * self.start, rows, edge * self.end], axis=1)
        return rows.to_tensor(self.pad, shape=[None, self.max_tokens] if pad_to_max else None)

    def prompt_length(self, role: Role) -> int:
        """How many tokens of a text that is not empty are its prompt's, after [CLS]."""
        return len(self._prompts[role][1])

    def pieces(self, ids: tf.Tensor) -> tf.Tensor:
        """The pieces of token ids, in the form of `ids`; `##` begins one that goes on with a word, or `▁` one that begins a
        word."""
        return tf.gather(self._names, ids)


def _emptied(rows: tf.RaggedTensor, empty: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """The rows, and which of their values stay: none of a row that is empty."""
    return rows, rows.with_values(tf.repeat(~empty, rows.row_lengths()))


def _compare(files: TokenizerFiles, texts: WordPieces | SentencePieces) -> None:
    """Hold what was built against the checkpoint's own tokenizer."""
    probes = [*PROBES, *(f"one {token.content} two" for token in files.added())]
    for text, own in zip(probes, texts.ids(texts.clean(tf.constant(probes))).to_list(), strict=True):
        expected = files.reference.encode(text, add_special_tokens=False).ids
        if own != expected:
            theirs, ours = ([files.pieces[i] for i in ids] for ids in (expected, own))
            raise ModelError(f"{files.where}: the checkpoint's tokenizer reads {text!r} as {theirs}, and what can be built here "
                             f"as {ours}. Choose another checkpoint.")

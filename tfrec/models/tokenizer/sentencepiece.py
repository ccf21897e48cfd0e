"""SentencePiece tokenization in the graph, by the operator of TensorFlow Text; it gives the ids of XLM-R's tokenizer."""
import base64
import json
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

from tfrec.errors import ModelError
from tfrec.models.pretrained.sentencepiece_file import serialized_model
from tfrec.models.pretrained.tokenizer_files import TokenizerFiles, bare
from tfrec.models.tokenizer.normalization import build_steps, flatten, normalizer_steps, pre_tokenizer_function

WORD = "▁"  # begins a piece that begins a word


class SentencePieces(tf.Module):
    """Turns texts into ids of SentencePiece pieces.

    Args:
        files: of a checkpoint with a Unigram model.

    Raises:
        ModelError: the tokenizer has a setting or a step that is not supported.
    """

    def __init__(self, files: TokenizerFiles) -> None:
        super().__init__(name="sentence_pieces")
        described, path = files.description(), files.path
        model = described["model"]
        if model.get("byte_fallback"):
            raise ModelError(f"{path}: byte_fallback is true, which is not supported. Choose another checkpoint.")
        if model["unk_id"] != files.unknown:
            raise ModelError(f"{path}: expected unk_id {files.unknown}, the id of unk_token, got {model['unk_id']}.")
        if plain := [token.content for token in files.added_tokens() if not token.special]:
            raise ModelError(f"{path}: the added tokens {', '.join(map(repr, plain))} would have to be looked for in texts, "
                             "which is supported for WordPiece only. Choose another checkpoint.")
        *splits, last = flatten(described["pre_tokenizer"], parts="pretokenizers") or [{"type": "none"}]
        if last["type"] != "Metaspace" or last["replacement"] != WORD or last.get("prepend_scheme", "always") != "always":
            raise ModelError(f"{path}: expected a pre_tokenizer that ends with Metaspace, which puts {WORD} before every word, "
                             f"got {last!r}. Choose another checkpoint.")
        steps = flatten(described["normalizer"], parts="normalizers")
        charsmaps = [base64.b64decode(step["precompiled_charsmap"]) for step in steps if step["type"] == "Precompiled"]
        if len(charsmaps) > 1 or (charsmaps and any(step["type"] not in ("Precompiled", "Replace", "Strip") for step in steps)):
            kinds = ", ".join(step["type"] for step in steps)
            raise ModelError(f"{path}: expected Precompiled as the normalizer, got {kinds}. Choose another checkpoint.")
        others = [step for step in steps if step["type"] not in ("Precompiled", "Strip") and not _joins_spaces(step)]
        if charsmaps and others:
            raise ModelError(f"{path}: expected Precompiled as the normalizer, got {others!r} beside it. "
                             "Choose another checkpoint.")
        spaces = [pre_tokenizer_function(splits, path)] if splits else []
        self._steps = build_steps([*normalizer_steps(others, path), *spaces])
        scores = {i: float(score) for i, (_, score) in enumerate(model["vocab"])}
        # ids that no text may get: those without a piece, special and added tokens, and pieces with NUL, which ends a key of the
        # operator's trie
        spelt = {i for i, piece in enumerate(files.pieces) if piece and "\0" not in piece and i in scores}
        control = frozenset(range(len(files.pieces))) - spelt | files.special_ids
        control |= {files.pieces.index(token.content) for token in files.added_tokens()}
        pieces = [(piece if i in spelt else f"{WORD} {i}", scores.get(i, 0.0)) for i, piece in enumerate(files.pieces)]
        model_file = serialized_model(pieces, unknown=files.unknown, control=control, charsmap=b"".join(charsmaps))
        self._pieces = tf_text.SentencepieceTokenizer(model=model_file, out_type=tf.int32)
        # the same for the package `tokenizers`, which finds whatever piece is in its vocabulary
        no_text = control | {files.unknown}
        vocabulary = [(f"{WORD} {i}" if i in no_text else piece, score) for i, (piece, score) in enumerate(pieces)]
        cleaned = {"normalizer": {"type": "Sequence", "normalizers": others},
                   "pre_tokenizer": {"type": "Sequence", "pretokenizers": splits} if splits else None,
                   "model": {"type": "WordLevel", "vocab": {"": 0}, "unk_token": ""}}
        # as text: a module tracks what is in its dicts
        self._plain = json.dumps({"words": bare(cleaned), "sentence": bare(described | {"model": {**model, "vocab": vocabulary}}),
                                  "marks": [], "forged": ""})

    def clean(self, texts: tf.Tensor) -> tf.Tensor:
        """Texts `[n]` -> texts `[n]` for the operator, which normalizes the rest itself."""
        for step in self._steps:
            texts = step(texts)
        return texts

    def ids(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Clean texts `[n]` -> ids `[n, (pieces)]`."""
        return self._pieces.tokenize(texts)

    def plain(self) -> dict[str, Any]:
        """See `Tokenizer.plain`."""
        plain: dict[str, Any] = json.loads(self._plain)
        return plain


def _joins_spaces(step: dict[str, object]) -> bool:
    """Whether a step turns several spaces into one, which the operator does by itself."""
    return step.get("pattern") in ({"Regex": " {2,}"}, {"Regex": " +"}) and step.get("content") in (" ", WORD)

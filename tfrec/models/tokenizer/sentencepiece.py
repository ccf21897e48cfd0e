"""Texts into SentencePiece's pieces, in the graph, by TensorFlow Text's operator, as XLM-R's tokenizer has them."""
import base64

import tensorflow as tf
import tensorflow_text as tf_text

from tfrec.errors import ModelError
from tfrec.models.pretrained.sentencepiece_file import written
from tfrec.models.pretrained.tokenizer_files import TokenizerFiles
from tfrec.models.tokenizer.normalization import flat, in_graph, normalizing, splitting

WORD = "▁"  # begins a piece that begins a word


class SentencePieces(tf.Module):
    """Texts as ids of SentencePiece's pieces.

    Args:
        files: of the checkpoint; its model is Unigram.

    Raises:
        ModelError: the tokenizer does something to texts that is not done here.
    """

    def __init__(self, files: TokenizerFiles) -> None:
        super().__init__(name="sentence_pieces")
        said, where = files.description(), files.where
        model = said["model"]
        if model.get("byte_fallback"):
            raise ModelError(f"{where}: byte_fallback is true, which is not done here. Choose another checkpoint.")
        if model["unk_id"] != files.unknown:
            raise ModelError(f"{where}: expected unk_id {files.unknown}, the id of unk_token, got {model['unk_id']}.")
        if plain := [token.content for token in files.added() if not token.special]:
            raise ModelError(f"{where}: the added tokens {', '.join(map(repr, plain))} would have to be looked for in texts, "
                             "which is done for WordPiece only. Choose another checkpoint.")
        *splits, last = flat(said["pre_tokenizer"], parts="pretokenizers") or [{"type": "none"}]
        if last["type"] != "Metaspace" or last["replacement"] != WORD or last.get("prepend_scheme", "always") != "always":
            raise ModelError(f"{where}: expected a pre_tokenizer that ends with Metaspace, which puts {WORD} before every word, "
                             f"got {last!r}. Choose another checkpoint.")
        steps = flat(said["normalizer"], parts="normalizers")
        charsmaps = [base64.b64decode(step["precompiled_charsmap"]) for step in steps if step["type"] == "Precompiled"]
        if len(charsmaps) > 1 or (charsmaps and any(step["type"] not in ("Precompiled", "Replace", "Strip") for step in steps)):
            kinds = ", ".join(step["type"] for step in steps)
            raise ModelError(f"{where}: expected Precompiled as the normalizer, got {kinds}. Choose another checkpoint.")
        others = [step for step in steps if step["type"] not in ("Precompiled", "Strip") and not _joins_spaces(step)]
        if charsmaps and others:
            raise ModelError(f"{where}: expected Precompiled as the normalizer, got {others!r} beside it. "
                             "Choose another checkpoint.")
        spaces = [splitting(splits, where)] if splits else []
        self._steps = in_graph([*normalizing(others, where), *spaces])
        scores = {i: float(score) for i, (_, score) in enumerate(model["vocab"])}
        # pieces that no text spells: holes, what stands for no text, and NUL, which ends a key of the operator's trie
        spelt = {i for i, piece in enumerate(files.pieces) if piece and "\0" not in piece and i in scores}
        silent = frozenset(range(len(files.pieces))) - spelt | files.roles
        silent |= {files.pieces.index(token.content) for token in files.added()}
        pieces = [(piece if i in spelt else f"{WORD} {i}", scores.get(i, 0.0)) for i, piece in enumerate(files.pieces)]
        self._pieces = tf_text.SentencepieceTokenizer(
            model=written(pieces, unknown=files.unknown, control=silent, charsmap=b"".join(charsmaps)), out_type=tf.int32)

    def clean(self, texts: tf.Tensor) -> tf.Tensor:
        """The texts `[n]` as the operator is to read them; it does the rest itself."""
        for step in self._steps:
            texts = step(texts)
        return texts

    def ids(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Ids `[n, (pieces)]` of clean texts."""
        return self._pieces.tokenize(texts)


def _joins_spaces(step: dict[str, object]) -> bool:
    """Whether a step makes one space of several, which the operator does by itself."""
    return step.get("pattern") in ({"Regex": " {2,}"}, {"Regex": " +"}) and step.get("content") in (" ", WORD)

"""The tokenizer of a checkpoint: its files, read into an object of the package `tokenizers`.

tokenizer.json is the whole description. Without it, vocab.txt or a SentencePiece model is read, with the settings of
tokenizer_config.json. The object is the reference for `tokenizer.py`, which builds the same tokenizer in the graph.
"""
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from tfrec.errors import ModelError
from tfrec.models.pretrained.json_files import read_json
from tfrec.models.pretrained.sentencepiece_file import read_xlmr_tokenizer

log = logging.getLogger(__name__)

BERT_SPECIALS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
XLMR_SPECIALS = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
# tokenizer classes without code of their own; each also with the suffix Fast
PLAIN_CLASSES = ("BertTokenizer", "DistilBertTokenizer", "XLMRobertaTokenizer", "PreTrainedTokenizer")
NO_LIMIT = 1_000_000  # a larger model_max_length means that there is no limit
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
                   "sentencepiece.bpe.model")


@dataclass(frozen=True)
class TokenizerFiles:
    """The tokenizer of a checkpoint, and the ids of its special tokens."""

    path: Path  # the file that describes it
    reference: Tokenizer = field(repr=False)
    kind: str  # "WordPiece" or "Unigram"
    pieces: list[str] = field(repr=False)  # by id; "" for an id without a piece
    pad: int
    unknown: int
    start: int
    end: int
    mask: int  # the unknown piece, where the vocabulary has no mask, as in a few small ones
    max_tokens: int | None = None  # the limit that the files state

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that stand for no text."""
        return frozenset((self.pad, self.unknown, self.start, self.end, self.mask))

    def description(self) -> dict[str, Any]:
        """Return the tokenizer in the format of tokenizer.json."""
        described: dict[str, Any] = json.loads(self.reference.to_str())
        return described

    def added_tokens(self) -> list[AddedToken]:
        """Return the tokens that were added to the vocabulary and are looked for in texts, in the order of their ids."""
        found = self.reference.get_added_tokens_decoder()
        return [found[i] for i in sorted(found) if i not in self.special_ids]


def bare(described: Mapping[str, Any]) -> dict[str, Any]:
    """The normalizer, the pre_tokenizer and the model of a tokenizer, as a tokenizer in the format of tokenizer.json."""
    none = dict.fromkeys(("truncation", "padding", "post_processor", "decoder"))
    own = {name: described[name] for name in ("normalizer", "pre_tokenizer", "model")}
    return {"version": "1.0", "added_tokens": [], **none, **own}


def read_tokenizer(directory: Path, *, vocab_size: int, lower_case: bool = False) -> TokenizerFiles:
    """Read the tokenizer of the checkpoint in `directory`.

    Args:
        directory: of config.json.
        vocab_size: of config.json; every id must be below it.
        lower_case: whether texts are lower-cased first, as sentence_bert_config.json may say.

    Raises:
        ModelError: a file is missing or broken, or has a setting that is not supported.
    """
    settings = _settings(directory)
    if (directory / "tokenizer.json").is_file():
        path = directory / "tokenizer.json"
        reference = _from_tokenizer_json(path, settings)
    elif (directory / "vocab.txt").is_file():
        path = directory / "vocab.txt"
        reference = _from_vocab_txt(path, settings)
    elif (directory / "sentencepiece.bpe.model").is_file():
        path = directory / "sentencepiece.bpe.model"
        _check_class(directory, settings)
        reference = read_xlmr_tokenizer(path)
    else:
        raise ModelError(f"{directory}: expected vocab.txt, tokenizer.json or sentencepiece.bpe.model, found none of them.")
    kind = type(reference.model).__name__
    if lower_case and kind == "WordPiece":
        before = [] if reference.normalizer is None else [reference.normalizer]
        reference.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
    elif lower_case:
        raise ModelError(f"{directory}/sentence_bert_config.json: do_lower_case is true, which is supported for WordPiece only, "
                         f"and the tokenizer is a {kind}. Choose another checkpoint.")
    _add_tokens(directory, settings, reference)
    return _tokenizer_files(directory, path, reference, settings, vocab_size)


def _settings(directory: Path) -> dict[str, Any]:
    """The settings of tokenizer_config.json, which come before those of special_tokens_map.json."""
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (directory / name).is_file():
            found |= {key: value for key, value in read_json(directory / name).items() if value is not None}
    path = directory / "tokenizer_config.json"
    refused = {"truncation_side": "left", "do_basic_tokenize": False}
    for key, value in refused.items():
        if found.get(key) == value:
            raise ModelError(f"{path}: {key} is {json.dumps(value)}, which is not supported. Choose another checkpoint.")
    if found.get("never_split"):
        raise ModelError(f"{path}: never_split is {found['never_split']!r}, which is not supported. Make them added tokens.")
    return found


def _check_class(directory: Path, settings: dict[str, Any]) -> None:
    """Check the class of a tokenizer without a tokenizer.json, since the class says what the other files mean."""
    named = settings.get("tokenizer_class", PLAIN_CLASSES[0])
    if str(named).removesuffix("Fast") not in PLAIN_CLASSES or "auto_map" in settings:
        words = ", ".join(PLAIN_CLASSES[:-1])
        raise ModelError(f"{directory}/tokenizer_config.json: expected tokenizer_class to be one of {words}, got {named!r}"
                         f"{' with code of its own' if 'auto_map' in settings else ''}, and there is no tokenizer.json that "
                         "describes it. Save the tokenizer with one, or choose another checkpoint.")


def _from_tokenizer_json(path: Path, settings: dict[str, Any]) -> Tokenizer:
    described = read_json(path)
    kind = (described.get("model") or {}).get("type")
    if kind not in ("WordPiece", "Unigram"):
        raise ModelError(f"{path}: expected a WordPiece or a Unigram model, got {kind!r}. Choose another checkpoint, such as a "
                         "BERT or a multilingual E5.")
    if (described.get("truncation") or {}).get("direction") == "Left":
        raise ModelError(f"{path}: truncation is at the left, which is not supported. Choose another checkpoint.")
    normalizer = described.get("normalizer") or {}
    if normalizer.get("type") == "BertNormalizer":  # the settings override it, as in transformers
        names = {"do_lower_case": "lowercase", "strip_accents": "strip_accents", "tokenize_chinese_chars": "handle_chinese_chars"}
        differing = {own: settings[key] for key, own in names.items() if key in settings and settings[key] != normalizer.get(own)}
        if differing:
            log.warning("%s says %s, tokenizer_config.json beside it %s: the latter is used, as in transformers.", path,
                        {key: normalizer.get(key) for key in differing}, differing)
            described["normalizer"] = normalizer | differing
    try:
        return Tokenizer.from_str(json.dumps(described | {"truncation": None, "padding": None}))
    except Exception as e:  # errors of the parser in Rust are plain Exceptions
        raise ModelError(f"{path}: not a tokenizer that can be read ({e}). Download the checkpoint again.") from e


def _from_vocab_txt(path: Path, settings: dict[str, Any]) -> Tokenizer:
    _check_class(path.parent, settings)
    try:  # not `splitlines`: some pieces are what Unicode calls a line separator
        pieces = path.read_bytes().decode("utf-8").replace("\r\n", "\n").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as e:
        raise ModelError(f"{path}: expected word pieces in UTF-8, a line each, and could not read them ({e}). "
                         "Download the checkpoint again.") from e
    ids: dict[str, int] = {}
    for line, piece in enumerate(pieces):
        if ids.setdefault(piece, line) != line and piece:
            raise ModelError(f"{path}: expected each word piece once, found {piece!r} in lines {ids[piece] + 1} and {line + 1}. "
                             "The ids of the later pieces are uncertain. Download the checkpoint again.")
    reference = Tokenizer(models.WordPiece(ids, unk_token=_special_token(settings, "unk", BERT_SPECIALS)))
    reference.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
        strip_accents=settings.get("strip_accents"), lowercase=bool(settings.get("do_lower_case", True)))
    reference.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return reference


def _special_token(settings: dict[str, Any], role: str, defaults: dict[str, str]) -> str:
    named = settings.get(f"{role}_token", defaults[role])
    return str(named.get("content", defaults[role]) if isinstance(named, dict) else named)


def _add_tokens(directory: Path, settings: dict[str, Any], reference: Tokenizer) -> None:
    """Add the tokens that files beside the vocabulary name."""
    wanted: dict[int, AddedToken] = {}
    if (path := directory / "added_tokens.json").is_file():
        wanted |= {i: AddedToken(content, normalized=True) for content, i in read_json(path).items()}
    for i, entry in dict(settings.get("added_tokens_decoder", {})).items():
        flags = {k: bool(entry[k]) for k in ("single_word", "lstrip", "rstrip", "normalized", "special") if k in entry}
        wanted[int(i)] = AddedToken(entry["content"], **flags)
    known = reference.get_added_tokens_decoder()
    for i in sorted(wanted):
        if i in known:
            continue
        token = wanted[i]
        reference.add_special_tokens([token]) if token.special else reference.add_tokens([token])
        if reference.token_to_id(token.content) != i:
            raise ModelError(f"{directory}: the added token {token.content!r} has id {i} in tokenizer_config.json or "
                             f"added_tokens.json, and id {reference.token_to_id(token.content)} after the pieces of the "
                             "vocabulary. The files are of different checkpoints.")


def _tokenizer_files(directory: Path, path: Path, reference: Tokenizer, settings: dict[str, Any],
                     vocab_size: int) -> TokenizerFiles:
    kind = type(reference.model).__name__
    ids = _special_ids(directory, path, reference, settings)
    vocabulary = reference.get_vocab(with_added_tokens=True)
    largest = max(vocabulary.values())
    if largest >= vocab_size:
        raise ModelError(f"{directory}/config.json: expected vocab_size {largest + 1} or more, for the word pieces in "
                         f"{path.name}, got {vocab_size}. The files are of different checkpoints.")
    pieces = [""] * (largest + 1)
    for piece, i in vocabulary.items():
        if pieces[i] and pieces[i] != piece:
            raise ModelError(f"{path}: expected an id for each piece, got {i} for both {pieces[i]!r} and {piece!r}.")
        pieces[i] = piece
    limit = settings.get("model_max_length")
    if not isinstance(limit, int | float) or isinstance(limit, bool) or not 2 < limit < NO_LIMIT:
        limit = None
    return TokenizerFiles(path, reference, kind, pieces, pad=ids["pad"], unknown=ids["unk"], start=ids["cls"], end=ids["sep"],
                          mask=ids.get("mask", ids["unk"]), max_tokens=None if limit is None else int(limit))


def _special_ids(directory: Path, path: Path, reference: Tokenizer, settings: dict[str, Any]) -> dict[str, int]:
    """The ids of pad, unk, cls, sep and, where the vocabulary has it, mask."""
    is_word_piece = type(reference.model).__name__ == "WordPiece"
    defaults = BERT_SPECIALS if is_word_piece else XLMR_SPECIALS
    names = {role: _special_token(settings, role, defaults) for role in defaults}
    if is_word_piece:
        names["unk"] = reference.model.unk_token
    ids = {role: reference.token_to_id(name) for role, name in names.items()}
    if reference.post_processor is not None:
        edges = reference.encode("").ids
        if len(edges) != 2:
            raise ModelError(f"{path}: expected a text to stand between two tokens, as in [CLS] text [SEP], got a "
                             f"post_processor that adds {len(edges)}. Choose another checkpoint.")
        ids["cls"], ids["sep"] = edges
    found = {role: i for role, i in ids.items() if i is not None}
    if missing := [name for role, name in names.items() if role not in found and role != "mask"]:
        raise ModelError(f"{directory}: expected {', '.join(n for r, n in names.items() if r != 'mask')} among the word pieces, "
                         f"found no {', '.join(missing)}.")
    return found

"""How a checkpoint reads texts: its tokenizer's files in, the tokenizer as the package `tokenizers` has it out.

tokenizer.json is the whole description where there is one; without it, vocab.txt or a SentencePiece model is, with the settings
of tokenizer_config.json. That object is the reference for `tokenizer.py`, which builds the same in the graph.
"""
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from tfrec.errors import ModelError
from tfrec.models.pretrained import sentencepiece_file
from tfrec.models.pretrained.json_files import read_json

log = logging.getLogger(__name__)

BERT_ROLES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
XLMR_ROLES = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
PLAIN_CLASSES = ("BertTokenizer", "DistilBertTokenizer", "XLMRobertaTokenizer", "PreTrainedTokenizer")  # and each with Fast
NO_LIMIT = 1_000_000  # a model_max_length beyond says that there is none
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
                   "sentencepiece.bpe.model")


@dataclass(frozen=True)
class TokenizerFiles:
    """A checkpoint's tokenizer."""

    where: Path  # the file that describes it
    reference: Tokenizer = field(repr=False)
    kind: str  # "WordPiece" or "Unigram"
    pieces: list[str] = field(repr=False)  # by id; "" where no piece has the id
    pad: int
    unknown: int
    start: int
    end: int
    mask: int  # the unknown one, where the vocabulary has none: a few small ones
    most_tokens: int | None = None  # that the checkpoint says it reads

    @property
    def roles(self) -> frozenset[int]:
        """Ids that stand for no text."""
        return frozenset((self.pad, self.unknown, self.start, self.end, self.mask))

    def description(self) -> dict[str, Any]:
        """What tokenizer.json says, but for the vocabulary."""
        said: dict[str, Any] = json.loads(self.reference.to_str())
        return said

    def added(self) -> list[AddedToken]:
        """The tokens that were added to the vocabulary and are looked for in texts, in the order of their ids."""
        found = self.reference.get_added_tokens_decoder()
        return [found[i] for i in sorted(found) if i not in self.roles]


def read_tokenizer(directory: Path, *, vocab_size: int, lower_case: bool = False) -> TokenizerFiles:
    """Read the tokenizer of the checkpoint in `directory`.

    Args:
        vocab_size: as config.json has it; every id must be below.
        lower_case: texts are lower-cased before the tokenizer reads them (as sentence_bert_config.json may say).

    Raises:
        ModelError: a file is missing or broken, or says something that is not done here.
    """
    settings = _settings(directory)
    if (directory / "tokenizer.json").is_file():
        where, reference = _from_description(directory / "tokenizer.json", settings)
    elif (directory / "vocab.txt").is_file():
        where, reference = _from_pieces(directory / "vocab.txt", settings)
    elif (directory / "sentencepiece.bpe.model").is_file():
        where = directory / "sentencepiece.bpe.model"
        _check_class(directory, settings)
        reference = sentencepiece_file.read(where)
    else:
        raise ModelError(f"{directory}: expected vocab.txt, tokenizer.json or sentencepiece.bpe.model, found none of them.")
    kind = type(reference.model).__name__
    if lower_case and kind == "WordPiece":
        before = [] if reference.normalizer is None else [reference.normalizer]
        reference.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])
    elif lower_case:
        raise ModelError(f"{directory}/sentence_bert_config.json: do_lower_case is true, which is done for WordPiece only, and "
                         f"the tokenizer is a {kind}. Choose another checkpoint.")
    _add_tokens(directory, settings, reference)
    return _checked(directory, where, reference, settings, vocab_size)


def _settings(directory: Path) -> dict[str, Any]:
    """tokenizer_config.json, and below it the roles of special_tokens_map.json."""
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (directory / name).is_file():
            found |= {key: value for key, value in read_json(directory / name).items() if value is not None}
    where = directory / "tokenizer_config.json"
    refused = {"truncation_side": "left", "do_basic_tokenize": False}
    for key, value in refused.items():
        if found.get(key) == value:
            raise ModelError(f"{where}: {key} is {json.dumps(value)}, which is not done here. Choose another checkpoint.")
    if found.get("never_split"):
        raise ModelError(f"{where}: never_split is {found['never_split']!r}, which is not done here. Make them added tokens.")
    return found


def _check_class(directory: Path, settings: dict[str, Any]) -> None:
    """Without a tokenizer.json, what the files mean is for the class to say; only these mean what is read here."""
    named = settings.get("tokenizer_class", PLAIN_CLASSES[0])
    if str(named).removesuffix("Fast") not in PLAIN_CLASSES or "auto_map" in settings:
        words = ", ".join(PLAIN_CLASSES[:-1])
        raise ModelError(f"{directory}/tokenizer_config.json: expected tokenizer_class to be one of {words}, got {named!r}"
                         f"{' with code of its own' if 'auto_map' in settings else ''}, and there is no tokenizer.json that "
                         "would describe it. Save the tokenizer with one, or choose another checkpoint.")


def _from_description(path: Path, settings: dict[str, Any]) -> tuple[Path, Tokenizer]:
    said = read_json(path)
    kind = (said.get("model") or {}).get("type")
    if kind not in ("WordPiece", "Unigram"):
        raise ModelError(f"{path}: expected a WordPiece or a Unigram model, got {kind!r}. Choose another checkpoint, such as a "
                         "BERT or a multilingual E5.")
    if (said.get("truncation") or {}).get("direction") == "Left":
        raise ModelError(f"{path}: truncation is at the left, which is not done here. Choose another checkpoint.")
    normalizer = said.get("normalizer") or {}
    if normalizer.get("type") == "BertNormalizer":  # the settings go over it, as they do in transformers
        names = {"do_lower_case": "lowercase", "strip_accents": "strip_accents", "tokenize_chinese_chars": "handle_chinese_chars"}
        differing = {own: settings[key] for key, own in names.items() if key in settings and settings[key] != normalizer.get(own)}
        if differing:
            log.warning("%s says %s, tokenizer_config.json beside it %s: the latter is done, as transformers does.", path,
                        {key: normalizer.get(key) for key in differing}, differing)
            said["normalizer"] = normalizer | differing
    try:
        return path, Tokenizer.from_str(json.dumps(said | {"truncation": None, "padding": None}))
    except Exception as e:  # what Rust's parser says comes as a plain Exception
        raise ModelError(f"{path}: not a tokenizer that can be read ({e}). Download the checkpoint again.") from e


def _from_pieces(path: Path, settings: dict[str, Any]) -> tuple[Path, Tokenizer]:
    _check_class(path.parent, settings)
    try:  # split at line ends alone: some pieces are what Unicode calls a line separator
        pieces = path.read_bytes().decode("utf-8").replace("\r\n", "\n").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as e:
        raise ModelError(f"{path}: expected word pieces in UTF-8, a line each, and could not read them ({e}). "
                         "Download the checkpoint again.") from e
    ids: dict[str, int] = {}
    for line, piece in enumerate(pieces):
        if ids.setdefault(piece, line) != line and piece:
            raise ModelError(f"{path}: expected each word piece once, found {piece!r} in lines {ids[piece] + 1} and {line + 1}. "
                             "The ids of the later pieces would be unsure. Download the checkpoint again.")
    reference = Tokenizer(models.WordPiece(ids, unk_token=_role(settings, "unk", BERT_ROLES)))
    reference.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
        strip_accents=settings.get("strip_accents"), lowercase=bool(settings.get("do_lower_case", True)))
    reference.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return path, reference


def _role(settings: dict[str, Any], role: str, defaults: dict[str, str]) -> str:
    named = settings.get(f"{role}_token", defaults[role])
    return str(named.get("content", defaults[role]) if isinstance(named, dict) else named)


def _add_tokens(directory: Path, settings: dict[str, Any], reference: Tokenizer) -> None:
    """Tokens that files beside the vocabulary add to it."""
    wanted: dict[int, AddedToken] = {}
    if (path := directory / "added_tokens.json").is_file():
        wanted |= {i: AddedToken(content, normalized=True) for content, i in read_json(path).items()}
    for i, said in dict(settings.get("added_tokens_decoder", {})).items():
        flags = {k: bool(said[k]) for k in ("single_word", "lstrip", "rstrip", "normalized", "special") if k in said}
        wanted[int(i)] = AddedToken(said["content"], **flags)
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


def _checked(directory: Path, where: Path, reference: Tokenizer, settings: dict[str, Any], vocab_size: int) -> TokenizerFiles:
    kind = type(reference.model).__name__
    defaults = BERT_ROLES if kind == "WordPiece" else XLMR_ROLES
    names = {role: _role(settings, role, defaults) for role in defaults}
    if kind == "WordPiece":
        names["unk"] = reference.model.unk_token
    ids = {role: reference.token_to_id(name) for role, name in names.items()}
    if reference.post_processor is not None:
        edges = reference.encode("").ids
        if len(edges) != 2:
            raise ModelError(f"{where}: expected a text to stand between two tokens, as in [CLS] text [SEP], got a "
                             f"post_processor that adds {len(edges)}. Choose another checkpoint.")
        ids["cls"], ids["sep"] = edges
    found = {role: i for role, i in ids.items() if i is not None}
    if missing := [name for role, name in names.items() if role not in found and role != "mask"]:
        raise ModelError(f"{directory}: expected {', '.join(n for r, n in names.items() if r != 'mask')} among the word pieces, "
                         f"found no {', '.join(missing)}.")
    vocabulary = reference.get_vocab(with_added_tokens=True)
    largest = max(vocabulary.values())
    if largest >= vocab_size:
        raise ModelError(f"{directory}/config.json: expected vocab_size {largest + 1} or more, for the word pieces in "
                         f"{where.name}, got {vocab_size}. The files are of different checkpoints.")
    pieces = [""] * (largest + 1)
    for piece, i in vocabulary.items():
        if pieces[i] and pieces[i] != piece:
            raise ModelError(f"{where}: expected an id for each piece, got {i} for both {pieces[i]!r} and {piece!r}.")
        pieces[i] = piece
    most = settings.get("model_max_length")
    most = int(most) if isinstance(most, int | float) and not isinstance(most, bool) and 2 < most < NO_LIMIT else None
    return TokenizerFiles(where, reference, kind, pieces, found["pad"], found["unk"], found["cls"], found["sep"],
                          found.get("mask", found["unk"]), most)

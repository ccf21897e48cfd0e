"""SentencePiece models (Kudo & Richardson 2018, arXiv:1808.06226): reading and writing `sentencepiece_model.proto`.

The ids of XLM-R are not the positions in its file: fairseq put <s>, <pad>, </s> and <unk> first, and <mask> last.
"""
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from tfrec.errors import ModelError

UNIGRAM = 1  # TrainerSpec.ModelType
NORMAL, UNKNOWN, CONTROL = 1, 2, 3  # SentencePiece.Type
FILE_SPECIALS = ("<unk>", "<s>", "</s>")  # the first pieces of the file
XLMR_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
# the fields that are used here: name, number and type; enums are read as numbers
FIELDS = {
    "SentencePiece": (("piece", 1, "STRING"), ("score", 2, "FLOAT"), ("type", 3, "INT32")),
    "TrainerSpec": (("model_type", 3, "INT32"), ("vocab_size", 4, "INT32"), ("unk_id", 40, "INT32"), ("bos_id", 41, "INT32"),
                    ("eos_id", 42, "INT32"), ("pad_id", 43, "INT32"), ("unk_piece", 45, "STRING")),
    "NormalizerSpec": (("name", 1, "STRING"), ("precompiled_charsmap", 2, "BYTES"), ("add_dummy_prefix", 3, "BOOL"),
                       ("remove_extra_whitespaces", 4, "BOOL"), ("escape_whitespaces", 5, "BOOL")),
    "ModelProto": (("pieces", 1, "SentencePiece"), ("trainer_spec", 2, "TrainerSpec"), ("normalizer_spec", 3, "NormalizerSpec")),
}


def read_xlmr_tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer of XLM-R from a sentencepiece.bpe.model.

    Raises:
        ModelError: the file is broken, or is not a Unigram model with the pieces of XLM-R.
    """
    model = _model_class()()
    try:
        model.ParseFromString(path.read_bytes())
        pieces = [(entry.piece, entry.score) for entry in model.pieces]
    except (OSError, DecodeError, ValueError) as e:  # ValueError: a piece that is not UTF-8
        raise ModelError(f"{path}: not a SentencePiece model that can be read ({e}). Download the checkpoint again.") from e
    trainer = model.trainer_spec
    if (trainer.HasField("model_type") and trainer.model_type != UNIGRAM) or not pieces:
        raise ModelError(f"{path}: expected a SentencePiece model of type Unigram, got another. Choose another checkpoint.")
    if tuple(piece for piece, _ in pieces[: len(FILE_SPECIALS)]) != FILE_SPECIALS:
        raise ModelError(f"{path}: expected {', '.join(FILE_SPECIALS)} as the first pieces, as XLM-R has them, got others. "
                         "Choose a checkpoint with a tokenizer.json.")
    vocabulary = [*((piece, 0.0) for piece in XLMR_SPECIALS), *pieces[len(FILE_SPECIALS) :], ("<mask>", 0.0)]
    reference = Tokenizer(models.Unigram(vocabulary, unk_id=XLMR_SPECIALS.index("<unk>"), byte_fallback=False))
    if charsmap := model.normalizer_spec.precompiled_charsmap:
        reference.normalizer = normalizers.Precompiled(charsmap)
    reference.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")])
    reference.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (*XLMR_SPECIALS, "<mask>")])
    return reference


def serialized_model(pieces: list[tuple[str, float]], *, unknown: int, control: frozenset[int], charsmap: bytes) -> bytes:
    """Return a ModelProto whose ids are the positions in `pieces`.

    Args:
        pieces: with their scores.
        unknown: id of the piece for text that no other piece spells.
        control: ids of pieces that no text can spell.
        charsmap: of `NormalizerSpec.precompiled_charsmap`, which normalises characters; empty for none.
    """
    model = _model_class()()
    for i, (piece, score) in enumerate(pieces):
        kind = UNKNOWN if i == unknown else CONTROL if i in control else NORMAL
        model.pieces.add(piece=piece, score=score, type=kind)
    # the ids of begin, end and padding are -1, since none of them is added
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type, trainer.vocab_size, trainer.unk_id, trainer.unk_piece = UNIGRAM, len(pieces), unknown, pieces[unknown][0]
    trainer.bos_id = trainer.eos_id = trainer.pad_id = -1
    normalizer.name = "tfrec"
    if charsmap:
        normalizer.precompiled_charsmap = charsmap
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = normalizer.escape_whitespaces = True
    serialized: bytes = model.SerializeToString()
    return serialized


@cache
def _model_class() -> Any:
    """The message class ModelProto, with `FIELDS`."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="sentencepiece_model.proto", package="sentencepiece", syntax="proto2")
    for message, fields in FIELDS.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            label = field.LABEL_REPEATED if name == "pieces" else field.LABEL_OPTIONAL
            is_message = kind in FIELDS
            described.field.add(name=name, number=number, label=label, type_name=f".sentencepiece.{kind}" if is_message else None,
                                type=field.TYPE_MESSAGE if is_message else getattr(field, f"TYPE_{kind}"))
    pool = descriptor_pool.DescriptorPool()  # of its own: the package sentencepiece registers the same names
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("sentencepiece.ModelProto"))

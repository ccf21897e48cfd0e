"""SentencePiece models (Kudo & Richardson 2018, arXiv:1808.06226) as files: `sentencepiece_model.proto`, read and written.

    ModelProto: 1 pieces, 2 trainer_spec, 3 normalizer_spec        SentencePiece: 1 piece, 2 score, 3 type

XLM-R's ids are not the places of its file: fairseq put <s>, <pad>, </s> and <unk> before, and <mask> behind.
"""
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from tfrec.errors import ModelError

UNIGRAM = 1  # TrainerSpec.ModelType
NORMAL, UNKNOWN, CONTROL = 1, 2, 3  # SentencePiece.Type
FIRST = ("<unk>", "<s>", "</s>")  # of the file
FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types


def read(path: Path) -> Tokenizer:
    """XLM-R's tokenizer of a sentencepiece.bpe.model.

    Raises:
        ModelError: the file is none, or no Unigram model.
    """
    pieces: list[tuple[str, float]] = []
    trainer, normalizer = {}, {}
    try:
        for number, value in _fields(path.read_bytes()):
            if number == 1:
                said = dict(_fields(value))
                pieces.append((said[1].decode(), struct.unpack("<f", said.get(2, bytes(4)))[0]))
            elif number == 2:
                trainer = dict(_fields(value))
            elif number == 3:
                normalizer = dict(_fields(value))
    except (OSError, IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error) as e:
        raise ModelError(f"{path}: not a SentencePiece model that can be read ({e}). Download the checkpoint again.") from e
    if trainer.get(3, UNIGRAM) != UNIGRAM or not pieces:
        raise ModelError(f"{path}: expected a SentencePiece model of type Unigram, got another. Choose another checkpoint.")
    if tuple(piece for piece, _ in pieces[: len(FIRST)]) != FIRST:
        raise ModelError(f"{path}: expected {', '.join(FIRST)} as the first pieces, as XLM-R has them, got others. Choose a "
                         "checkpoint with a tokenizer.json.")
    vocabulary = [*((piece, 0.0) for piece in FAIRSEQ), *pieces[len(FIRST) :], ("<mask>", 0.0)]
    reference = Tokenizer(models.Unigram(vocabulary, unk_id=FAIRSEQ.index("<unk>"), byte_fallback=False))
    if charsmap := normalizer.get(2, b""):
        reference.normalizer = normalizers.Precompiled(charsmap)
    reference.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")])
    reference.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (*FAIRSEQ, "<mask>")])
    return reference


def written(pieces: list[tuple[str, float]], *, unknown: int, control: frozenset[int], charsmap: bytes) -> bytes:
    """The ModelProto whose ids are the places in `pieces`.

    Args:
        pieces: with their scores.
        unknown: the place of the piece for what no piece spells.
        control: places of pieces that no text can spell.
        charsmap: how characters are normalised, `NormalizerSpec.precompiled_charsmap`; empty: not at all.
    """
    out = bytearray()
    for i, (piece, score) in enumerate(pieces):
        kind = UNKNOWN if i == unknown else CONTROL if i in control else NORMAL
        out += _bytes(1, _bytes(1, piece.encode()) + bytes([2 << 3 | FIXED32]) + struct.pack("<f", score) + _number(3, kind))
    # unk_id is read, and no begin, end or padding is added here: -1 as a 64-bit two's complement
    out += _bytes(2, _number(3, UNIGRAM) + _number(4, len(pieces)) + _number(40, unknown)
                  + b"".join(_number(n, 2**64 - 1) for n in (41, 42, 43)) + _bytes(45, pieces[unknown][0].encode()))
    normal = _bytes(1, b"tfrec") + (_bytes(2, charsmap) if charsmap else b"")
    out += _bytes(3, normal + b"".join(_number(n, 1) for n in (3, 4, 5)))
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | VARINT) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Fields of a message: numbers as int, all else as bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            yield number, varint()
            continue
        if wire not in (FIXED64, BYTES, FIXED32):
            raise ValueError(f"wire type {wire} at byte {at}")
        size = {FIXED64: 8, FIXED32: 4}.get(wire) or (varint() if wire == BYTES else 0)
        if at + size > len(data):
            raise ValueError("it ends in the middle of a field")
        yield number, data[at : at + size]
        at += size

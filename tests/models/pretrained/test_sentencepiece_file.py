"""A SentencePiece model is read as it was written, and what cannot be read is named."""
import pytest

from tfrec.errors import ModelError
from tfrec.models.pretrained.sentencepiece_file import read_xlmr_tokenizer, serialized_model

PIECES = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁heat", -1.5), ("▁", -2.0), ("é", -3.0)]


def written(pieces: list[tuple[str, float]] = PIECES) -> bytes:
    return serialized_model(pieces, unknown=0, control=frozenset({1, 2}), charsmap=b"")


def test_the_format_is_that_of_sentencepiece():
    # field 1 of the model, 14 bytes: piece (1, bytes), score (2, 32 bits), type (3, varint: unknown)
    assert written(PIECES).startswith(b"\x0a\x0e" + b"\x0a\x05<unk>" + b"\x15\x00\x00\x00\x00" + b"\x18\x02")


def test_ids_are_those_of_xlm_r(tmp_path):
    (tmp_path / "model").write_bytes(written())
    tokenizer = read_xlmr_tokenizer(tmp_path / "model")
    assert [tokenizer.id_to_token(i) for i in range(8)] == ["<s>", "<pad>", "</s>", "<unk>", "▁heat", "▁", "é", "<mask>"]
    assert tokenizer.encode("heat é x", add_special_tokens=False).ids == [4, 5, 6, 5, 3]


@pytest.mark.parametrize(("content", "words"), [
    (b"", "expected a SentencePiece model of type Unigram"),
    (written()[:20], "not a SentencePiece model that can be read"),
    (b"\xff\xff", "not a SentencePiece model that can be read"),
    (written(PIECES[3:]), "expected <unk>, <s>, </s> as the first pieces"),
])
def test_a_broken_file_is_named(tmp_path, content, words):
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(ModelError, match=rf"/model: {words}"):
        read_xlmr_tokenizer(tmp_path / "model")

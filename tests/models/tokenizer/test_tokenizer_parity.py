"""The graph's token ids are those of the checkpoint's own tokenizer: hard texts, and each setting."""
import pytest
import tensorflow as tf
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Reference

from tests.models.bert.tiny import write_json
from tfrec.errors import ModelError
from tfrec.models.pretrained.tokenizer_files import read_tokenizer
from tfrec.models.tokenizer.tokenizer import Tokenizer

MAX_VALUE = 64
TEXTS = [
    "Amélie à Montmartre — Über-Grön, naïve façade, Łódź, Straße", "Съешь ещё этих булок, ЁЖИК", "Ξεσκεπάζω ΟΔΟΣ ΐ",
    "مرحبا، كيف حالُكَ؟", "שָׁלוֹם עוֹלָם", "हिन्दी में किताबें", "ภาษาไทยเป็นภาษาที่มีระดับเสียงของคำแน่นอน" * 2,
    "我喜欢看电影，2024年《流浪地球》", "カタカナ・ひらがな。がぎぐ", "한국어 영화를 각",
    "👍🏽👨‍👩‍👧 emoji 😀test", "Ｆｕｌｌ　ｗｉｄｔｈ ﬁ ½ ①② … ™",
    "e\u0301 a\u0308\u0323 \u0301alone", "tab\tnew\nline bell\x07\x7f\x85\u2028x", "zero\u200bwidth\u200djoin\ufeffbom\u00adsoft",
    "", "   ",
    "İstanbul ıI ǅ ẞß", "$100 + 5% = <a@b.c> #tag `~^|", "x" * 101, "z" * 99 + " a", "word " * 3000,
    "\ufffd\ue000\U0010F000 private", "\u0378 \U000e0001tag", "\U0001d400 math \U00020000 ext \U0002F800",
    "a\u3000b\u00a0c\u2009d",
]
BERT, SPLIT = normalizers.BertNormalizer, pre_tokenizers.BertPreTokenizer
SETTINGS = {
    "uncased": (BERT(), SPLIT()),
    "cased": (BERT(lowercase=False), SPLIT()),
    "accents kept": (BERT(strip_accents=False), SPLIT()),
    "accents stripped, case kept": (BERT(strip_accents=True, lowercase=False), SPLIT()),
    "Chinese words whole": (BERT(handle_chinese_chars=False), SPLIT()),
    "not cleaned": (BERT(clean_text=False), SPLIT()),
    "no normalizer": (None, SPLIT()),
    "composed": (normalizers.Sequence([normalizers.NFC()]), SPLIT()),
    "compatible, lower": (normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]), SPLIT()),
    "decomposed, stripped": (normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]), SPLIT()),
    "split at spaces": (BERT(), pre_tokenizers.WhitespaceSplit()),
    "digits apart": (BERT(), pre_tokenizers.Sequence([SPLIT(), pre_tokenizers.Digits(individual_digits=True)])),
}


def saved(directory, normalizer, splitter, *, added=()):
    """A tokenizer with a piece for every character of the texts, alone, within a word, and for some pairs."""
    chars = sorted({c for text in TEXTS for c in text + text.lower() if c.isprintable() and c != " "} | set("abcdefghijklmnop"))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *chars, *(f"##{c}" for c in chars), "##rd", "电影", "na"]
    ids = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    reference = Reference(models.WordPiece(ids, unk_token="[UNK]"))
    if normalizer is not None:
        reference.normalizer = normalizer
    reference.pre_tokenizer = splitter
    reference.add_tokens(list(added))
    directory.mkdir(exist_ok=True)
    reference.save(str(directory / "tokenizer.json"))
    return read_tokenizer(directory, vocab_size=10_000)


def same(files, texts):
    got = Tokenizer(files, max_tokens=MAX_VALUE)(tf.constant(texts), pad_to_max=False).numpy().tolist()
    for text, ids in zip(texts, got, strict=True):
        expected = files.reference.encode(text, add_special_tokens=False).ids[: MAX_VALUE - 2]
        assert ids[: len(expected) + 2] == [files.start, *expected, files.end], text
        assert set(ids[len(expected) + 2 :]) <= {files.pad}


@pytest.mark.parametrize("setting", SETTINGS)
def test_hard_texts_are_read_as_the_checkpoint_reads_them(tmp_path, setting):
    same(saved(tmp_path / "t", *SETTINGS[setting]), TEXTS)


def test_added_tokens_are_found(tmp_path):
    added = [AddedToken("gar con", normalized=True), AddedToken("<E1>", normalized=False), AddedToken("gar", normalized=True)]
    same(saved(tmp_path / "t", *SETTINGS["uncased"], added=added), ["gar con", "a<E1>b <e1>", "GAR CON, gar", "gargar con", ""])


def test_ids_may_have_holes(tmp_path):
    ids = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 7, "b": 9}
    reference = Reference(models.WordPiece(ids, unk_token="[UNK]"))
    reference.pre_tokenizer = SPLIT()
    reference.save(str(tmp_path / "tokenizer.json"))
    got = Tokenizer(read_tokenizer(tmp_path, vocab_size=10), max_tokens=8)(tf.constant(["a b c"]), pad_to_max=False)
    assert got.numpy().tolist() == [[2, 7, 9, 1, 3]]


@pytest.mark.parametrize(
    ("normalizer", "splitter", "words"),
    [
        (None, pre_tokenizers.Whitespace(), "expected a pre_tokenizer of BertPreTokenizer, .* got {'type': 'Whitespace'}"),
        (None, pre_tokenizers.ByteLevel(), "expected a pre_tokenizer of .*'ByteLevel'"),
        (normalizers.Prepend("x"), SPLIT(), "expected a normalizer of BertNormalizer, .*'Prepend'"),
        (normalizers.Replace(Regex(r"\s"), ""), SPLIT(), "expected a normalizer of .*'Replace'"),
    ],
)
def test_what_is_not_done_is_refused_by_name(tmp_path, normalizer, splitter, words):
    with pytest.raises(ModelError, match=rf"tokenizer\.json: {words}"):
        Tokenizer(saved(tmp_path / "t", normalizer, splitter), max_tokens=MAX_VALUE)


def test_settings_go_over_a_normalizer_of_bert(tmp_path):
    saved(tmp_path / "t", *SETTINGS["uncased"])
    write_json(tmp_path / "t" / "tokenizer_config.json", {"do_lower_case": False})
    files = read_tokenizer(tmp_path / "t", vocab_size=10_000)
    assert files.reference.normalizer.normalize_str("Heat") == "Heat"
    same(files, ["Heat", "É"])

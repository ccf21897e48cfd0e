"""What a checkpoint's tokenizer does to a text before it looks for pieces, in the graph: strings in, strings out.

The steps are those of tokenizer.json. One that reads a character at a time becomes a `CharacterFunction`, asked of the step
itself, and neighbours become one table; the Unicode forms and replacements are TensorFlow's operators. Any other step is refused
by name. """
import json
import re
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text
from tokenizers import normalizers, pre_tokenizers

from tfrec.errors import ModelError
from tfrec.models.tokenizer.character_map import APART, KEPT, SPACE, Answer, CharacterFunction, CharacterMap

Step = Callable[[tf.Tensor], tf.Tensor]

BY_CHARACTER = {"BertNormalizer": normalizers.BertNormalizer, "Lowercase": normalizers.Lowercase,
                "StripAccents": normalizers.StripAccents, "Nmt": normalizers.Nmt}
FORMS = ("NFC", "NFD", "NFKC", "NFKD")
SPLITTERS = {"BertPreTokenizer": pre_tokenizers.BertPreTokenizer, "WhitespaceSplit": pre_tokenizers.WhitespaceSplit,
             "Punctuation": pre_tokenizers.Punctuation, "Digits": pre_tokenizers.Digits}
NO_EFFECT = ("Strip",)  # words are split at spaces anyway


def flat(said: dict[str, Any] | None, *, parts: str) -> list[dict[str, Any]]:
    """The steps of a description, those inside a Sequence one by one."""
    if said is None:
        return []
    if said["type"] == "Sequence":
        return [step for part in said[parts] for step in flat(part, parts=parts)]
    return [said]


def normalizing(steps: list[dict[str, Any]], where: Path) -> list[Step | CharacterFunction]:
    """The steps of a normalizer.

    Raises:
        ModelError: one is not known here.
    """
    found: list[Step | CharacterFunction] = []
    for said in steps:
        kind, settings = said["type"], {key: value for key, value in said.items() if key != "type"}
        if kind in BY_CHARACTER:
            found.append(_by_character(kind, json.dumps(settings)))
        elif kind in FORMS:
            found.append(partial(tf_text.normalize_utf8, normalization_form=kind))
        elif kind == "Replace" and (pattern := _pattern(settings["pattern"])) is not None:
            found.append(replacing(pattern, settings["content"]))
        elif kind not in NO_EFFECT:
            raise ModelError(f"{where}: expected a normalizer of {', '.join((*BY_CHARACTER, *FORMS, 'Replace'))}, got {said!r}. "
                             "Choose another checkpoint.")
    return found


def splitting(steps: list[dict[str, Any]], where: Path) -> CharacterFunction:
    """A pre-tokenizer as a function: what was between words becomes spaces, and what is a word by itself stands between two.

    Raises:
        ModelError: it is none of those whose splits depend on one character at a time.
    """
    for said in steps:
        kind, settings = said["type"], {key: value for key, value in said.items() if key != "type"}
        alone = settings.get("behavior", "Isolated") == "Isolated" and settings.get("individual_digits", True)
        if kind not in SPLITTERS or not alone:
            raise ModelError(f"{where}: expected a pre_tokenizer of {', '.join(SPLITTERS)}, each character that is split off a "
                             f"word by itself, got {said!r}. Choose another checkpoint.")
    if not steps:
        raise ModelError(f"{where}: expected a pre_tokenizer, got null: a text would be one word. Choose another checkpoint.")
    return _split(json.dumps(steps))


def replacing(pattern: str, content: str) -> Step:
    """What matches a pattern of RE2 becomes `content`."""
    rewrite = content.replace("\\", "\\\\")
    return lambda texts: tf.strings.regex_replace(texts, pattern, rewrite)


def _pattern(said: dict[str, str]) -> str | None:
    """For RE2; None for expressions that it may read otherwise than `tokenizers` does."""
    if "String" in said:
        return re.escape(said["String"])
    return said["Regex"] if re.fullmatch(r"[\w ,{}+*]+", said["Regex"]) else None


def in_graph(steps: list[Step | CharacterFunction]) -> list[Step]:
    """The steps as operators, neighbouring functions of characters as one table."""
    found: list[Step] = []
    pending: CharacterFunction | None = None
    for step in steps:
        if isinstance(step, CharacterFunction):
            pending = step if pending is None else pending.then(step)
            continue
        if pending is not None:
            found.append(CharacterMap(pending))
            pending = None
        found.append(step)
    return found if pending is None else [*found, CharacterMap(pending)]


# A process reads several encoders at most, most of them with the same settings, and to ask takes half a second.


@lru_cache(maxsize=4)
def _by_character(kind: str, settings: str) -> CharacterFunction:
    return CharacterFunction.of_normalizer(BY_CHARACTER[kind](**json.loads(settings)).normalize_str)


@lru_cache(maxsize=4)
def _split(steps: str) -> CharacterFunction:
    tools = []
    for said in json.loads(steps):
        settings = {key: value.lower() if key == "behavior" else value for key, value in said.items() if key != "type"}
        tools.append(SPLITTERS[said["type"]](**settings))
    split = pre_tokenizers.Sequence(tools)

    def ask(chars: str) -> list[Answer]:
        kinds: list[Answer] = [(SPACE,)] * len(chars)
        for _, (begin, end) in split.pre_tokenize_str("a".join(chars)):  # each beside letters, at an even place
            for at in range(begin + begin % 2, end, 2):
                kinds[at // 2] = APART if end - begin == 1 else KEPT
        return kinds

    return CharacterFunction.asked(ask)

"""Normalization and splitting into words, in the graph: what a checkpoint's tokenizer does to a text before it looks for pieces.

The steps are those of tokenizer.json. A step that reads one character at a time becomes a `CharacterFunction`, which is learnt by
asking the step itself, and neighbouring functions become one table. Unicode forms and replacements are operators of TensorFlow.
Any other step is refused by name.
"""
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
from tfrec.models.tokenizer.character_map import SPACE, SPACED, UNCHANGED, CharacterFunction, CharacterMap, Replacement

Step = Callable[[tf.Tensor], tf.Tensor]

BY_CHARACTER = {"BertNormalizer": normalizers.BertNormalizer, "Lowercase": normalizers.Lowercase,
                "StripAccents": normalizers.StripAccents, "Nmt": normalizers.Nmt}
FORMS = ("NFC", "NFD", "NFKC", "NFKD")
SPLITTERS = {"BertPreTokenizer": pre_tokenizers.BertPreTokenizer, "WhitespaceSplit": pre_tokenizers.WhitespaceSplit,
             "Punctuation": pre_tokenizers.Punctuation, "Digits": pre_tokenizers.Digits}
NO_EFFECT = ("Strip",)  # words are split at spaces anyway


def flatten(described: dict[str, Any] | None, *, parts: str) -> list[dict[str, Any]]:
    """Return the steps of a description, with those of each Sequence one by one; `parts` is the key of its steps."""
    if described is None:
        return []
    if described["type"] == "Sequence":
        return [step for part in described[parts] for step in flatten(part, parts=parts)]
    return [described]


def normalizer_steps(steps: list[dict[str, Any]], path: Path) -> list[Step | CharacterFunction]:
    """Return the steps of a normalizer; `path` is its file, for errors.

    Raises:
        ModelError: a step is not supported.
    """
    found: list[Step | CharacterFunction] = []
    for step in steps:
        kind, settings = step["type"], {key: value for key, value in step.items() if key != "type"}
        if kind in BY_CHARACTER:
            found.append(_by_character(kind, json.dumps(settings)))
        elif kind in FORMS:
            found.append(partial(tf_text.normalize_utf8, normalization_form=kind))
        elif kind == "Replace" and (pattern := _pattern(settings["pattern"])) is not None:
            found.append(replace_step(pattern, settings["content"]))
        elif kind not in NO_EFFECT:
            raise ModelError(f"{path}: expected a normalizer of {', '.join((*BY_CHARACTER, *FORMS, 'Replace'))}, got {step!r}. "
                             "Choose another checkpoint.")
    return found


def pre_tokenizer_function(steps: list[dict[str, Any]], path: Path) -> CharacterFunction:
    """Return a pre-tokenizer as a function that puts spaces between words, and around a character that is a word by itself.

    Raises:
        ModelError: its splits do not depend on one character at a time.
    """
    for step in steps:
        kind, settings = step["type"], {key: value for key, value in step.items() if key != "type"}
        alone = settings.get("behavior", "Isolated") == "Isolated" and settings.get("individual_digits", True)
        if kind not in SPLITTERS or not alone:
            raise ModelError(f"{path}: expected a pre_tokenizer of {', '.join(SPLITTERS)}, each character that is split off a "
                             f"word by itself, got {step!r}. Choose another checkpoint.")
    if not steps:
        raise ModelError(f"{path}: expected a pre_tokenizer, got null: a text would be one word. Choose another checkpoint.")
    return _split(json.dumps(steps))


def replace_step(pattern: str, content: str) -> Step:
    """Return a step that replaces what matches a pattern of RE2."""
    rewrite = content.replace("\\", "\\\\")
    return lambda texts: tf.strings.regex_replace(texts, pattern, rewrite)


def _pattern(described: dict[str, str]) -> str | None:
    """The pattern for RE2; None for an expression that RE2 may read in another way than `tokenizers`."""
    if "String" in described:
        return re.escape(described["String"])
    return described["Regex"] if re.fullmatch(r"[\w ,{}+*]+", described["Regex"]) else None


def build_steps(steps: list[Step | CharacterFunction]) -> list[Step]:
    """Return the steps as operators; neighbouring functions of characters become one table."""
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


# Caches: a process reads a few encoders, most of them with the same settings, and to ask for all characters takes half a second.


@lru_cache(maxsize=4)
def _by_character(kind: str, settings: str) -> CharacterFunction:
    return CharacterFunction.of_normalizer(BY_CHARACTER[kind](**json.loads(settings)).normalize_str)


@lru_cache(maxsize=4)
def _split(steps: str) -> CharacterFunction:
    splitters = []
    for step in json.loads(steps):
        settings = {key: value.lower() if key == "behavior" else value for key, value in step.items() if key != "type"}
        splitters.append(SPLITTERS[step["type"]](**settings))
    split = pre_tokenizers.Sequence(splitters)

    def ask(chars: str) -> list[Replacement]:
        replacements: list[Replacement] = [(SPACE,)] * len(chars)  # of a character that is in no word
        # the characters stand at even positions, with a letter between them: one that is split off is a word of length 1
        for _, (begin, end) in split.pre_tokenize_str("a".join(chars)):
            for position in range(begin + begin % 2, end, 2):
                replacements[position // 2] = SPACED if end - begin == 1 else UNCHANGED
        return replacements

    return CharacterFunction.learn(ask)

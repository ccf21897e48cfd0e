"""Prompts: the words that a checkpoint was trained to see before a query, and before a text that is searched."""
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfrec.errors import ModelError
from tfrec.models.pretrained.json_files import read_json

Role = Literal["query", "item"]
ROLES: tuple[Role, ...] = ("query", "item")

# their names in sentence-transformers, the preferred one first
NAMES: dict[Role, tuple[str, ...]] = {"query": ("query",), "item": ("document", "passage", "corpus")}


@dataclass(frozen=True)
class Prompts:
    """The prompt for each role of a text; an empty string means that there is none."""

    query: str
    item: str

    def of(self, role: Role) -> str:
        """Return the prompt for a role."""
        return self.query if role == "query" else self.item

    def override(self, *, query: str | None, item: str | None) -> "Prompts":
        """Return prompts in which those that are not None replace the present ones."""
        return Prompts(self.query if query is None else query, self.item if item is None else item)


NO_PROMPTS = Prompts("", "")


def read_prompts(path: Path) -> Prompts:
    """Read the prompts in a config_sentence_transformers.json: `query`, and the first of `document`, `passage` and `corpus`.

    Where the file has none of these names, both prompts are the one that `default_prompt_name` names.

    Raises:
        ModelError: the file has prompts that are not texts, or a default that it does not have.
    """
    if not path.is_file():
        return NO_PROMPTS
    settings = read_json(path)
    prompts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise ModelError(f"{path}: expected prompts to be texts by name, got {prompts!r}.")
    if default is not None and default not in prompts:
        raise ModelError(f"{path}: expected default_prompt_name to be one of "
                         f"{', '.join(prompts) or 'no prompts'}, got {default!r}.")

    names = NAMES if any(name in prompts for role in NAMES.values() for name in role) else dict.fromkeys(NAMES, (default,))

    def first_prompt(role: Role) -> str:  # some files have an empty "document" beside the "passage" that is meant
        return next((prompts[name] for name in names[role] if prompts.get(name)), "")

    return Prompts(first_prompt("query"), first_prompt("item"))

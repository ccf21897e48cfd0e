"""What a checkpoint was trained to see before a text: one prompt before queries, another before what is searched."""
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tfrec.errors import ModelError
from tfrec.models.pretrained.json_files import read_json

Role = Literal["query", "item"]
ROLES: tuple[Role, ...] = ("query", "item")

NAMES: dict[Role, tuple[str, ...]] = {"query": ("query",), "item": ("document", "passage", "corpus")}  # sentence-transformers'


@dataclass(frozen=True)
class Prompts:
    """By the role of a text; empty: none."""

    query: str
    item: str

    def of(self, role: Role) -> str:
        return self.query if role == "query" else self.item

    def but(self, *, query: str | None, item: str | None) -> "Prompts":
        """These, but for those that are given."""
        return Prompts(self.query if query is None else query, self.item if item is None else item)


NO_PROMPTS = Prompts("", "")


def read_prompts(path: Path) -> Prompts:
    """The prompts of a config_sentence_transformers.json: `query`, and the first of `document`, `passage` and `corpus`.

    Where none of these names is there, both are the one that `default_prompt_name` names.

    Raises:
        ModelError: the file says something else.
    """
    if not path.is_file():
        return NO_PROMPTS
    said = read_json(path)
    prompts, default = said.get("prompts") or {}, said.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise ModelError(f"{path}: expected prompts to be texts by name, got {prompts!r}.")
    if default is not None and default not in prompts:
        raise ModelError(f"{path}: expected default_prompt_name to be one of "
                         f"{', '.join(prompts) or 'no prompts'}, got {default!r}.")

    names = NAMES if any(name in prompts for role in NAMES.values() for name in role) else dict.fromkeys(NAMES, (default,))

    def of(role: Role) -> str:  # some files have an empty "document" beside the "passage" that is meant
        return next((prompts[name] for name in names[role] if prompts.get(name)), "")

    return Prompts(of("query"), of("item"))

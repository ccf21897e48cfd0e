"""The settings of the second stage."""
from graphlib import CycleError, TopologicalSorter

from pydantic import Field, model_validator

from tfrec.config.section import Section, Weight


class RankerConfig(Section):
    """The second stage, which ranks the shortlist of the first. By default there is none."""

    heads: dict[str, Weight] = {}  # Actions that are predicted, and the weight of each in the score: {click = 1, hide = -2}.
    after: dict[str, str] = {}  # Heads that can only follow another one: {purchase = "click"}.
    min_slates: int = Field(500, ge=1)  # Slates that must have been learnt before the second stage ranks.
    epochs: int = Field(3, ge=1)  # Passes over the slates of a run.
    learning_rate: float = Field(2e-3, gt=0)  # Of AdamW.

    @property
    def names(self) -> tuple[str, ...]:
        """The heads, in the order of the model's outputs."""
        return tuple(self.heads)

    def chain(self, head: str) -> tuple[str, ...]:
        """A head, and those that it can only follow: purchase, click."""
        found = [head]
        while found[-1] in self.after:
            found.append(self.after[found[-1]])
        return tuple(found)

    @model_validator(mode="after")
    def _fit_together(self) -> "RankerConfig":
        if "" in self.heads:
            raise ValueError("has a head without a name: name the action that it predicts, such as heads = {click = 1}")
        for head, first in self.after.items():
            if unknown := [name for name in (head, first) if name not in self.heads]:
                known = f"these are {', '.join(self.heads)}" if self.heads else "there are none"
                raise ValueError(f"has {head!r} after {first!r}, but {unknown[0]!r} is not among the heads: {known}")
        try:
            TopologicalSorter({head: [first] for head, first in self.after.items()}).prepare()
        except CycleError as error:
            raise ValueError(f"has {error.args[1][0]!r} after itself: the first action must not follow another one") from None
        return self

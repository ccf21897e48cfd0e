"""A part of the settled examples: what one run of the join added to the table."""
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from tfrec.data.feedback_log.window import Window


class Part(BaseModel):
    """What the join of one window of the log settled.

    Its row stands in the same commit as its examples, so a part is there whole or not at all.
    """

    model_config = ConfigDict(frozen=True)

    number: int  # from 1; the rows of the part have it as `seq`
    window: Window
    rule: str  # digest of the label rule
    behaviour: int  # examples with a reward, in this part and in all before it
    left_out: dict[str, int]  # rows of the log that became no example, by reason
    actions: dict[str, int]  # outcomes by action, used or not


def together(parts: Sequence[Part]) -> tuple[dict[str, int], dict[str, int]]:
    """The `left_out` and the `actions` of consecutive parts. A label that was open in one part may have settled in the next."""
    left_out: Counter[str] = Counter()
    actions: Counter[str] = Counter()
    for part in parts:
        left_out.update({why: count for why, count in part.left_out.items() if why != "immature"})
        actions.update(part.actions)
    if parts:
        left_out["immature"] = parts[-1].left_out.get("immature", 0)
    return dict(left_out), dict(actions)

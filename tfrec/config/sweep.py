"""The settings of the search for hyper-parameters."""
from pydantic import Field

from tfrec.config.section import Section


class SweepConfig(Section):
    """What `tfrec sweep` searches."""

    trials: int = Field(30, ge=1)  # Settings that are tried, those of an interrupted sweep included.
    # By section and setting, a range or a list: {training = {learning_rate = "1e-4..1e-2"}, model = {dim = [32, 64]}}.
    vary: dict[str, dict[str, str | tuple[bool | int | float | str, ...]]] = {}  # Empty: a default space.

"""The PEFT method of an encoder: which one, its size, and the layers that it changes; also as an entry of config.json."""
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tfrec.config import Tuning
from tfrec.errors import ModelError

CONFIG_KEY = "tfrec_tuning"  # of config.json, where the checkpoint holds adapters or a prefix beside the plain weights
RANKS: dict[Tuning, int] = {"lora": 8, "adapters": 32, "prefix": 16}  # defaults; each 1 to 2% of a small BERT at most
UNMERGEABLE: tuple[Tuning, ...] = ("adapters", "prefix")  # layers of their own, which plain weights cannot express


@dataclass(frozen=True)
class PeftConfig:
    """A method, its rank (LoRA), width (adapters) or length (prefix), and the lowest layer that it changes."""

    method: Tuning
    rank: int
    first: int

    @classmethod
    def from_encoder_config(cls, config: Mapping[str, Any]) -> "PeftConfig | None":
        """Read the entry of an encoder's config.json; None where the encoder has plain weights only.

        Raises:
            ModelError: the entry is not one that tfrec writes.
        """
        entry = config.get(CONFIG_KEY)
        if entry is None:
            return None
        try:
            found = cls(**entry)
        except TypeError as e:
            raise ModelError(f"config.json: expected {CONFIG_KEY} with method, rank and first, got {entry!r}. Tune the "
                             "encoder again.") from e
        if found.method not in UNMERGEABLE or not all(isinstance(n, int) for n in (found.rank, found.first)):
            raise ModelError(f"config.json: expected {CONFIG_KEY} to name one of {', '.join(UNMERGEABLE)} and two integers, got "
                             f"{entry!r}. Tune the encoder again.")
        return found

    def encoder_config(self) -> dict[str, Any]:
        """Return what config.json says of it: nothing, where the method ends as plain weights."""
        return {CONFIG_KEY: asdict(self)} if self.method in UNMERGEABLE else {}

    def __str__(self) -> str:
        return f"{self.method} of size {self.rank} from layer {self.first} on"


def first_layer(method: Tuning, tuned_layers: int | None, *, layers: int) -> int:
    """Return the lowest layer to tune in an encoder of `layers` layers.

    Args:
        method: says how many of the topmost layers are tuned by default: a third for `top`, all for every other one.
        tuned_layers: the number of topmost layers to tune; None takes the default.
        layers: of the encoder.
    """
    if tuned_layers is None:
        tuned_layers = -(-layers // 3) if method == "top" else layers
    return max(0, layers - tuned_layers)

"""The settings of what is exported and published."""
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from tfrec.config.section import Section, url
from tfrec.config.tls import ServerTls

SHORTLIST = 200  # Items.


class ServingConfig(Section):
    """What is exported and published."""

    model_name: str = "tfrec"  # The name that the model server knows the model by.
    max_k: int = Field(200, ge=1)  # The largest number of items that a request may ask for.
    keep_versions: int = Field(5, ge=2)  # Published versions that stay on the disk, the newest ones.
    models: str | None = None  # An object store's URL for the versions, such as s3://bucket/models. None: the run directory.
    models_config: Path | None = None  # The model server's --model_config_file. The versions that it names are kept.
    recall_target: float = Field(0.99, gt=0, le=1)  # Share of the exact best 100 that a large catalogue's index finds.
    newcomer_share: float = Field(0.0, ge=0, lt=1)  # Share of epsilon for items without feedback. 0: as for all others.
    index_storage: Literal["float32", "bfloat16", "int8"] = "float32"  # The type of item vectors. The smaller ones save memory.
    tls: ServerTls = ServerTls()

    _models = field_validator("models")(url)

    @property
    def shortlist(self) -> int:
        """How many of the best items Plackett-Luce draws an answer from: as many as an answer may have, or more."""
        return max(SHORTLIST, self.max_k)

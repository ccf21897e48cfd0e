"""How a query finds items."""
from typing import Annotated

from pydantic import Field

from tfrec.config.section import Section


class SearchConfig(Section):
    """Search by words, beside search by meaning."""

    lexical: float = Field(1.0, ge=0)  # What words count beside meaning. 0: search by meaning alone.
    fields: dict[str, Annotated[float, Field(ge=0)]] = {}  # Weights of text fields. Others: as tuned, or 3 for the first and 1.

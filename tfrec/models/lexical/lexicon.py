"""The words of a catalogue and the weights of its fields: all that search by words needs."""
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfrec.config import Config
from tfrec.data.items.catalogue import Catalogue
from tfrec.errors import ConfigError, ModelError
from tfrec.models.lexical.counts import Counts, count_terms
from tfrec.models.lexical.postings import Floats, Postings, postings
from tfrec.models.lexical.terms import LexicalTerms
from tfrec.models.text_encoder import load_encoder
from tfrec.models.tokenizer.tokenizer import Tokenizer

FIELDS_FILE = "search_fields.json"  # in the directory of a tuned encoder: weights of fields that were fitted with it
FIRST_FIELD = 3.0  # a catalogue's first text field is mostly its name; on MSRD anything from 2 to 6 is within .01 of the best


@dataclass(frozen=True, eq=False)
class Lexicon:
    """The terms of a catalogue, and what each field counts beside a cosine of 1."""

    terms: LexicalTerms
    counts: Counts
    weights: Mapping[str, float]

    @classmethod
    def of(cls, config: Config, catalogue: Catalogue, tokenizer: Tokenizer | None = None) -> "Lexicon | None":
        """The lexicon by which `config` searches a catalogue; None if it does not, or no item has a text.

        Args:
            config: the weights of fields, and the text encoder.
            catalogue: the items.
            tokenizer: of the text encoder; by default it is loaded.

        Raises:
            ConfigError: `search.fields` names a field that no item has.
            ModelError: the fitted weights of the text encoder cannot be read.
        """
        if not config.search.lexical or not any(catalogue.texts):
            return None
        tokenizer = tokenizer or load_encoder(config.text).tokenizer
        counts = count_terms(catalogue, tokenizer, config.run if config.run.is_dir() else None)
        unknown = sorted(config.search.fields.keys() - set(counts.fields))
        if unknown:
            raise ConfigError(f"search.fields: expected text fields of the catalogue, which are {', '.join(counts.fields)}; got "
                              f"{unknown[0]!r}. Correct the name, or take it out.")
        chosen = default_weights(counts.fields) | fitted_weights(config.text.encoder) | dict(config.search.fields)
        weights = {field: config.search.lexical * chosen[field] for field in counts.fields}
        return cls(LexicalTerms(tokenizer), counts, weights)

    def postings(self, order: npt.NDArray[np.integer] | None = None) -> Postings:
        """The postings of the items at the positions of an index, as in `postings`."""
        return postings(self.counts, self.weights, order=order)

    def matches(self, queries: Sequence[str]) -> Floats:
        """What the words of each query add to the score of each item, in cosines, `[len(queries), n_items]`."""
        return self._in_order.matches(queries, self.terms)

    @cached_property
    def _in_order(self) -> Postings:
        return self.postings()


def default_weights(fields: Sequence[str]) -> dict[str, float]:
    """The weights of fields of which nothing is known."""
    return {field: 1.0 if number else FIRST_FIELD for number, field in enumerate(fields)}


def fitted_weights(encoder: str) -> dict[str, float]:
    """The weights of fields that were fitted with a text encoder; none for one that was not tuned here."""
    path = Path(encoder) / FIELDS_FILE
    if not path.is_file():
        return {}
    try:
        return {str(field): float(weight) for field, weight in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelError(f"{path}: expected an object of field names and numbers: {error}. Tune again, or remove it.") from error

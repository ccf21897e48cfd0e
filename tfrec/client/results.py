"""What the client returns: slates, explanations, raw predictions and the state of versions."""
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Recommendation:
    """Item ids with their scores, best first, and the version of the model that ranked them."""

    items: tuple[str, ...]
    scores: tuple[float, ...]
    version: int


@dataclass(frozen=True)
class Exploration(Recommendation):
    """A slate that was drawn at random, in the order of its positions."""

    log_propensities: tuple[float, ...]  # ln P(this item | the items above it)


@dataclass(frozen=True)
class Explanation:
    """Why an item has its score. A weight is what the score would lose without that part, in units of the score."""

    score: float  # -inf: the version does not know the item
    popularity: float  # what popularity adds
    history: tuple[float, ...]  # a weight for each event that was sent; 0 for an event that the model does not read
    query: tuple[tuple[str, float], ...]  # word pieces of the query with their weights
    version: int


@dataclass(frozen=True)
class Prediction:
    """The named outputs of a signature, and the version that computed them."""

    outputs: dict[str, np.ndarray]
    version: int


@dataclass(frozen=True)
class VersionStatus:
    """The state of one version on the server."""

    version: int
    state: str  # as TensorFlow Serving names it, such as AVAILABLE
    error: str  # empty if there is none

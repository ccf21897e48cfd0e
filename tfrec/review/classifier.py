"""A logistic regression for each label on the vectors of texts, taught by what people decided.

A rejected text is an example of its label, and an approved one is none. People decide on what was flagged only, which says little
of other texts: so texts of the catalogue that nothing flags count against each label as well, and texts that the list flags and
nobody has decided on yet count for theirs, each less than a decision.
"""
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from tfrec.data import durable_files
from tfrec.review.standing import ReviewState

Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]  # texts to vectors `[texts, width]`
BACKGROUND = 2_000  # texts that nothing flags, at most
_LISTED, _UNFLAGGED = 0.1, 0.3  # what a text counts, where a decision counts 1
_PENALTY = 0.3  # of squared weights
_STEPS, _CLOSE = 50, 1e-8
_LEARNING = 1  # changes when the same decisions come to teach other weights


@dataclass(frozen=True)
class TextClassifier:
    """Weights `[width + 1]` by label, the last one of which is added."""

    weights: Mapping[str, npt.NDArray[np.float64]]
    identity: str  # of what taught it

    def scores(self, vectors: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float64]]:
        """By label, probabilities `[n]` for vectors `[n, width]`."""
        wide = vectors.astype(np.float64)
        return {label: _sigmoid(wide @ weights[:-1] + weights[-1]) for label, weights in self.weights.items()}


@dataclass(frozen=True)
class TaughtBy:
    """The decided texts, by what a classifier learns of them: each has its digest and its text."""

    approved: Mapping[str, str]
    rejected: Mapping[str, Mapping[str, str]]  # by label

    @classmethod
    def of(cls, state: ReviewState, *, least: int) -> "TaughtBy":
        """What is decided, for the labels with at least `least` rejected texts, if as many are approved."""
        approved: dict[str, str] = {}
        rejected: dict[str, dict[str, str]] = {}
        for entry, text in state.decisions():
            if text.strip():
                (approved if entry.do == "approve" else rejected.setdefault(entry.label, {}))[entry.digest] = text
        enough = {label: texts for label, texts in sorted(rejected.items()) if len(texts) >= least <= len(approved)}
        return cls(approved if enough else {}, enough)

    def identity(self, encoder: str) -> str:
        """Of decisions and encoder."""
        said = (_LEARNING, encoder, sorted(self.approved), [(label, sorted(texts)) for label, texts in self.rejected.items()])
        return hashlib.sha256(repr(said).encode()).hexdigest()


def taught(path: Path, by: TaughtBy, *, encoder: str, encode: Encode, listed: Callable[[], Mapping[str, Mapping[str, str]]],
           unflagged: Callable[[], Mapping[str, str]]) -> TextClassifier | None:
    """The classifier of these decisions: that of the file, or a new one, which is written there. None: too little is decided.

    Args:
        path: of the file (npz).
        by: the decisions.
        encoder: identity of what makes the vectors.
        encode: makes them.
        listed: gives the texts that the list flags and that are not decided, by label and digest.
        unflagged: gives texts that nothing flags, by digest.
    """
    if not by.rejected:
        return None
    identity = by.identity(encoder)
    if (kept := _read(path, identity)) is not None:
        return kept
    background = dict(sorted(unflagged().items())[:BACKGROUND])
    waiting = listed()
    weights = {}
    for label, texts in by.rejected.items():
        parts: list[tuple[Mapping[str, str], float, float]] = [
            (texts, 1, 1), (waiting.get(label, {}), 1, _LISTED), (by.approved, 0, 1), (background, 0, _UNFLAGGED)]
        chosen = [(text, wanted, counts) for some, wanted, counts in parts for _, text in sorted(some.items())]
        vectors = encode([text for text, _, _ in chosen])
        weights[label] = logistic(vectors, *np.array([one[1:] for one in chosen], np.float64).T)
    with durable_files.replacing(path) as file:
        np.savez(file, allow_pickle=False, identity=np.array(identity), labels=np.array(list(weights)),
                 weights=np.stack(list(weights.values())))
    return TextClassifier(weights, identity)


def logistic(vectors: npt.NDArray[np.float32], wanted: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]
             ) -> npt.NDArray[np.float64]:
    """The weights `[width + 1]` that minimise the log loss of `wanted` (0 or 1) for vectors `[n, width]`, each counted so often.

    Both kinds count the same in all. Newton's steps, so there is no chance in it.
    """
    inputs = np.concatenate([vectors.astype(np.float64), np.ones((len(vectors), 1))], axis=1)
    share = np.where(wanted == 1, counts[wanted == 1].sum(), counts[wanted == 0].sum())
    counts = counts * counts.sum() / (2 * share)
    penalty = np.full(inputs.shape[1], _PENALTY)
    penalty[-1] = 1e-6
    weights = np.zeros(inputs.shape[1])
    for _ in range(_STEPS):
        probability = _sigmoid(inputs @ weights)
        slope = inputs.T @ (counts * (probability - wanted)) + penalty * weights
        bend = (inputs * (counts * probability * (1 - probability))[:, None]).T @ inputs
        step = np.linalg.solve(bend + np.diag(penalty), slope)
        step *= min(1.0, 5.0 / max(np.abs(inputs @ step).max(), 1e-9))  # no further than where the bend still says something
        weights -= step
        if np.abs(step).max() < _CLOSE:
            break
    return weights


def _sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _read(path: Path, identity: str) -> TextClassifier | None:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if str(file["identity"]) == identity:
                return TextClassifier(dict(zip(file["labels"].tolist(), file["weights"], strict=True)), identity)
    except (OSError, EOFError, ValueError, KeyError, BadZipFile):
        pass  # it is taught anew
    return None

"""Fits what the words of each text field count beside the meaning of a text, on queries and the items that answer them.

    P(i | q) = softmax over candidates of  a cos(q, i) + sum over fields f of  b_f match_f(q, i);    weight of f: b_f / a

The weights are the most likely ones that are not negative; the problem is convex. Candidates of a query are its answers
and the best others by meaning and by words. The queries must be such that the encoder was not tuned on: to those it gives vectors
that are nearer to the answers than any it will be asked.

The cosine is that of a new model, whose projection is the principal components (`ItemTower.start_from`).
"""
import logging
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from tfrec.config import Config
from tfrec.data.examples.pairs import Pairs
from tfrec.data.items.catalogue import Catalogue
from tfrec.models.item_tower import principal_components
from tfrec.models.lexical.lexicon import Lexicon, default_weights
from tfrec.models.lexical.postings import Floats, postings
from tfrec.models.text_encoder import load_encoder

log = logging.getLogger(__name__)

LEAST, MOST = 50, 2000  # queries
CANDIDATES = 100  # by meaning, and as many by words
HIGHEST = 20.0  # a weight; a higher one would leave meaning without a say
_RIDGE = 1e-3  # keeps the weight of a field finite that alone decides
_FLOATS = 1 << 23  # of features that are held at once


class Question(NamedTuple):
    """The candidates of one query."""

    features: Floats  # [candidates, 1 + fields]
    right: npt.NDArray[np.bool_]  # [candidates]


def fit_field_weights(config: Config, catalogue: Catalogue, pairs: Pairs) -> dict[str, float]:
    """The weight of each text field of the catalogue; empty where there are too few queries, or nothing to fit.

    Args:
        config: names the encoder, and the dimension of the model that will be trained.
        catalogue: the items.
        pairs: queries with the items that answer them.
    """
    used = np.unique(pairs.query)[:MOST]
    encoder = load_encoder(config.text)
    lexicon = Lexicon.of(config, catalogue, encoder.tokenizer)
    if lexicon is None:
        return {}
    if len(used) < LEAST:
        log.info("weights of text fields: %d queries are held out, and %d are needed; the defaults stay", len(used), LEAST)
        return {}
    counts, terms = lexicon.counts, lexicon.terms
    by_field = [postings(counts, {name: float(name == field) for name in counts.fields}) for field in counts.fields]
    queries = [pairs.queries[query] for query in used]
    asked = encoder.encode(queries, role="query", batch_size=config.text.batch_size)
    vectors = encoder.encode(catalogue.texts, role="item", batch_size=config.text.batch_size)
    kernel, bias = principal_components(vectors, dim=config.model.dim)
    items, asked = (_unit(part @ kernel + bias) for part in (vectors, asked))
    answers = {query: pairs.item[pairs.query == query] for query in used.tolist()}
    questions = []
    step = max(1, _FLOATS // (len(catalogue) * (1 + len(by_field))))
    for start in range(0, len(used), step):
        some = slice(start, start + step)
        features = np.stack([asked[some] @ items.T, *(field.matches(queries[some], terms) for field in by_field)], axis=-1)
        questions += [_question(one, answers[query]) for one, query in zip(features, used[some].tolist(), strict=True)]
    fitted = fit(questions)
    found = {field: round(float(weight), 3) for field, weight in zip(counts.fields, fitted, strict=True)}
    log.info("weights of text fields, fitted on %d held-out queries: %s (without: %s)", len(used), found,
             default_weights(counts.fields))
    return found


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)


def _question(features: Floats, answers: npt.NDArray[np.integer]) -> Question:
    by_meaning, by_words = features[:, 0], features[:, 1:].sum(1)
    most = min(CANDIDATES, len(features))
    best = [np.argpartition(-scores, most - 1)[:most] for scores in (by_meaning, by_words)]
    candidates = np.unique(np.concatenate([*best, answers]))
    return Question(features[candidates], np.isin(candidates, answers))


def fit(questions: list[Question]) -> npt.NDArray[np.float64]:
    """The weight of each field, `[fields]`, relative to that of the cosine."""
    x = np.concatenate([question.features for question in questions]).astype(np.float64)
    right = np.concatenate([question.right / question.right.sum() for question in questions])
    size = np.array([len(question.right) for question in questions])
    of, first = np.repeat(np.arange(len(size)), size), np.cumsum(size) - size

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        z = x @ weights
        z -= np.maximum.reduceat(z, first)[of]
        log_p = z - np.log(np.add.reduceat(np.exp(z), first))[of]
        n = len(size)
        return float(_RIDGE * weights @ weights - right @ log_p / n), -((right - np.exp(log_p)) @ x) / n + 2 * _RIDGE * weights

    found = minimize(loss, np.ones(x.shape[1]), jac=True, method="L-BFGS-B", bounds=[(0, None)] * x.shape[1]).x
    return np.asarray(found[1:] / max(found[0], found[1:].max(initial=0) / HIGHEST, 1e-9))

"""Checks that the parts of a version agree: graph, item vectors, popularity, catalogue, and the checkpoint for the next retrain.

Everything is read from files, without a server. Each part may be sound on its own and the whole wrong: vectors of another
catalogue, ids in another order, infinite popularity. For a sample of items, the graph's vectors are compared with those that the
checkpoint's own encoder and towers compute.
"""
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfrec.client.contract import difference, takes_context
from tfrec.client.warmup import read_signatures
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.items.catalogue_cache import cached_catalogue
from tfrec.data.items.numeric_columns import numeric_table
from tfrec.errors import ServingError
from tfrec.graph.served_weights import TOWERS, tower_weights
from tfrec.models.lexical.counts import texts_by_field
from tfrec.models.lexical.postings import Floats, Postings
from tfrec.models.lexical.terms import LexicalTerms
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.ranking.item_rates import ItemRates
from tfrec.models.recommender import Recommender
from tfrec.models.text_encoder import load_encoder
from tfrec.models.two_tower import SEARCH_BETA
from tfrec.release.manifest import CHECKPOINT, FILE_NAME, Manifest
from tfrec.release.popularity_files import (
    COLUMNS_FILE,
    HIDDEN_FILE,
    ITEMS_FILE,
    PRIOR_FILE,
    read_columns,
    read_hidden,
    read_prior,
)
from tfrec.release.weight_shards import CATALOGUE, SUFFIX
from tfrec.training import checkpoint

SAMPLE = 64  # items whose vectors are made anew
CLOSE = 1e-3  # of numbers that two programs compute in float32
ROUNDED = 0.05  # of vectors that are kept in fewer bits


class Expected(NamedTuple):
    """What a server must answer to searches with items' own texts, by the checkpoint's own encoder and towers."""

    texts: list[str]  # [n]
    items: list[str]  # [n] ids of the items whose texts these are
    queries: np.ndarray  # [n, dim] vectors of the texts as queries
    scores: np.ndarray  # [n, n] of each item for each text
    words: np.ndarray  # [n, n] what words add to them
    tolerance: float  # of numbers, relative and absolute
    catalogue: Catalogue


def check_artefacts(version_dir: str | Path, manifest: Manifest, *, sample: int = SAMPLE) -> Expected:
    """What a version must answer. Raises `ServingError`, naming the part, unless all parts agree.

    Args:
        version_dir: the directory.
        manifest: of the version.
        sample: items whose vectors are made anew.
    """
    root = Path(version_dir)
    try:
        _check_signatures(root, manifest)
        catalogue = cached_catalogue(root / CHECKPOINT / "catalogue.jsonl")
        prior = _checked_prior(root, manifest, catalogue)
        served, weights = _served(root)
        tolerance = CLOSE if manifest.index.get("storage", "float32") == "float32" else ROUNDED
        _check_catalogue(served, catalogue, prior)
        _check_numbers(root, served, catalogue)
        _check_checkpoint(root / CHECKPOINT, catalogue, prior)
        chosen = np.unique(np.linspace(0, len(catalogue) - 1, min(sample, len(catalogue))).astype(np.int64))
        model = checkpoint.load_items(root / CHECKPOINT, chosen.tolist())
        _check_weights(weights, model)
        if takes_context(manifest.signatures) != bool(model.requests.width):
            raise ServingError("saved_model.pb: the graph and the checkpoint's [features] differ in whether a context is read")
        _check_vectors(served, model, tolerance=tolerance)
        if model.ranker is not None:
            _check_rates(served, ItemRates.load(root / CHECKPOINT / checkpoint.RATES), catalogue)
        words = _checked_words(served, model)
        return _answers(model, prior.log_p()[chosen], words, tolerance=tolerance, catalogue=catalogue)
    except ServingError as error:
        raise ServingError(f"its parts do not agree: {error}") from error
    except Exception as error:  # what reads a damaged file raises whatever it trips over
        told = str(error).splitlines() or [type(error).__name__]
        raise ServingError(f"a part of it cannot be used: {told[0]}") from error


def _check_signatures(root: Path, manifest: Manifest) -> None:
    try:
        found = read_signatures(root)
    except Exception as error:  # a damaged protobuf raises whatever its parser does
        raise ServingError(f"saved_model.pb: cannot be read: {error}") from error
    for file, signatures in (("saved_model.pb", found), (FILE_NAME, manifest.signatures)):
        if wrong := difference(signatures):
            raise ServingError(f"{file}: {wrong}")


def _checked_prior(root: Path, manifest: Manifest, catalogue: Catalogue) -> PopularityPrior:
    prior, ids = read_prior(root)
    if ids != catalogue.ids.tolist():
        raise ServingError(f"{ITEMS_FILE}: {_first_difference(ids, catalogue.ids.tolist(), 'the catalogue')}")
    if read_hidden(root) != catalogue.unavailable:
        raise ServingError(f"{HIDDEN_FILE}: {_first_difference(read_hidden(root), catalogue.unavailable, 'the catalogue')}")
    if catalogue.digest() != manifest.catalogue_digest:
        raise ServingError("checkpoint/catalogue.jsonl: is another catalogue than the manifest's")
    state = prior.state()
    for name in ("counts", "totals"):
        bad = ~np.isfinite(state[name]) | (state[name] < 0)
        if bad.any():
            raise ServingError(f"{PRIOR_FILE}: {name}: expected finite numbers from 0 on, got {state[name][bad][0]}")
    log_p = prior.log_p().astype(np.float64)
    if not np.isfinite(log_p).all() or abs(np.exp(log_p).sum() - 1) > CLOSE:
        raise ServingError(f"{PRIOR_FILE}: expected probabilities of sum 1, got {np.exp(log_p).sum():.4g}")
    return prior


def _served(root: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The catalogue arrays of the graph and the weights of its towers, by name. All variables must be finite."""
    reader = tf.train.load_checkpoint(str(root / "variables" / "variables"))
    found: dict[str, dict[str, np.ndarray]] = {CATALOGUE: {}, TOWERS: {}}
    for key in reader.get_variable_to_dtype_map():
        array, (part, _, name) = _finite(reader, key, where="variables"), key.partition("/")
        if part in found:
            found[part][name.removesuffix(SUFFIX)] = array
    return found[CATALOGUE], found[TOWERS]


def _check_catalogue(served: dict[str, np.ndarray], catalogue: Catalogue, prior: PopularityPrior) -> None:
    if missing := {"ids", "vectors", "log_p", "available"} - served.keys():
        raise ServingError(f"variables: the catalogue's {sorted(missing)} are missing")
    at = _positions(served)
    if at.keys() != catalogue.index.keys():
        wrong = sorted(at.keys() ^ catalogue.index.keys())
        raise ServingError(f"variables: the graph has {len(at)} items and the catalogue {len(catalogue)}; {wrong[0]!r} is in one "
                           "of them alone")
    order = np.array([at[item] for item in catalogue.ids.tolist()])
    if not np.array_equal(served["available"][order], catalogue.available):
        raise ServingError("variables: the graph shows other items than the catalogue says are available")
    gap = np.abs(served["log_p"][order] - prior.log_p())
    if not (gap <= CLOSE).all():
        item = str(catalogue.ids[int(np.argmax(gap))])
        raise ServingError(f"variables: the popularity of {item!r} differs from {PRIOR_FILE}'s by {gap.max():.3g} (log p)")


def _check_numbers(root: Path, served: dict[str, np.ndarray], catalogue: Catalogue) -> None:
    """The graph filters by the catalogue's numbers. A graph from before there were such filters has none."""
    if "numeric_columns" not in served:
        return
    at = _positions(served)
    order = [at[item] for item in catalogue.ids.tolist()]
    names, table = numeric_table(catalogue.items)
    if [name.decode() for name in served["numeric_columns"].tolist()] != names or list(read_columns(root) or ()) != names:
        raise ServingError(f"variables: the graph and {COLUMNS_FILE} must have the catalogue's numeric columns, {names}")
    held = served["numeric_values"].reshape(len(names), len(served["ids"]))[:, order]
    if not np.array_equal(held, table):
        column, item = np.argwhere(held != table)[0]
        raise ServingError(f"variables: {names[column]} of {str(catalogue.ids[item])!r} is not the catalogue's")


def _check_checkpoint(directory: Path, catalogue: Catalogue, prior: PopularityPrior) -> None:
    reader = tf.train.load_checkpoint(str(directory / "weights"))
    for name in reader.get_variable_to_dtype_map():
        if not name.startswith("_"):
            _finite(reader, name, where="checkpoint/weights")
    kept = PopularityPrior.load(directory / "prior.npz").state()
    for name, value in prior.state().items():
        if kept[name].shape != value.shape or not np.allclose(kept[name], value, equal_nan=True):
            raise ServingError(f"checkpoint/prior.npz: its {name} are not those of {PRIOR_FILE}")
    slots = checkpoint.read_slots(directory)
    if len(slots) != len(catalogue):
        raise ServingError(f"checkpoint/slots.npz: expected {len(catalogue)} slots, one an item, got {len(slots)}")


def _check_weights(weights: dict[str, np.ndarray], model: Recommender) -> None:
    """The graph computes with the towers and the head of the checkpoint. A graph from before they had names has none here."""
    own = tower_weights(model)
    for name, array in weights.items():
        if name not in own or own[name].shape != array.shape or not np.allclose(own[name].numpy(), array, rtol=CLOSE, atol=CLOSE):
            raise ServingError(f"variables: the graph's {name} is not the checkpoint's")


def _check_vectors(served: dict[str, np.ndarray], model: Recommender, *, tolerance: float) -> None:
    """The graph's vectors of some items are those that the checkpoint's encoder and towers give."""
    at = _positions(served)
    order = np.array([at[item] for item in model.catalogue.ids.tolist()])
    vectors = model.item_vectors()
    held = served["vectors"][order].astype(np.float32)
    if "vector_scale" in served:
        held = held * served["vector_scale"][order][:, None]
    off = np.abs(held - vectors).max(axis=1)
    if held.shape != vectors.shape or not (off <= tolerance * max(1.0, float(np.abs(vectors).max()))).all():
        item = str(model.catalogue.ids[int(np.argmax(off))])
        raise ServingError(f"variables: the graph's vector of {item!r} is not what the checkpoint's model makes of it: they are "
                           f"up to {off.max():.3g} apart, in {int((off > tolerance).sum())} of {len(off)} items tried")


def _check_rates(served: dict[str, np.ndarray], rates: ItemRates, catalogue: Catalogue) -> None:
    """The second stage reads the rates of the checkpoint, for each item its own."""
    if len(rates) != len(catalogue):
        raise ServingError(f"checkpoint/{checkpoint.RATES}: expected {len(catalogue)} items, got {len(rates)}")
    at = _positions(served)
    held = served["ranker_columns"][[at[item] for item in catalogue.ids.tolist()], -rates.width :]
    off = np.abs(held - rates.columns()).max(axis=1)
    if not (off <= CLOSE).all():
        item = str(catalogue.ids[int(np.argmax(off))])
        raise ServingError(f"variables: the graph's rates of {item!r} are not the checkpoint's: they are {off.max():.3g} apart")


def _checked_words(served: dict[str, np.ndarray], model: Recommender) -> Floats:
    """What words add to the scores of the model's items for their own texts `[n, n]`; the graph's words must be theirs."""
    texts = model.catalogue.texts
    if "words_begin" not in served:
        return np.zeros((len(texts), len(texts)), np.float32)
    begin, item, impact, idf = (served[f"words_{name}"] for name in ("begin", "item", "impact", "idf"))
    terms = LexicalTerms(load_encoder(model.config.text).tokenizer)
    if len(idf) != terms.count or len(begin) != terms.count + 1 or begin[-1] != len(item) - 1:
        raise ServingError(f"variables: expected the words of {terms.count} terms, got {len(idf)} and {len(begin)} beginnings")
    at = _positions(served)
    own = np.array([at[name] for name in model.catalogue.ids.tolist()])
    term = np.repeat(np.arange(terms.count), np.diff(begin))
    by_field = texts_by_field(model.catalogue).values()
    for position, name, fields in zip(own, model.catalogue.ids.tolist(), zip(*by_field, strict=True), strict=True):
        held = set(term[item[:-1] == position].tolist())
        pieces, grams = (set(kind.values.numpy().tolist()) for kind in terms(tf.constant(fields, tf.string)))
        if not pieces <= held <= pieces | grams:
            raise ServingError(f"variables: the graph's words of {name!r} are not those of its text")
    found = Postings(begin, item[:-1], impact[:-1], idf, len(served["ids"])).matches(texts, terms)[:, own]
    return np.asarray(found * model.model.query_scale().numpy(), np.float32)


def _answers(model: Recommender, log_p: np.ndarray, words: Floats, *, tolerance: float, catalogue: Catalogue) -> Expected:
    texts, ids, config = model.catalogue.texts, model.catalogue.ids.tolist(), model.config.text
    encoder, read = load_encoder(config), model.text
    if encoder.tokenizer.prompts.query != encoder.tokenizer.prompts.item:
        read = encoder.encode(texts, role="query", batch_size=config.batch_size)
    queries = model.model.scale_query(tf.constant(read)).numpy()
    scores = queries @ model.item_vectors().T + np.float32(SEARCH_BETA) * log_p + words
    # a text without words is no search: that answers as if nobody had asked
    said = [row for row, text in enumerate(texts) if text.strip() and read[row].any()]
    return Expected([texts[row] for row in said], [ids[row] for row in said], queries[said], scores[np.ix_(said, said)],
                    words[np.ix_(said, said)], tolerance, catalogue)


def _positions(served: dict[str, np.ndarray]) -> dict[str, int]:
    return {name.decode(): position for position, name in enumerate(served["ids"].tolist()) if name}


def _finite(reader: Any, name: str, *, where: str) -> np.ndarray:
    array = np.asarray(reader.get_tensor(name))
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        bad = ~np.isfinite(array.astype(np.float64))
        if bad.any():
            raise ServingError(f"{where}: {name.removesuffix(SUFFIX)}: {int(bad.sum())} of {array.size} numbers are not finite")
    return array


def _first_difference(found: list[str], expected: list[str], of: str) -> str:
    if len(found) != len(expected):
        return f"expected the {len(expected)} ids of {of}, got {len(found)}"
    row = next(row for row, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other)
    return f"line {row + 1}: expected {json.dumps(expected[row])} as in {of}, got {json.dumps(found[row])}"

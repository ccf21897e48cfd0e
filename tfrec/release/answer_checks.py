"""Checks of a server's answers to random requests that every sound version passes, whatever it has learnt.

Probes show that a server computes what the model did when it was exported. These checks show that what it computes can be served:
numbers are finite, items are the catalogue's, answers depend on who asks and for what, the index finds the best, and texts are
read as the checkpoint's own encoder reads them. They are a floor and no measure of quality, which is the gate's.
"""
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfrec.client.contract import HEADS, SIGNATURES, Probe
from tfrec.client.inputs import history_inputs, recommend_inputs
from tfrec.client.padding import padded
from tfrec.client.slate_options import head_inputs
from tfrec.client.tensors import text_array
from tfrec.errors import NotVerified
from tfrec.evaluation.search_ranks import is_above_chance
from tfrec.release.consistency import Expected
from tfrec.release.probes import Predict

Arrays = dict[str, np.ndarray]

ROWS = 16  # histories, and searches, of a round of requests
CANDIDATES = 4000  # items that recall is measured on: all of a small catalogue
LEAST_RECALL = 0.9  # of what the index promised
SLOWER, SLACK = 2.0, 0.005  # times the parent's latency, and seconds beside it: below that the machine's noise decides
_SLATES = ("serving_default", "explore", "thompson", "linucb", "similar")


class Requests:
    """Random requests of a catalogue, the same for the same seed."""

    def __init__(self, expected: Expected, actions: tuple[str, ...], *, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        shown = expected.catalogue.ids[expected.catalogue.available].tolist()
        self.available = set(shown)
        self.n_items = len(expected.catalogue)
        self.k = min(10, len(shown))
        lengths = rng.integers(1, 7, ROWS)
        self.histories = [[shown[i] for i in rng.integers(len(shown), size=n)] for n in lengths]
        self.actions = [[actions[i] for i in rng.integers(len(actions), size=n)] if actions else [] for n in lengths]
        self.ages = [sorted(rng.integers(0, 10**7, n).tolist(), reverse=True) for n in lengths]
        self.texts = [expected.texts[i] for i in rng.integers(len(expected.texts), size=ROWS)] if expected.texts else []
        some = rng.permutation(len(shown))[:CANDIDATES]
        self.candidates = [shown[i] for i in some]
        self.items = [shown[i] for i in rng.integers(len(shown), size=ROWS)]
        self.seeds = rng.integers(0, 1 << 40, ROWS)

    def behaviour(self) -> Arrays:
        """Histories without a query."""
        return history_inputs(history=self.histories, history_action=self.actions, history_age_s=self.ages)

    def first_stage(self, *, searching: bool = False, k: int | None = None) -> Arrays:
        """The inputs of `recommend` without the second stage, which alone promises the best of all items."""
        inputs = self.wanted(searching=searching, k=k)
        return inputs | head_inputs([{}] * len(inputs["query"]), len(inputs["query"]))

    def wanted(self, *, searching: bool = False, k: int | None = None) -> Arrays:
        """The inputs of `recommend`, of histories or of searches."""
        if searching:
            return recommend_inputs(history=[[]] * len(self.texts), query=self.texts, k=k or self.k)
        return recommend_inputs(history=self.histories, history_action=self.actions, history_age_s=self.ages, k=k or self.k)

    def of(self, signature: str) -> Arrays:
        """The inputs of a signature that answers with slates."""
        ones = np.ones(ROWS, np.float32)
        inputs = self.wanted() | {"item": text_array(self.items), "temperature": ones, "epsilon": 0.1 * ones, "alpha": ones,
                                  "seed": self.seeds}
        return {name: inputs[name] for name in SIGNATURES[signature][0]}


def check_answers(predict: Predict, expected: Expected, requests: Requests, *, recall: float) -> None:
    """Raise `NotVerified` when a signature gives answers that no sound version gives.

    Args:
        predict: asks a server.
        expected: what the checkpoint's own encoder and towers say.
        requests: the random ones.
        recall: share of the exact best that the index promises.
    """
    if expected.texts:
        _check_reading(predict, expected)
    for signature in _SLATES:
        _check_slates(signature, predict(signature, requests.of(signature)), requests)
    check_recommendations(predict, requests, recall=recall)
    _check_explanations(predict, requests)
    for signature, inputs in (("embed_query", {name: requests.behaviour()[name] for name in ("history", "query")}),
                              ("embed_item", {"text": text_array(expected.texts or ["a"])})):
        _finite(signature, "vectors", predict(signature, inputs)["vectors"])


def _check_heads(predict: Predict, requests: Requests) -> None:
    """What the second stage predicts are probabilities."""
    found = predict("rank", _rank_inputs(requests, requests.candidates[:20])).get("head_scores", np.zeros(0))
    _finite("rank", "head_scores", found)
    if (wrong := (found < 0) | (found > 1)).any():
        raise NotVerified(f"rank: head_scores: expected probabilities, got {found[wrong][0]}")


def check_recommendations(predict: Predict, requests: Requests, *, recall: float) -> None:
    """Raise `NotVerified` when `recommend` or `rank` give answers that no sound version gives; arguments as `check_answers`."""
    _check_slates("recommend", predict("recommend", requests.of("recommend")), requests)
    if requests.texts:
        _check_slates("recommend by query", predict("recommend", requests.wanted(searching=True)), requests)
    _check_scores(predict, requests, recall=recall)
    _check_heads(predict, requests)


def check_near(ours: Predict, theirs: Predict, requests: Requests) -> None:
    """Raise `NotVerified` when a version shares less than half as many recommendations with its parent as by chance."""
    for searching in (False, True):
        if searching and not requests.texts:
            continue
        inputs = requests.wanted(searching=searching)
        mine, parents = (predict("recommend", inputs)["items"].tolist() for predict in (ours, theirs))
        _check_shares(mine, parents, requests)


def check_near_probes(ours: Sequence[Probe], theirs: Sequence[Probe], requests: Requests) -> None:
    """As `check_near`, by the answers of both that were recorded to the same requests, without asking anybody."""
    answers = {json.dumps(probe.inputs, sort_keys=True): probe.outputs["items"] for probe in theirs
               if probe.signature == "recommend"}
    same = [(probe.outputs["items"], answers[key]) for probe in ours
            if probe.signature == "recommend" and (key := json.dumps(probe.inputs, sort_keys=True)) in answers]
    if same:
        mine, parents = ([row for answer in side for row in answer] for side in zip(*same, strict=True))
        _check_shares(mine, parents, requests)


def _check_shares(mine: list[list[Any]], parents: list[list[Any]], requests: Requests) -> None:
    chance, none = requests.k / max(1, len(requests.available)), {b"", ""}
    pairs = zip(mine, parents, strict=True)
    shares = [len(set(one) & set(other) - none) / max(1, len(set(other) - none)) for one, other in pairs]
    if np.mean(shares) < max(0.02, chance / 2) and requests.n_items > 2 * requests.k:
        raise NotVerified(f"recommend: {np.mean(shares):.1%} of the parent's items are in its answers, less than by chance")


def check_latency(ours: Predict, theirs: Predict, requests: Requests, *, growth: float) -> None:
    """Raise `NotVerified` when a version takes more than twice its parent's time, in pairs of requests, three times in a row.

    Args:
        ours: asks the version.
        theirs: asks its parent, on the same server.
        requests: the first row of each is asked.
        growth: of the catalogue, which the time may follow.
    """
    for signature in ("recommend", "explore", "similar", "rank"):
        inputs = _rank_inputs(requests, requests.candidates[:100]) if signature == "rank" else requests.of(signature)
        inputs = {name: array[:1] for name, array in inputs.items()}
        for rounds in (9, 15, 25):
            took = np.array([[_seconds(predict, signature, inputs) for predict in (ours, theirs)] for _ in range(rounds)])
            mine, parents = np.median(took, axis=0)
            if mine <= SLOWER * max(1.0, growth) * parents + SLACK:
                break
        else:
            raise NotVerified(f"{signature}: takes {1000 * mine:.1f} ms, the parent beside it {1000 * parents:.1f} ms: more than "
                              f"{SLOWER * max(1.0, growth):.2g} times as long")


def _seconds(predict: Predict, signature: str, inputs: Arrays) -> float:
    began = time.perf_counter()
    predict(signature, inputs)
    return time.perf_counter() - began


def _check_reading(predict: Predict, expected: Expected) -> None:
    """Texts are read as the checkpoint's encoder reads them, and items are found by their own texts."""
    n = len(expected.texts)
    asked = history_inputs(history=[[]] * n, query=expected.texts)
    got = predict("embed_query", {name: asked[name] for name in ("history", "query")})["vectors"]
    _finite("embed_query", "vectors", got)
    off = _off(got, expected.queries)
    if off > expected.tolerance:
        raise NotVerified("embed_query: reads the items' texts otherwise than the checkpoint's encoder: vectors are up to "
                          f"{off:.3g} of their size apart")
    first = head_inputs([{}] * n, n)
    scores = predict("rank", asked | first | {"candidates": padded([expected.items] * n, "")})["scores"][:, 1:]
    _finite("rank", "scores", scores)
    off = _off(scores, expected.scores)
    if off > expected.tolerance:
        raise NotVerified("rank: gives the items for their own texts other scores than the checkpoint's model: up to "
                          f"{off:.3g} of their size apart")
    once = [row for row in range(n) if expected.texts.count(expected.texts[row]) == 1]
    if len(once) >= 8:
        scores = scores - expected.words  # by words alone every item is found, whatever the towers are
        own = scores[np.arange(n), np.arange(n)][:, None]
        ranks = (1 + (scores > own).sum(1) + 0.5 * ((scores == own).sum(1) - 1))[once]
        if not is_above_chance(ranks, n, deviations=1.0):  # a floor: a model may have learnt next to nothing
            raise NotVerified(f"search is dead: by their own texts items come at rank {ranks.mean():.1f} of {n}, no better than "
                              "chance")


def _check_slates(signature: str, answer: Arrays, requests: Requests) -> None:
    items, scores = answer["items"], answer["scores"]
    named = items != b""
    if not named.any():
        raise NotVerified(f"{signature}: every answer is empty")
    unknown = {name.decode("utf-8", "replace") for name in items[named].tolist()} - requests.available
    if unknown:
        raise NotVerified(f"{signature}: answers {sorted(unknown)[0]!r}, which is not in the catalogue or not available")
    _finite(signature, "scores", scores[named])
    if "log_propensities" in answer:
        _finite(signature, "log_propensities", answer["log_propensities"][named])
        if (most := answer["log_propensities"][named].max()) > 1e-4:
            raise NotVerified(f"{signature}: log_propensities: expected none above 0, got {most}")
    if len(requests.available) > 2 and (items == items[:1]).all() and np.allclose(scores[named], scores[:1].repeat(
            len(scores), axis=0)[named], rtol=1e-6, atol=1e-6):
        raise NotVerified(f"{signature}: the same answer to {len(items)} different requests")


def _check_scores(predict: Predict, requests: Requests, *, recall: float) -> None:
    """Scores depend on who asks, `recommend` and `rank` agree on them, and the index finds the best of them."""
    few = requests.candidates[:200]
    for searching in (False, True):
        if searching and not requests.texts:
            continue
        inputs = requests.first_stage(searching=searching, k=min(50, len(requests.available)))
        what = "recommend by query" if searching else "recommend by history"
        known = {name: inputs[name] for name in (*history_inputs(history=[[]]), *HEADS)}
        scores = predict("rank", known | {"candidates": padded([few] * len(inputs["query"]), "")})["scores"][:, 1:]
        _finite("rank", "scores", scores)
        if len(few) > 1:
            _check_not_constant(scores, what)
        answer = predict("recommend", inputs)
        items, given = answer["items"], answer["scores"]
        named = items != b""
        again = predict("rank", known | {"candidates": items})["scores"]
        if not np.allclose(again[named], given[named], rtol=1e-3, atol=1e-3):
            raise NotVerified(f"{what}: its scores are not those of rank for the same items: up to "
                              f"{np.abs(again - given)[named].max():.3g} apart")
        found = _recall(predict, known, requests, items, given)
        if found < LEAST_RECALL * recall:
            raise NotVerified(f"{what}: the index finds {found:.0%} of the best items, measured on {len(requests.candidates):,} "
                              f"items by their full scores; {recall:.0%} was asked for")


def _check_not_constant(scores: np.ndarray, what: str) -> None:
    if np.ptp(scores, axis=1).max() <= 1e-6:
        raise NotVerified(f"{what}: constant scores: every item has the same")
    centred = scores - scores.mean(axis=1, keepdims=True)
    if np.abs(centred - centred[:1]).max() <= 1e-4 * np.abs(centred).max():
        raise NotVerified(f"{what}: the same order of items whoever asks: {len(scores)} different requests have equal scores")


def _recall(predict: Predict, known: Arrays, requests: Requests, items: np.ndarray, given: np.ndarray) -> float:
    """Of the candidates that score above an answer's last item, the share that is in the answer."""
    found = missed = 0
    for row in range(0, len(items), 4):  # of the requests; each is a whole list of candidates
        one = {name: array[row : row + 1] for name, array in known.items()}
        scores = predict("rank", one | {"candidates": padded([requests.candidates], "")})["scores"][0, 1:]
        named = set(items[row].tolist()) - {b""}
        last = given[row][items[row] != b""].min(initial=np.inf)
        for name, score in zip(requests.candidates, scores.tolist(), strict=True):
            inside = name.encode() in named
            found += inside
            missed += not inside and score > last + 1e-4 * max(1.0, abs(last))
    return found / max(1, found + missed)


def _check_explanations(predict: Predict, requests: Requests) -> None:
    query = {"query": text_array(requests.texts)} if requests.texts else {}
    answer = predict("explain", requests.behaviour() | query | {"item": text_array(requests.items)})
    for name in ("scores", "popularity", "history_weights", "token_weights"):
        _finite("explain", name, answer[name])
    ranked = predict("rank", _rank_inputs(requests, None) | head_inputs([{}] * ROWS, ROWS) | query)["scores"][:, -1]
    if not np.allclose(answer["scores"], ranked, rtol=1e-3, atol=1e-3):
        raise NotVerified("explain: its scores are not those of rank for the same items: up to "
                          f"{np.abs(answer['scores'] - ranked).max():.3g} apart")


def _rank_inputs(requests: Requests, candidates: list[str] | None) -> Arrays:
    """Each row's own item, or the same candidates for all."""
    rows: list[Any] = [[item] for item in requests.items] if candidates is None else [candidates] * ROWS
    return requests.behaviour() | head_inputs(None, ROWS) | {"candidates": padded(rows, "")}


def _finite(signature: str, name: str, array: np.ndarray) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        raise NotVerified(f"{signature}: {name}: {int(bad.sum())} of {array.size} numbers are not finite, the first is "
                          f"{array[bad].ravel()[0]}")


def _off(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a share of the largest number that is expected."""
    if got.shape != expected.shape:
        return float("inf")
    return float(np.abs(got - expected).max(initial=0.0) / max(1.0, float(np.abs(expected).max(initial=0.0))))

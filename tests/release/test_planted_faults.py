"""Faults planted in a version, or in the answers of a server: none goes live, and each is named.

One published version is built once; a test copies it, damages the copy and tries to publish that. "Sealed" ones have digests that
fit the damage, as if it had been there at the export: then it is the checks behind the digests that must see it.
"""
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfrec.client.warmup import WARMUP_FILE, Request, write_warmup
from tfrec.errors import NotVerified
from tfrec.model_server.saved_model import SavedModel
from tfrec.models.recommender import Recommender
from tfrec.release import answer_checks
from tfrec.release.consistency import Expected, check_artefacts
from tfrec.release.file_digests import digests
from tfrec.release.manifest import read_manifest, write_manifest
from tfrec.release.publish import publish, versions
from tfrec.release.verify import Verifier

Damage = Callable[[Path], object]
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def verifier(version: Path, forked: None) -> Iterator[Verifier]:
    with Verifier() as begun:
        yield begun


def variables(change: Callable[[str, np.ndarray], np.ndarray], *, prefix: str = "variables/variables") -> Damage:
    """Write the tensors of a version anew, each as `change` gives it."""
    def damage(version: Path) -> None:
        path = version / prefix
        reader = tf.train.load_checkpoint(str(path))
        found = {name: change(name, np.asarray(reader.get_tensor(name))) for name in reader.get_variable_to_dtype_map()}
        for old in path.parent.glob(f"{path.name}.*"):
            old.unlink()
        tf.raw_ops.SaveV2(prefix=str(path), tensor_names=list(found), shape_and_slices=[""] * len(found),
                          tensors=[tf.convert_to_tensor(value) for value in found.values()])
    return damage


def floats(value: float, *, of: str = "") -> Damage:
    return variables(lambda name, array: np.full_like(array, value) if array.dtype == np.float32 and of in name else array)


def text(file: str, change: Callable[[str], str]) -> Damage:
    def damage(version: Path) -> None:
        said = (version / file).read_text()
        (version / file).unlink()  # the copy is of hard links
        (version / file).write_text(change(said))
    return damage


def halved(file: str) -> Damage:
    def damage(version: Path) -> None:
        data = (version / file).read_bytes()
        (version / file).unlink()
        (version / file).write_bytes(data[: len(data) // 2])
    return damage


def manifest(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(version: Path) -> None:
        said = json.loads((version / "manifest.json").read_text())
        change(said)
        (version / "manifest.json").unlink()
        (version / "manifest.json").write_text(json.dumps(said))
    return damage


def infinite_prior(version: Path) -> None:
    with np.load(version / "prior.npz") as file:
        state = dict(file)
    state["counts"][-1, 3] = np.inf
    (version / "prior.npz").unlink()
    np.savez(version / "prior.npz", **state)


def other_warm_up(version: Path) -> None:
    (version / WARMUP_FILE).unlink()
    write_warmup(version, [Request("similar", {"item": [["i1"]], "k": np.array([3], np.int32)})])


PLANTED: dict[str, tuple[Damage, bool, str]] = {  # the damage, whether its digests fit, and what is said of it
    "truncated variables": (halved("variables/variables.data-00001-of-00003"), False, "is not what was exported"),
    "truncated variables, sealed": (halved("variables/variables.data-00001-of-00003"), True, "cannot be used"),
    "missing warm-up": (lambda version: (version / WARMUP_FILE).unlink(), False, "no assets.extra"),
    "missing graph": (lambda version: (version / "saved_model.pb").unlink(), True, "saved_model.pb: cannot be read"),
    "damaged graph": (halved("saved_model.pb"), True, "saved_model.pb: "),
    "missing checkpoint": (lambda version: shutil.rmtree(version / "checkpoint"), False, "checkpoint/.*: is missing"),
    "missing checkpoint, sealed": (lambda version: shutil.rmtree(version / "checkpoint"), True, "cannot be used: .*checkpoint"),
    "truncated checkpoint": (halved("checkpoint/weights.data-00000-of-00001"), True, "cannot be used"),
    "NaN": (floats(np.nan), True, "variables: .* numbers are not finite"),
    "one NaN in the checkpoint": (variables(
        lambda name, array: np.full_like(array, np.nan) if "log_scale" in name else array, prefix="checkpoint/weights"),
        True, "checkpoint/weights: .*log_scale.* not finite"),
    "all zero": (floats(0.0), True, "popularity of|vector of"),
    "permuted ids": (variables(lambda name, array: np.roll(array, 1) if "catalogue/ids" in name else array), True,
                     "items than the catalogue|popularity of|vector of"),
    "words of others": (variables(lambda name, array: np.roll(array, 7) if "catalogue/words_item" in name else array), True,
                        "variables: the graph's words of 'i\\d+' are not those of its text"),
    "vectors of others": (variables(lambda name, array: array[::-1].copy() if "catalogue/vectors" in name else array), True,
                          "vector of '.*' is not what the checkpoint's model makes of it"),
    "stale popularity": (floats(-4.0, of="catalogue/log_p"), True, "the popularity of '.*' differs"),
    "infinite popularity": (infinite_prior, True, "prior.npz: counts: expected finite numbers"),
    "reversed items.jsonl": (text("items.jsonl", lambda said: "\n".join(said.splitlines()[::-1]) + "\n"), True,
                             'items.jsonl: line 1: expected "i0" as in the catalogue, got "i59"'),
    "stale catalogue": (text("checkpoint/catalogue.jsonl", lambda said: "".join(said.splitlines(keepends=True)[:-1])), True,
                        "items.jsonl: expected the 59 ids of the catalogue, got 60"),
    "hidden item shown": (text("unavailable.json", lambda _: "[]"), True, "unavailable.json: expected the 1 ids"),
    "stale numbers": (variables(lambda name, array: np.roll(array, 1) if "numeric_values" in name else array), True,
                      "variables: year of 'i0' is not the catalogue's"),
    "other columns": (text("numeric_columns.json", lambda _: '["price"]'), True, r"numeric columns, \['year'\]"),
    "wrong dtype": (manifest(lambda said: said["signatures"]["recommend"]["inputs"]["k"].update(dtype="int64")), False,
                    "manifest.json: recommend: k: expected int32 1"),
    "one signature": (manifest(lambda said: said.update(signatures={"rank": said["signatures"]["rank"]})), False,
                      "manifest.json: expected the signatures"),
    "another answer foretold": (manifest(lambda said: said["probes"][0]["outputs"].update(scores=[[9.0] * 10])), False,
                                r"probe 0 \(recommend\): scores\[0, 0\]: expected 9.0, got"),
    "probe of another type": (manifest(lambda said: said["probes"][0]["inputs"].update(k=["ten"])), False, "invalid literal"),
    "warm-up that fails": (other_warm_up, True, "its warm-up fails at request 0: "),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_damaged_version_is_not_published(fault: str, version: Path, tmp_path: Path, verifier: Verifier) -> None:
    damage, sealed, told = PLANTED[fault]
    planted = tmp_path / "planted"
    shutil.copytree(version, planted)
    damage(planted)
    if sealed:
        write_manifest(planted, read_manifest(planted).model_copy(update={"files": digests(planted)}))
    with pytest.raises(NotVerified, match=f"planted: not verified, so not published. .*({told})"):
        publish(planted, tmp_path / "models", verifier=verifier)
    assert versions(tmp_path / "models") == []


def test_the_same_version_undamaged_is_published_beside_its_parent(version: Path, tmp_path: Path, verifier: Verifier) -> None:
    assert publish(version, tmp_path / "models", verifier=verifier) == 1


# -- faults that a graph may compute: planted in the answers

@pytest.fixture(scope="module")
def expected(version: Path) -> Expected:
    return check_artefacts(version, read_manifest(version))


@pytest.fixture(scope="module")
def requests(expected: Expected, model: Recommender) -> answer_checks.Requests:
    return answer_checks.Requests(expected, model.actions)


Answer = Callable[[str, Arrays, Callable[[Arrays], Arrays]], Arrays]


def changed(output: str, change: Callable[[np.ndarray], np.ndarray], *, only: tuple[str, ...] = ()) -> Answer:
    def answer(signature: str, inputs: Arrays, ask: Callable[[Arrays], Arrays]) -> Arrays:
        got = ask(inputs)
        return got | {output: change(got[output])} if output in got and (not only or signature in only) else got
    return answer


def _other_words(signature: str, inputs: Arrays, ask: Callable[[Arrays], Arrays]) -> Arrays:
    """Of another tokenizer: the words come out backwards."""
    texts = {"query", "text"} & inputs.keys()
    turned = {name: np.array([said[::-1] for said in inputs[name].tolist()], object) for name in texts}
    return ask(inputs | turned)


def _nobody(signature: str, inputs: Arrays, ask: Callable[[Arrays], Arrays]) -> Arrays:
    """Popularity only: whoever asks."""
    return ask(inputs | ({"history": np.full_like(inputs["history"], b"")} if "history" in inputs else {}))


def _unread(signature: str, inputs: Arrays, ask: Callable[[Arrays], Arrays]) -> Arrays:
    """Search is dead: no query is read."""
    return ask(inputs | ({"query": np.full_like(inputs["query"], b"")} if "query" in inputs else {}))


def _poor_index(signature: str, inputs: Arrays, ask: Callable[[Arrays], Arrays]) -> Arrays:
    """Four of five of the best are not found."""
    got = ask(inputs)
    if signature == "recommend":
        found = np.arange(got["items"].shape[1]) % 5 != 0
        got = {"items": np.where(found, b"", got["items"]), "scores": np.where(found, -np.inf, got["scores"])}
    return got


ANSWERS: dict[str, tuple[Answer, str]] = {
    "head NaN": (changed("scores", lambda scores: np.full_like(scores, np.nan), only=("thompson",)),
                 "thompson: scores: .* not finite"),
    "NaN scores": (changed("scores", lambda scores: np.full_like(scores, np.nan)), "rank: scores: .* not finite"),
    "empty": (changed("items", lambda items: np.full_like(items, b""), only=("linucb",)), "linucb: every answer is empty"),
    "constant scores": (changed("scores", lambda scores: np.where(np.isfinite(scores), 1.0, scores)), "rank: gives the items"),
    "popularity only": (_nobody, "the same answer to|the same order of items whoever asks"),
    "search dead": (_unread, "embed_query: reads the items' texts otherwise"),
    "wrong tokenizer": (_other_words, "embed_query: reads the items' texts otherwise"),
    "label flip": (changed("scores", lambda scores: -scores, only=("rank",)),
                   "rank: gives the items for their own texts other scores"),
    "unknown item": (changed("items", lambda items: np.where(items == items[0, 0], b"nobody", items), only=("similar",)),
                     "similar: answers 'nobody', which is not in the catalogue"),
    "recall .2": (_poor_index, "the index finds"),
    "propensity above 1": (changed("log_propensities", lambda log_p: log_p * 0 + 0.5), "log_propensities: expected none above 0"),
    "explain NaN": (changed("token_weights", lambda weights: weights * np.nan), "explain: token_weights: .* not finite"),
}


def predicting(served: SavedModel, answer: Answer | None = None) -> answer_checks.Predict:
    def predict(signature: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        def ask(changed: Arrays) -> Arrays:
            return served.run(signature, changed)

        return ask(dict(inputs)) if answer is None else answer(signature, dict(inputs), ask)
    return predict


def test_a_sound_version_passes(served: SavedModel, expected: Expected, requests: answer_checks.Requests) -> None:
    answer_checks.check_answers(predicting(served), expected, requests, recall=1.0)


@pytest.mark.parametrize("fault", ANSWERS)
def test_an_answer_that_no_sound_version_gives_is_named(fault: str, served: SavedModel, expected: Expected,
                                                        requests: answer_checks.Requests) -> None:
    answer, told = ANSWERS[fault]
    with pytest.raises(NotVerified, match=told):
        answer_checks.check_answers(predicting(served, answer), expected, requests, recall=1.0)


def test_a_version_that_turns_its_parent_upside_down_is_refused(served: SavedModel, requests: answer_checks.Requests) -> None:
    def worst(signature: str, inputs: Arrays, ask: Callable[[Arrays], Arrays]) -> Arrays:
        got = ask(inputs | {"k": np.full_like(inputs["k"], 70)})
        count = (got["items"] != b"").sum(axis=1)
        rows = [row[:n][::-1][:10] for row, n in zip(got["items"], count, strict=True)]
        return {"items": np.array(rows, object)}

    answer_checks.check_near(predicting(served), predicting(served), requests)
    with pytest.raises(NotVerified, match="of the parent's items are in its answers"):
        answer_checks.check_near(predicting(served, worst), predicting(served), requests)


def test_ten_times_slower_is_refused_and_noise_is_not(requests: answer_checks.Requests) -> None:
    def taking(seconds: Callable[[], float]) -> answer_checks.Predict:
        def predict(signature: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
            time.sleep(seconds())
            return {}
        return predict

    noise = iter([0.0, 0.03, 0.0, 0.0, 0.02] * 1000)
    answer_checks.check_latency(taking(lambda: next(noise)), taking(lambda: 0.001), requests, growth=1.0)
    with pytest.raises(NotVerified, match="recommend: takes .* more than 2 times as long"):
        answer_checks.check_latency(taking(lambda: 0.02), taking(lambda: 0.002), requests, growth=1.0)
    answer_checks.check_latency(taking(lambda: 0.02), taking(lambda: 0.002), requests, growth=10.0)  # ten times as many items

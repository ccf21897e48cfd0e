"""A version that shares its parent's graph answers as one whose graph was traced for it, and is verified as strictly."""
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from tests.graph import tiny_recommender as tiny
from tests.graph.tiny_recommender import N_ITEMS
from tfrec.client.warmup import record_probes
from tfrec.data.records import Item
from tfrec.errors import NotVerified
from tfrec.graph.graph_digest import code_digest
from tfrec.graph.signatures import Graph
from tfrec.model_server.saved_model import SavedModel
from tfrec.models.bayesian_head import BayesianHead
from tfrec.models.recommender import Recommender
from tfrec.models.text_encoder import TextEncoder, load_encoder
from tfrec.release.export import export
from tfrec.release.file_digests import digests
from tfrec.release.lineage import Lineage
from tfrec.release.manifest import read_manifest, write_manifest
from tfrec.release.probes import probe_difference
from tfrec.release.publish import publish, versions
from tfrec.release.recorded_requests import recorded_requests
from tfrec.release.verify import Verifier

GRAPH = ("saved_model.pb", "variables/variables.data-00000-of-00003")
TOWERS, CATALOGUE = (f"variables/variables.data-0000{n}-of-00003" for n in (1, 2))


def learnt(run: Path, checkpoint: str) -> Recommender:
    """Another model of the same shapes: other weights and popularity, two new items with a new tag, one gone and one back."""
    made = tiny.recommender(run, checkpoint)
    rng = np.random.default_rng(5)
    for weight in (*made.model.items.trainable_weights, *made.model.queries.trainable_weights, made.model.mean_query,
                   made.model.log_scale, made.head.mean):
        weight.assign_add(rng.normal(0, 0.1, weight.shape))
    new = [Item(id=f"i{N_ITEMS + n}", text=f"a quiet newcomer {n}", tags=("new",)) for n in range(2)]
    changed = [made.catalogue.items[n].model_copy(update={"available": n == tiny.GONE}) for n in (3, tiny.GONE)]
    catalogue = made.catalogue.with_items([*changed, *new])
    text = TextEncoder(checkpoint, max_tokens=12).encode(catalogue.texts, batch_size=16)
    made.extend(catalogue, text)
    made.prior.update([3, 4, 5, N_ITEMS], [2_500_000] * 4)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: str) -> Recommender:
    return learnt(tmp_path_factory.mktemp("run"), tiny_checkpoint)


@pytest.fixture(scope="module")
def successor(made: Recommender, version: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export, which shares the graph of `version`."""
    return export(made, tmp_path_factory.mktemp("shared") / "4", created_at=6, parent=version,
                  lineage=Lineage(window={"end": {"gateway": 10}}))


def links(one: Path, other: Path) -> dict[str, bool]:
    return {name: (one / name).samefile(other / name) for name in (*GRAPH, TOWERS, CATALOGUE)}


def test_graph_and_encoder_are_the_parents_files_and_the_rest_is_new(successor: Path, version: Path) -> None:
    assert links(successor, version) == {GRAPH[0]: True, GRAPH[1]: True, TOWERS: False, CATALOGUE: False}
    ours, theirs = read_manifest(successor), read_manifest(version)
    assert (ours.graph_digest, ours.signatures) == (theirs.graph_digest, theirs.signatures)
    assert ours.graph_digest != ""
    assert ours.catalogue_digest != theirs.catalogue_digest
    assert ours.files == digests(successor)
    assert [probe.signature for probe in ours.probes] == ["recommend", "recommend", "rank", "recommend", "recommend"]


def test_the_parent_becomes_it_in_a_server_and_answers_every_signature_as_the_model_in_memory(
        successor: Path, version: Path, made: Recommender) -> None:
    loaded, graph = SavedModel(version), Graph(made, load_encoder(made.config.text))
    assert "i3" in tiny.by_item(loaded.run("recommend", tiny.request([["i1"]])))
    assert loaded.become(successor)
    requests = recorded_requests(made)
    manifest = read_manifest(successor)
    assert {request.signature for request in requests} == manifest.signatures.keys()
    for request, probe in zip(requests, record_probes(graph.functions, requests), strict=True):
        assert probe_difference(loaded.run, manifest, probe) == "", request.signature
    new = loaded.run("recommend", tiny.request([["i1"]], allow_tags=[["new"]]))
    assert set(tiny.by_item(new)) == {f"i{N_ITEMS}", f"i{N_ITEMS + 1}"}
    assert not {"i3"} & set(tiny.by_item(loaded.run("recommend", tiny.request([["i1"]]))))


def test_it_answers_exactly_as_one_that_was_traced_anew(made: Recommender, tmp_path: Path, tiny_checkpoint: str) -> None:
    """With inverted lists, whose number and limits are another version's."""
    with mock.patch("tfrec.graph.index_choice.INVERTED_FROM", 10), tiny.exporting("recommend"):
        parent = export(tiny.recommender(tmp_path, tiny_checkpoint), tmp_path / "1", created_at=5)
        ours, anew = (export(made, tmp_path / name, created_at=6, parent=of) for name, of in (("2", parent), ("3", None)))
        requests = [one for one in recorded_requests(made) if one.signature == "recommend"]
    assert links(ours, parent) == {GRAPH[0]: True, GRAPH[1]: True, TOWERS: False, CATALOGUE: False}
    assert not any(links(anew, parent).values())
    assert read_manifest(ours).index["kind"] == "lists"
    one, other = SavedModel(ours), SavedModel(anew)
    for request in requests:
        left, right = (model.run(request.signature, request.arrays()) for model in (one, other))
        assert left["items"].tolist() == right["items"].tolist()
        assert_allclose(left["scores"], right["scores"], rtol=1e-6, atol=1e-6)


def with_settings(made: Recommender, section: str, **values: object) -> Recommender:
    config = made.config
    return replace(made, config=config.model_copy(update={section: getattr(config, section).model_copy(update=values)}))


@pytest.mark.parametrize("changed", [
    lambda made: with_settings(made, "serving", max_k=71), lambda made: with_settings(made, "text", max_tokens=11),
    lambda made: with_settings(made, "model", history=5), lambda made: replace(made, actions=("buy", "view", "like")),
    lambda made: replace(made, head=BayesianHead(9)),
], ids=["max_k", "max_tokens", "history", "actions", "shape"])
def test_what_the_graph_depends_on_is_in_its_digest(changed: Callable[[Recommender], Recommender], model: Recommender) -> None:
    encoder = load_encoder(model.config.text)
    before = Graph(model, encoder).digest
    assert Graph(replace(model), encoder).digest == before
    assert Graph(changed(model), encoder).digest != before


def test_other_code_or_another_tensorflow_traces_anew(model: Recommender, tmp_path: Path) -> None:
    graph = Graph(model, load_encoder(model.config.text))
    before = graph.digest
    with mock.patch("tfrec.graph.graph_digest.version", return_value="2.99"):
        assert graph.digest != before
    for name, code in (("one", "a = 1"), ("other", "a = 2")):
        (tmp_path / name / "graph").mkdir(parents=True)
        (tmp_path / name / "graph" / "a.py").write_text(code)
    assert code_digest(tmp_path / "one") != code_digest(tmp_path / "other")


@pytest.mark.parametrize("file", GRAPH)
def test_a_damaged_graph_of_the_parent_is_not_shared(file: str, model: Recommender, version: Path, tmp_path: Path,
                                                     caplog: pytest.LogCaptureFixture) -> None:
    parent = shutil.copytree(version, tmp_path / "3")
    damaged = bytearray((parent / file).read_bytes())
    damaged[-1] ^= 1
    (parent / file).write_bytes(damaged)
    with mock.patch("tensorflow.saved_model.save", side_effect=KeyError("traced")), mock.patch.object(Graph, "module"), \
         mock.patch.object(Graph, "signatures"), pytest.raises(KeyError, match="traced"):
        export(model, tmp_path / "4", created_at=6, parent=parent)
    assert f"the graph is traced anew: {parent / file}: is not what was exported" in caplog.text


# -- verification

def other_towers(planted: Path, version: Path) -> None:
    """The towers of another model, sealed: every file is whole, and its digest fits."""
    shutil.copy2(version / TOWERS, planted / TOWERS)


def weights(of: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, Path], None]:
    def plant(planted: Path, version: Path) -> None:
        path = planted / "variables" / "variables"
        reader = tf.train.load_checkpoint(str(path))
        found = {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_dtype_map()}
        found |= {name: change(value) for name, value in found.items() if name.startswith(f"{of}/")}
        for old in path.parent.glob("variables.data-*"):
            old.unlink()
        tf.raw_ops.SaveV2(prefix=str(path), tensor_names=list(found), shape_and_slices=[""] * len(found),
                          tensors=[tf.convert_to_tensor(value) for value in found.values()])
    return plant


def cut(planted: Path, version: Path) -> None:
    (planted / TOWERS).write_bytes((planted / TOWERS).read_bytes()[:-100])


@pytest.mark.parametrize(("plant", "sealed", "told"), [
    (other_towers, False, "is not what was exported"),
    (other_towers, True, "the graph's .* is not the checkpoint's|cannot be used|vector of"),
    (cut, False, "is not what was exported"),
    (cut, True, "cannot be used"),
    (weights("towers/queries_3", lambda value: np.full_like(value, np.nan)), True, "not finite"),
    (weights("towers/head_mean", lambda value: value + 1), True, "the graph's head_mean is not the checkpoint's"),
    (weights("catalogue/vectors", lambda value: value[::-1].copy()), True, "vector of"),
], ids=["other towers", "other towers, sealed", "cut", "cut, sealed", "NaN", "other head, sealed", "vectors of others"])
def test_a_damaged_version_is_refused(plant: Callable[[Path, Path], None], sealed: bool, told: str, successor: Path,
                                      version: Path, tmp_path: Path) -> None:
    shutil.copytree(version, tmp_path / "models" / "3")
    planted = shutil.copytree(successor, tmp_path / "planted")
    plant(planted, version)
    if sealed:
        write_manifest(planted, read_manifest(planted).model_copy(update={"files": digests(planted)}))
    with pytest.raises(NotVerified, match=f"planted: not verified, so not published. .*({told})"):
        publish(planted, tmp_path / "models", verifier=Verifier())
    assert versions(tmp_path / "models") == [3]


@pytest.mark.usefixtures("forked")
def test_one_server_verifies_many_and_is_started_anew_when_it_has_died(successor: Path, version: Path, tmp_path: Path) -> None:
    with Verifier() as verifier:
        assert verifier.verify(successor, parent=version) == 5
        first = verifier.pid
        assert verifier.verify(successor, parent=version) == 5
        assert verifier.pid == first
        foretold = read_manifest(successor).probes[0].model_copy(update={"outputs": {}})
        os.kill(first, signal.SIGKILL)
        while verifier.pid == first:
            time.sleep(0.05)
        wrong = shutil.copytree(successor, tmp_path / "wrong")
        write_manifest(wrong, read_manifest(successor).model_copy(update={"probes": (foretold,)}))
        with pytest.raises(NotVerified, match=r"probe 0 \(recommend\): expected the outputs"):
            verifier.verify(wrong, parent=version)
        assert verifier.verify(successor, parent=version) == 5

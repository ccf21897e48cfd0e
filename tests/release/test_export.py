"""An export against the model in memory: loaded as a SavedModel; tests/graph/test_signatures.py asks it behind a server."""
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

import tfrec
from tests.graph.tiny_recommender import GONE, LENGTH, N_ITEMS, by_item, exporting, interactions, recommender, request
from tfrec.client.inputs import NO_SCORE
from tfrec.client.tensors import text_array
from tfrec.client.warmup import read_warmup
from tfrec.config import Config, GatewayConfig
from tfrec.data.behaviour.histories import Histories
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.records import Item
from tfrec.errors import UsageError
from tfrec.model_server.saved_model import SavedModel
from tfrec.models.lexical.lexicon import Lexicon
from tfrec.models.recommender import Recommender
from tfrec.models.scorer import Scorer, SearchScorer
from tfrec.models.text_encoder import TextEncoder
from tfrec.models.two_tower import SEARCH_BETA
from tfrec.release.export import export
from tfrec.release.lineage import Lineage, held_back
from tfrec.release.manifest import CHECKPOINT, read_manifest, write_manifest
from tfrec.release.popularity_files import read_prior
from tfrec.release.probes import probe_difference
from tfrec.release.recorded_requests import cold_signatures
from tfrec.training import checkpoint


@pytest.fixture(scope="module")
def inter(model: Recommender) -> Interactions:
    return interactions(model.catalogue)


def of_events(inter: Interactions, events: np.ndarray) -> dict[str, np.ndarray]:
    """Histories before `events` as a gateway might send them: with pads, unknown items and more events than are read."""
    histories = Histories(inter)
    width = LENGTH + 7
    rows = []
    for event in events:
        past = histories.of(int(event), last=LENGTH + 3)
        ages = inter.time[event] - inter.time[past]
        known = [(inter.items[inter.item[i]], inter.actions[inter.action[i]], age) for i, age in zip(past, ages, strict=True)]
        row = [("", "view", -1), ("nobody", "buy", 10**9), *known[:-1], ("", "", -1), ("stranger", "buy", 1), *known[-1:]]
        rows.append(row + [("", "", -1)] * (width - len(row)))
    history, action, age = (np.array([[entry[n] for entry in row] for row in rows], object) for n in range(3))
    return {"history": text_array(history), "history_action": text_array(action), "history_age_s": age.astype(np.int64)}


def test_scores_are_those_of_the_quality_protocol(served: SavedModel, model: Recommender, inter: Interactions) -> None:
    events = np.arange(150, len(inter), 7)
    scorer = Scorer(model, inter, counted=150)
    expected = scorer.similarity(events) + 0.8 * model.prior.log_p()
    answer = served.run("recommend", request([[""]] * len(events)) | of_events(inter, events))
    assert Histories(inter).count(events).max() > LENGTH
    for row in range(len(events)):
        found = by_item(answer, row)
        assert len(found) == N_ITEMS - 1
        assert f"i{GONE}" not in found
        assert_allclose([found[f"i{n}"] for n in range(N_ITEMS) if n != GONE], np.delete(expected[row], GONE), atol=1e-4)
        assert list(found.values()) == sorted(found.values(), reverse=True)


def test_the_plain_signature_leaves_actions_and_ages_out(served: SavedModel, inter: Interactions) -> None:
    history = [["i3", "i4", "i5"], ["i1", "i2"]]
    full = request(history)
    plain = served.run("serving_default", {name: full[name] for name in ("history", "query", "k")})
    answer = served.run("recommend", full)
    assert by_item(plain, 1) == by_item(answer, 1)
    known = served.run("recommend", full | {"history_age_s": np.full([2, 3], 9, np.int64)})
    assert by_item(known) != by_item(answer)
    first = served.run("recommend", full | {"history_action": np.full([2, 3], inter.actions[0].encode(), object)})
    assert by_item(first) == by_item(answer)  # an event without an action is read as the first that was learnt
    assert by_item(served.run("recommend", full | {"history_action": np.full([2, 3], b"fly", object)})) != by_item(answer)


def test_nothing_known_is_answered_by_popularity(served: SavedModel, model: Recommender) -> None:
    log_p = model.prior.log_p()
    for history in ([[]], [["", ""]], [["nobody"]]):
        found = by_item(served.run("recommend", request(history)))
        assert_allclose([found[f"i{n}"] for n in (0, 1, 59)], 0.8 * log_p[[0, 1, 59]], rtol=1e-5)
    assert not served.run("embed_query", {"history": text_array([["nobody"]]), "query": text_array([" "])})["vectors"].any()


def test_searches_are_judged_as_they_are_served(served: SavedModel, model: Recommender) -> None:
    texts = ["the red tall", "loud 21"]
    encoder = TextEncoder(model.config.text.encoder, max_tokens=12)
    lexicon = Lexicon.of(model.config, model.catalogue, encoder.tokenizer)
    assert lexicon is not None
    scorer = SearchScorer(model, encoder.encode(texts, batch_size=2, role="query"), log_p=model.prior.log_p(),
                          words=lambda rows: lexicon.matches([texts[row] for row in rows]))
    answer = served.run("recommend", request([[]] * 2, query=texts))
    for row, expected in enumerate(scorer(np.arange(2))):
        found = by_item(answer, row)
        assert_allclose(list(found.values()), expected[[int(name[1:]) for name in found]], rtol=1e-4, atol=1e-4)


def test_a_query_adds_its_vector_and_its_words_and_popularity_says_less(served: SavedModel, model: Recommender) -> None:
    texts = ["the red tall", "", "  "]
    encoder = TextEncoder(model.config.text.encoder, max_tokens=12)
    part = model.model.scale_query(encoder(tf.constant(texts))).numpy()
    history = [["i3", "i9"]] * 3
    plain, answer = (served.run("recommend", request(history, query=query)) for query in ([""] * 3, texts))
    log_p, vectors = model.prior.log_p(), model.item_vectors()
    gain = by_item(answer, 0)["i30"] - by_item(plain, 0)["i30"]
    lexicon = Lexicon.of(model.config, model.catalogue, encoder.tokenizer)
    assert lexicon is not None
    words = model.model.query_scale().numpy() * lexicon.matches(texts)
    assert words[0, 30] > 0
    assert not words[1:].any()
    assert_allclose(gain, part[0] @ vectors[30] + (SEARCH_BETA - 0.8) * log_p[30] + words[0, 30], rtol=1e-5)
    for row in (1, 2):
        assert_allclose(list(by_item(answer, row).values()), list(by_item(plain, row).values()), atol=1e-5)
    embedded = served.run("embed_query", {"history": text_array(history), "query": text_array(texts)})["vectors"]
    assert_allclose(embedded[0] - embedded[1], part[0], atol=1e-5)


def test_a_query_of_100_000_characters(served: SavedModel) -> None:
    long = "red tall " * 11_112
    answer = served.run("recommend", request([["i3"]], query=[long]))
    assert by_item(answer) == by_item(served.run("recommend", request([["i3"]], query=[long[:1000]])))


def test_exclusions_and_a_prior_of_the_request(served: SavedModel) -> None:
    history = [["i3"], ["i3"]]
    plain = served.run("recommend", request(history))
    best = list(by_item(plain))
    asked = request(history, exclude=[[best[0], "nobody"], [""] * 2], prior_items=[[best[-1], "nobody"], ["", ""]],
                    prior_log_p=np.array([[50.0, 50.0], [50.0, 50.0]], np.float32))
    answer = served.run("recommend", asked)
    found = list(by_item(answer))
    assert found == [best[-1], *best[1:-1]]
    assert_allclose(answer["scores"][0, -2:], [NO_SCORE] * 2)  # the excluded item's place, and that of the one not available
    assert by_item(answer, 1) == by_item(plain, 1)


def test_similar_items(served: SavedModel, model: Recommender) -> None:
    vectors = model.item_vectors()
    cosine = vectors @ vectors[4]
    expected = [n for n in np.argsort(-cosine) if n not in (4, GONE)][:5]
    answer = served.run("similar", {"item": text_array(["i4", "nobody", ""]), "k": np.array([5, 5, 5], np.int32)})
    assert list(by_item(answer)) == [f"i{n}" for n in expected]
    assert_allclose(answer["scores"][0], cosine[expected], atol=1e-5)
    assert (answer["items"][1:] == b"").all()


def test_an_item_embedded_by_its_text_is_where_a_new_item_is(served: SavedModel, model: Recommender) -> None:
    texts = ["the tall blue newcomer", ""]
    encoder = TextEncoder(model.config.text.encoder, max_tokens=12)
    features = np.zeros((2, model.features.width), np.float32)
    expected = model.model.items(encoder(tf.constant(texts)), tf.constant(features), tf.zeros(2, tf.int32)).numpy()
    vectors = served.run("embed_item", {"text": text_array(texts)})["vectors"]
    assert_allclose(vectors, expected, atol=1e-5)
    assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_an_empty_batch_and_inputs_of_unequal_shapes(served: SavedModel) -> None:
    empty = {name: value[:0] for name, value in request([["i1"]]).items()}
    assert served.run("recommend", empty)["items"].shape == (0, 0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="history_age_s must have the shape of history"):
        served.run("recommend", request([["i1"]]) | {"history_age_s": np.zeros([1, 2], np.int64)})
    with pytest.raises(tf.errors.InvalidArgumentError, match="prior_log_p must have the shape of prior_items"):
        served.run("recommend", request([["i1"]]) | {"prior_log_p": np.zeros([1, 2], np.float32)})


def test_it_loads_by_tensorflow_too(version: Path, served: SavedModel) -> None:
    loaded = tf.saved_model.load(str(version))
    inputs = request([["i3", "i9"]], query=["red"])
    answer = loaded.signatures["recommend"](**{name: tf.constant(value) for name, value in inputs.items()})
    assert_allclose(answer["scores"].numpy(), served.run("recommend", inputs)["scores"], atol=1e-5)


def test_the_manifest_the_popularity_and_the_warm_up(version: Path, model: Recommender, served: SavedModel) -> None:
    manifest = read_manifest(version)
    assert (manifest.version, manifest.parent, manifest.identity, manifest.created_at) == (None, 2, "job-1", 5)
    assert (manifest.window, manifest.scorecard) == ({"end": {"gateway": 9}}, {"hr@10": 0.1})
    assert (manifest.config_digest, manifest.catalogue_digest) == (model.config.digest(), model.catalogue.digest())
    assert manifest.code_version == tfrec.__version__
    assert set(manifest.signatures) == {
        "serving_default", "recommend", "explore", "thompson", "linucb", "rank", "explain", "similar",
        "embed_query", "embed_item",
    }
    assert manifest.shortlist == 200
    for signature in manifest.signatures.values():
        assert all(spec.shape[0] is None for spec in (signature.inputs | signature.outputs).values())
    prior, ids = read_prior(version)
    assert ids == model.catalogue.ids.tolist()
    assert_allclose(prior.log_p(), model.prior.log_p())
    asked = [log.predict_log.request for log in read_warmup(version)]
    sizes = {(one.model_spec.signature_name, next(iter(one.inputs.values())).tensor_shape.dim[0].size) for one in asked}
    cold = {"thompson", "linucb", "explain"}  # the gateway's policy is plackett_luce
    assert sizes == {(name, 1) for name in manifest.signatures if name not in cold} | {("recommend", 4)}
    assert {probe.signature for probe in manifest.probes} == manifest.signatures.keys()
    assert len(asked) == len(manifest.probes) - len(cold)
    assert served.warm_up() == len(asked)


@pytest.mark.parametrize(("policy", "warm"), [("plackett_luce", "explore"), ("thompson", "thompson"), ("linucb", "linucb")])
def test_the_gateways_policy_is_warmed_up(policy: str, warm: str) -> None:
    cold = cold_signatures(Config(gateway=GatewayConfig(policy=policy)))
    assert cold == {"explain", "explore", "thompson", "linucb"} - {warm}


def test_its_probes_are_answered_as_foretold(version: Path, served: SavedModel) -> None:
    manifest = read_manifest(version)
    assert [probe_difference(served.run, manifest, probe) for probe in manifest.probes] == [""] * len(manifest.probes)


def test_an_item_inserted_by_its_text_is_found_by_a_query(tmp_path: Path, tiny_checkpoint: str) -> None:
    grown = recommender(tmp_path / "run", tiny_checkpoint)
    encoder = TextEncoder(tiny_checkpoint, max_tokens=12)
    text = "zebra jazz quiz"
    catalogue = grown.catalogue.with_items([Item(id="new", text=text)])
    grown.extend(catalogue, np.concatenate([grown.text, encoder.encode([text], batch_size=1)]))
    with exporting("recommend"):
        version = export(grown, tmp_path / "1", created_at=0)
    answer = SavedModel(version).run("recommend", request([[]], query=[text], k=np.array([3], np.int32)))
    assert "new" in by_item(answer)


def test_the_checkpoint_inside_gives_back_the_recommender(version: Path, model: Recommender, inter: Interactions) -> None:
    again, meta = checkpoint.load(version / CHECKPOINT, model.config)
    assert meta == {"held_back": [["u1", "i2"]]}
    events = np.arange(len(inter) - 5, len(inter))
    expected = Scorer(model, inter, counted=len(inter) // 2)(events)
    assert_allclose(Scorer(again, inter, counted=len(inter) // 2)(events), expected, atol=1e-5)


def test_what_judged_is_learnt_next_but_not_after_a_rollback(tmp_path: Path, version: Path) -> None:
    assert held_back(version) == [["u1", "i2"]]
    for copied in ({"copy_of": 3, "rolled_back_from": 4}, {"of_copy": True}):  # itself, and with other items beside it
        write_manifest(tmp_path, read_manifest(version).model_copy(update=copied))
        assert held_back(tmp_path) == []


def test_an_output_that_exists_or_cannot_be_written_is_refused_before_any_work(tmp_path: Path, model: Recommender) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="there: exists already"):
        export(model, tmp_path / "there", created_at=0)
    with pytest.raises(UsageError, match=r"below: cannot be written \(Not a directory\)"):
        export(model, tmp_path / "file" / "below", created_at=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, model: Recommender) -> None:
    with exporting("similar"), pytest.raises(ValueError, match="JSON|serial"):
        export(model, tmp_path / "out", created_at=0, lineage=Lineage(scorecard={"hr@10": object()}))
    assert list(tmp_path.iterdir()) == []

"""Features from a request to the model, to the log, and to training: all of them read the same."""
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.gateway.world import KEY, NOW, World
from tests.graph import tiny_recommender as tiny
from tests.graph.tiny_recommender import exporting
from tfrec.client.client import Client
from tfrec.client.contract import SIGNATURES, difference, signatures, takes_context
from tfrec.client.request_errors import RequestFailed
from tfrec.config import FeaturesConfig, RankerConfig
from tfrec.data.examples.slates import matured_slates
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.records import Context
from tfrec.data.settled.examples import SettledExamples
from tfrec.data.settled.settle import settle
from tfrec.errors import ModelError
from tfrec.gateway.http.declared_features import DeclaredFeatures
from tfrec.gateway.http.refusal import RequestRefused
from tfrec.model_server.embedded import EmbeddedServer
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import free_port
from tfrec.models.recommender import Recommender
from tfrec.release.export import export
from tfrec.release.manifest import CHECKPOINT, read_manifest
from tfrec.training import checkpoint
from tfrec.training.slates.policy_scorer import PolicyScorer
from tfrec.training.slates.window import window_arrays

DECLARED = FeaturesConfig(time=("hour", "weekday"), context={"device": "category", "basket": "number"},
                          user={"age": "number", "plan": "category"}, buckets=16)
USERS = {KEY.of("ann"): {"age": "35", "plan": "gold"}}
DAY = 86_400


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: str) -> Recommender:
    """It reads features, and has a second stage."""
    found = tiny.recommender(tmp_path_factory.mktemp("features") / "run", tiny_checkpoint, features=DECLARED,
                             ranker=RankerConfig(heads={"view": 1.0, "buy": 3.0}, after={"buy": "view"}))
    found.requests = found.requests.met([{"age": str(age), "basket": str(age * 1.5)} for age in range(20, 61)])
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, made: Recommender, version: Path) -> Path:
    """Version 3 without features, and version 4 with them."""
    root = tmp_path_factory.mktemp("versions") / "tiny"
    root.mkdir()
    (root / "3").symlink_to(version)
    with exporting("recommend", "explore", "rank", "explain", "similar"):
        export(made, root / "4", created_at=5)
    return root


@pytest.fixture(scope="module")
def address(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = tmp_path_factory.mktemp("server") / "models.config"
    config.write_text(f"""model_config_list {{ config {{ name: "tiny" base_path: "{base}" model_platform: "tensorflow"
        model_version_policy {{ all {{}} }} }} }}""")
    options = ServeOptions(port=free_port(), model_config_file=str(config), enable_model_warmup=False)
    running = EmbeddedServer(options, stopping=threading.Event())
    running.start()
    with Client(f"127.0.0.1:{options.port}", model="tiny", timeout=120.0) as client:  # a first answer takes its time
        client.recommend(history=[[]])
        client.rank(history=[["i3"], []], candidates=[["i5"], ["i6"]])
        client.explain(history=[[]], item=["i5"])
    yield f"127.0.0.1:{options.port}"
    running.stop()


@pytest.fixture
def world(tmp_path: Path, address: str) -> Iterator[World]:
    found = World(tmp_path, address, features=DeclaredFeatures(DECLARED, USERS), heads=("view", "buy"))
    yield found
    found.close()


ASKED = [
    {"user": "ann", "context": {"device": "tv", "profile": {"basket": "42", "shoe": "43"}}, "time": NOW - 20_000},
    {"user": "ann", "context": {"device": "web", "profile": {"age": "58"}}, "history": [{"item": "i3", "time": NOW - 900}]},
    {"user": "bob", "query": "red tall", "context": {"profile": {"plan": "gold"}}},
    {"user": "eve"},
    {"user": "eve", "head_weights": {"buy": 2.0}},
    {"user": "bob", "head_weights": {}},
]


def test_training_reads_of_the_log_what_the_graph_read_of_the_request(world: World, made: Recommender, tmp_path: Path) -> None:
    """The skew test: scores that training computes of logged impressions are those that the server gave."""
    for asked in ASKED:
        assert world.http.post("/v1/recommend", json=asked | {"k": 5}).status_code == 200
    world.writer.flush()
    rule = LabelRule.of(made.config, made.catalogue)
    settled = SettledExamples(tmp_path / "examples")
    part = settle(world.log, settled, rule, now=NOW + 10 * DAY, quarantine=None)
    slates, _ = matured_slates(settled, upto=part.number, items=rule.catalogue_ids, after=0, until=NOW + DAY, most=100)
    arrays, log_p = window_arrays(made, slates, made.timeline, now=NOW + 10 * DAY)
    served = {(row["request_id"], row["item"]): row["score"] for row in world.rows("impressions")}
    prior = made.prior.log_p()[None]
    order = slates["request_id"].to_pylist()
    expected = np.array([[served[request, item] for item in items] for request, items in
                         zip(order, slates["item"].to_pylist(), strict=True)])
    scorer = PolicyScorer(made, np.broadcast_to(prior, log_p.shape))
    assert_allclose(scorer(arrays, as_served=True).served, expected, atol=2e-3)
    assert np.abs(scorer(arrays).served - expected).max() > 0.1  # by the first stage alone
    arrays.context[:] = np.nan
    assert np.abs(scorer(arrays, as_served=True).served - expected).max() > 0.01


def test_the_log_keeps_what_was_served_the_users_columns_too(world: World) -> None:
    for asked in ASKED:
        world.http.post("/v1/recommend", json=asked | {"k": 1})
    contexts = [json.loads(row["context"])["profile"] for row in world.rows("impressions")]
    assert contexts == [{"basket": "42", "shoe": "43", "age": "35", "plan": "gold"}, {"age": "58", "plan": "gold"},
                        {"plan": "gold"}, {}, {}, {}]


def test_a_context_moves_answers_and_explanations(world: World) -> None:
    def score(**context: object) -> float:
        body = {"user": "eve", "item": "i5", "context": context}
        return float(world.http.post("/v1/explain", json=body).json()["score"])

    assert score() == score(profile={"shoe": "43"})
    assert abs(score(device="tv") - score()) > 1e-3
    assert abs(score(device="tv") - score(device="web")) > 1e-3


def test_a_feature_of_the_wrong_kind_is_refused_by_name(world: World) -> None:
    answer = world.http.post("/v1/recommend", json={"user": "ann", "context": {"profile": {"basket": "a lot"}}})
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == "context.profile.basket"
    assert "declared as a number" in error["message"]
    assert "a lot" not in error["message"]
    assert world.rows("impressions") == []


def test_what_is_sent_and_not_declared_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    features = DeclaredFeatures(DECLARED)
    for _ in range(3):
        features.completed(Context(place="x", profile={"shoe": "43"}), "u")
    assert [message.partition(",")[0] for message in caplog.messages] == ["requests say 'place'", "requests say 'shoe'"]
    for number in range(500):
        features.completed(Context(profile={f"n{number}": "1"}), "u")
    assert len(caplog.messages) == 100
    none = DeclaredFeatures(FeaturesConfig())
    assert (none.read(Context(device="tv")), none.completed(Context(device="tv"), "u")) == (None, Context(device="tv"))


def test_a_number_may_be_of_a_place_too() -> None:
    features = DeclaredFeatures(FeaturesConfig(context={"place": "number"}))
    with pytest.raises(RequestRefused) as refused:
        features.completed(Context(place="home"), "u")
    assert refused.value.field == "context.place"


@pytest.fixture(params=[3, 4])
def ask(request: pytest.FixtureRequest, address: str) -> Iterator[Callable[..., list[tuple[float, ...]]]]:
    """Ask the version without features, and that with them."""
    with Client(address, model="tiny", timeout=30.0) as client:
        yield lambda **more: client.rank(history=[["i3"], []], candidates=[["i5"], ["i6"]], version=request.param, **more)


def test_a_client_asks_versions_with_and_without_features_alike(ask: Callable[..., list[tuple[float, ...]]]) -> None:
    plain = ask()
    assert ask(time=[-1, -1], context=[{}, {}]) == plain
    known = ask(time=[NOW, NOW], context=[{"device": "tv"}, {}])
    assert ask() == plain
    assert ask(time=[NOW, NOW], context=[{"device": "tv"}, {}]) == known


def test_the_server_names_a_feature_of_the_wrong_kind(address: str) -> None:
    wrong = r"the feature basket must be a number, got\] .*many"
    with Client(address, model="tiny", timeout=30.0) as client, pytest.raises(RequestFailed, match=wrong):
        client.rank(history=[[]], candidates=[["i5"]], context=[{"basket": "many"}], version=4)


def test_without_features_the_signatures_are_those_of_before(base: Path) -> None:
    assert signatures(context=False) == SIGNATURES
    old, new = (read_manifest(base / number).signatures for number in ("3", "4"))
    assert difference(old) == ""
    assert not takes_context(old)
    assert takes_context(new)
    assert new["recommend"].inputs.keys() - old["recommend"].inputs.keys() == {"time", "context_name", "context_value"}
    assert new["similar"] == old["similar"]


def test_a_checkpoint_keeps_the_features_and_refuses_others(base: Path, made: Recommender) -> None:
    found, _ = checkpoint.load(base / "4" / CHECKPOINT, made.config)
    assert found.requests.knots == made.requests.knots
    assert found.model.context is not None
    assert_allclose(found.model.context.table.numpy(), made.model.context.table.numpy())
    other = made.config.model_copy(update={"features": FeaturesConfig()})
    with pytest.raises(ModelError, match=r"features.time = \[\], the checkpoint has \['hour', 'weekday'\]"):
        checkpoint.load(base / "4" / CHECKPOINT, other)
    moved = made.config.model_copy(update={"features": DECLARED.model_copy(update={"users": Path("elsewhere.csv")})})
    checkpoint.load(base / "4" / CHECKPOINT, moved)

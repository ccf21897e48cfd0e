"""A client of now and a version that was exported before signatures had all their inputs."""
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.model_server.tiny import Tiny, save_tiny, taking
from tfrec.client.client import Client
from tfrec.client.contract import CONTEXT, OPTIONAL, SIGNATURES, Signature, TensorKinds, TensorSpec, difference
from tfrec.client.request_errors import InputNotServed, LabelNotServed, RequestFailed
from tfrec.client.slate_options import (
    LEAST,
    MOST,
    NO_HEAD,
    bound_inputs,
    head_inputs,
    nothing_asked,
    reranking_inputs,
    unspecified,
)
from tfrec.client.version_inputs import VersionInputs
from tfrec.errors import UsageError
from tfrec.model_server.embedded import EmbeddedServer
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import free_port

BEFORE: TensorKinds = {name: kind for name, kind in SIGNATURES["recommend"][0].items() if name not in OPTIONAL}


class Older(Tiny):
    """As it was exported before there were bounds, diversity and caps."""

    recommend = taking(BEFORE)(Tiny.recommend.python_function)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("older")
    model = Older(10.0)
    tf.saved_model.save(model, str(root / "tiny" / "1"), signatures={"recommend": model.recommend, "similar": model.similar})
    save_tiny(root / "tiny" / "2", base=20.0, has_requests=False)
    config = root / "models.config"
    config.write_text(f"""model_config_list {{ config {{ name: "tiny" base_path: "{root}/tiny" model_platform: "tensorflow"
        model_version_policy {{ all {{}} }}
        version_labels {{ key: "new" value: 2 }} version_labels {{ key: "old" value: 1 }} }} }}""")
    options = ServeOptions(port=free_port(), rest_api_port=free_port(), model_config_file=str(config), host="127.0.0.1",
                           allow_version_labels_for_unavailable_models=True)
    running = EmbeddedServer(options, stopping=threading.Event())
    running.start()
    yield f"127.0.0.1:{options.port}"
    running.stop()


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address, model="tiny", timeout=5.0) as client:
        yield client


def test_an_older_version_answers_what_it_can(client: Client) -> None:
    for _ in range(2):  # the second time it is known what the version lacks
        assert [answer.version for answer in client.recommend(history=[["a"], []], k=[1, 2], label="old")] == [1, 1]
        assert client.recommend(history=[["a"]], k=1, version=1)[0].items == ("b",)
        assert client.recommend(history=[[]], k=1, label="new", diversity=0.5, bounds=[{"price": (None, 1.0)}])[0].version == 2
        assert client.similar(["a"], k=1, label="old")[0].items == ("b",)


@pytest.mark.parametrize("asked", [
    {"diversity": 0.1}, {"caps": [{}, {"brand:": 2}]}, {"bounds": [{}, {"price": (1.0, None)}]}, {"caps": [{"": 1}, {}]},
])
def test_what_it_cannot_do_is_refused_by_name(client: Client, asked: dict[str, Any]) -> None:
    for _ in range(2):
        with pytest.raises(InputNotServed, match=r"before it had .*(diversity|caps|bound_columns).*Export the model again"):
            client.recommend(history=[["a"], []], label="old", **asked)
        assert len(client.recommend(history=[["a"], []], label="old")) == 2


def test_other_mistakes_are_not_taken_for_age(client: Client) -> None:
    with pytest.raises(LabelNotServed):
        client.recommend(history=[[]], label="nobody")
    wrong = {"history": np.zeros([1, 1], np.float32)} | nothing_asked(1)
    for label in ("old", "new", ""):
        with pytest.raises(RequestFailed) as caught:
            client.predict("recommend", wrong, label=label)
        assert type(caught.value) is RequestFailed


def test_the_next_version_may_have_more_inputs_or_fewer() -> None:
    error, versions = RequestFailed("no", code="INVALID_ARGUMENT"), VersionInputs()
    inputs = {"k": np.ones(1), "history": np.zeros([1, 0], object)} | nothing_asked(1)
    asked = (None, "", "recommend")
    assert versions.fitted(asked, inputs).keys() == inputs.keys()
    fewer = versions.refused(asked, inputs, inputs, ["k", "history"], error)
    assert fewer.keys() == versions.fitted(asked, inputs).keys() == {"k", "history"}
    assert versions.refused(asked, fewer, inputs, inputs.keys(), error).keys() == inputs.keys()
    assert versions.fitted(asked, inputs).keys() == inputs.keys()
    with pytest.raises(RequestFailed, match="^no$"):
        versions.refused(asked, inputs, inputs, inputs.keys(), error)
    with_context = versions.refused(asked, inputs, inputs, inputs.keys() | CONTEXT.keys(), error)
    assert with_context.keys() == inputs.keys() | CONTEXT.keys()
    older = versions.refused(asked, with_context, with_context, ["k", "history"], error)
    assert older.keys() == {"k", "history"}  # a context is read where it can be, and dropped elsewhere


def test_a_version_is_held_to_its_signatures_apart_from_what_is_optional() -> None:
    def signatures(leave_out: frozenset[str]) -> dict[str, Signature]:
        def specs(kinds: TensorKinds) -> dict[str, TensorSpec]:
            return {name: TensorSpec(dtype=kind.dtype, shape=(None,) * kind.rank) for name, kind in kinds.items()
                    if name not in leave_out}
        return {name: Signature(inputs=specs(inputs), outputs=specs(outputs)) for name, (inputs, outputs) in SIGNATURES.items()}

    assert difference(signatures(frozenset())) == difference(signatures(OPTIONAL)) == ""
    assert "recommend: expected the inputs" in difference(signatures(frozenset({"exclude"})))
    assert "expected the outputs" in difference(signatures(frozenset({"scores"})))
    found = signatures(frozenset())
    found["similar"].inputs["diversity"] = TensorSpec(dtype="float32", shape=(None,))
    assert "similar: expected the inputs" in difference(found)


def test_what_asks_for_nothing() -> None:
    nothing = nothing_asked(3)
    assert all(unspecified(name, array) for name, array in nothing.items())
    assert nothing.keys() == OPTIONAL
    some = bound_inputs([{"price": (None, 5.0), "year": (1990, None)}, {}], 2) | reranking_inputs([0.0, 0.5], [{}, {"": 2}], 2)
    some |= head_inputs([None, {"buy": -1.5, "view": 2}], 2)
    asked = {"bound_columns", "diversity", "caps", "head_names"}
    assert {name for name, array in some.items() if not unspecified(name, array)} == asked
    assert some["head_names"].tolist() == [[b"", b"", b""], [b"", b"buy", b"view"]]
    assert some["head_weights"].tolist() == [[0, 0, 0], [0, -1.5, 2]]
    assert head_inputs([{}], 1)["head_names"].tolist() == [[b"", NO_HEAD.encode()]]  # no head: the first stage
    assert some["bound_min"].tolist() == [[0.0, LEAST, 1990.0], [0.0, 0.0, 0.0]]
    assert some["bound_max"].tolist() == [[0.0, 5.0, MOST], [0.0, 0.0, 0.0]]
    assert (some["caps"].tolist(), some["cap_prefixes"].tolist()) == ([[0, 0], [0, 2]], [[b"", b""], [b"", b""]])
    assert (some["bound_min"].dtype, some["caps"].dtype, some["diversity"].dtype) == (np.float64, np.int32, np.float32)


@pytest.mark.parametrize(("asked", "why"), [
    ({"bounds": [{"price": (5.0, 1.0)}]}, r"bounds: .*got \(5.0, 1.0\) of 'price'"),
    ({"bounds": [{"price": (float("nan"), None)}]}, "bounds: expected"),
    ({"bounds": [{"": (1.0, None)}]}, "bounds: expected .* of a named column"),
    ({"bounds": [{}, {}]}, r"recommend: .*got 1 and .*'bound_columns': 2"),
    ({"diversity": 1.5}, "diversity: expected numbers from 0 to 1, got 1.5"),
    ({"diversity": float("nan")}, "diversity: expected"),
    ({"diversity": [0.1, 0.2]}, r"recommend: .*'diversity': 2"),
    ({"head_weights": [{"buy": float("inf")}]}, "head_weights: expected a finite number for each head, got inf for 'buy'"),
    ({"head_weights": [None, {}]}, r"recommend: .*got 1 and .*'head_names': 2"),
    ({"caps": [{"brand:": 0}]}, r"caps: expected 1 or more items .* got 0 for 'brand:'.*deny_tags"),
])
def test_wrong_wishes_are_refused_before_they_are_sent(client: Client, asked: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        client.recommend(history=[[]], **asked)


@pytest.mark.parametrize("asked", [{"diversity": 0.1}, {"caps": [{"brand:": 2}]}])
def test_what_is_drawn_is_not_reranked(client: Client, asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"explore: expected no diversity and no caps"):
        client.explore(history=[[]], seed=[1], **asked)
    with pytest.raises(UsageError, match=r"thompson: expected no diversity and no caps"):
        client.thompson(history=[[]], seed=[1], **asked)

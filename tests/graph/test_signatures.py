"""What an export's signatures promise together: stock operators, rows that do not depend on their batch, answers that agree."""
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text
from numpy.testing import assert_allclose, assert_array_equal
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf import saved_model_pb2

from tests.graph.tiny_recommender import GONE, N_ITEMS, by_item, only, request
from tfrec.client.client import Client
from tfrec.client.inputs import NO_SCORE, recommend_inputs
from tfrec.client.slate_options import bound_inputs, reranking_inputs
from tfrec.client.tensors import text_array
from tfrec.errors import UsageError
from tfrec.model_server.batching import pad_to_same_shape
from tfrec.model_server.embedded import EmbeddedServer
from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import free_port
from tfrec.model_server.rest.outputs import write_outputs
from tfrec.model_server.saved_model import SavedModel
from tfrec.models.popularity_prior import Override
from tfrec.release.manifest import read_manifest

INF = float("inf")
ROWS = 12


def foreign_operators(graph: GraphDef) -> set[str]:
    """Operators of neither of the two sources that the stock server is linked with: TensorFlow itself and TensorFlow Text."""
    libraries = Path(tensorflow_text.__file__).parent.rglob("*.so")
    of_text = {name for library in libraries for name in vars(tf.load_op_library(str(library)))}
    ops = {node.op for node in graph.node} | {node.op for f in graph.library.function for node in f.node_def}
    return {op for op in ops - of_text if not hasattr(tf.raw_ops, op)}


def exploring(rows: int, **more: Any) -> dict[str, np.ndarray]:
    """How `explore` draws: at temperature 1 with a uniform choice in every third place, unless `more` says otherwise."""
    policy = {"temperature": np.ones(rows), "epsilon": np.full(rows, 0.3), "seed": np.arange(rows)} | more
    return {name: np.asarray(value, np.int64 if name == "seed" else np.float32) for name, value in policy.items()}


def test_only_operators_that_the_stock_server_has(version: Path) -> None:
    file = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    assert foreign_operators(file.meta_graphs[0].graph_def) == set()


def test_an_operator_of_another_library_is_found_wherever_it_is() -> None:
    graph = GraphDef()
    for op in ("MatMul", "StatefulPartitionedCall", "FastBertNormalize", "Scann>ScannSearch"):
        graph.node.add(name=op.replace(">", "_"), op=op)
    inner = graph.library.function.add()
    inner.node_def.add(name="n", op="Addons>MyTopK")
    assert foreign_operators(graph) == {"Scann>ScannSearch", "Addons>MyTopK"}


def requests() -> dict[str, dict[str, np.ndarray]]:
    """For each signature a batch whose rows have nothing in common but their widths."""
    rng = np.random.default_rng(5)

    def items(width: int) -> np.ndarray:
        ids = np.array([f"i{n}" for n in range(N_ITEMS)] + [""] * 30, object)
        return text_array(rng.choice(ids, [ROWS, width]).tolist())

    tags = text_array(rng.choice(["", "", "even", "tens"], [2, ROWS, 1]).tolist())
    full = request(
        items(9).tolist(),
        history_action=text_array(rng.choice(["", "buy", "like"], [ROWS, 9]).tolist()),
        history_age_s=rng.integers(-1, 9999, [ROWS, 9]),
        query=rng.choice(["", "red tall", "the blue new"], ROWS).tolist(),
        k=rng.integers(0, 20, ROWS).astype(np.int32),
        exclude=items(3),
        allow_tags=tags[0],
        deny_tags=tags[1],
        prior_items=items(2),
        prior_log_p=rng.normal(-3, 2, [ROWS, 2]).astype(np.float32),
    )
    full |= bound_inputs([{}, {"year": (1960.0, None)}, {"year": (None, 1999.5), "colour": (None, None)}] * 4, ROWS)
    full |= reranking_inputs(rng.choice([0, 0, 0.2, 0.9], ROWS).tolist(), [{}, {}, {"": 2}, {"ev": 3, "tens": 1}] * 3, ROWS)
    policy = exploring(ROWS, temperature=rng.choice([0, 0.5, 2], ROWS), epsilon=rng.choice([0, 0.4, 1], ROWS),
                       seed=rng.integers(2**60, size=ROWS))
    behaviour = {name: full[name] for name in ("history", "history_action", "history_age_s", "query")}
    prior = {name: full[name] for name in ("prior_items", "prior_log_p")}
    return {
        "recommend": full,
        "explore": only("explore", full | policy),
        "thompson": only("thompson", full | {"alpha": rng.choice([0, 1, 9], ROWS).astype(np.float32), "seed": policy["seed"]}),
        "linucb": only("linucb", full | {"alpha": rng.choice([0, 1, 9], ROWS).astype(np.float32)}),
        "rank": only("rank", full | {"candidates": items(4)}),
        "explain": behaviour | prior | {"item": items(1)[:, 0]},
        "serving_default": {name: full[name] for name in ("history", "query", "k")},
        "similar": {"item": items(1)[:, 0], "k": full["k"]},
        "embed_query": {name: full[name] for name in ("history", "query")},
        "embed_item": {"text": full["query"]},
    }


@pytest.mark.parametrize("signature", requests())
def test_a_row_is_answered_in_a_batch_as_it_is_alone(served: SavedModel, signature: str) -> None:
    batch = requests()[signature]
    together = served.run(signature, batch)
    for row in range(ROWS):
        alone = served.run(signature, {name: value[row : row + 1] for name, value in batch.items()})
        assert alone.keys() == together.keys()
        for name, value in alone.items():
            if value.ndim == 3:  # of heads, which this version has none of
                assert value.shape[2] == 0
                continue
            if value.ndim == 1:  # a number for the row
                assert_allclose(together[name][row], value[0], rtol=1e-4)
                continue
            width = slice(value.shape[1])
            rest = together[name][row, value.shape[1] :]
            assert all(x in (b"", NO_SCORE, 0.0) for x in rest)
            if value.dtype == object:
                assert_array_equal(together[name][row, width], value[0])
            else:
                assert_allclose(together[name][row, width], value[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("signature", requests())
def test_every_number_of_an_answer_can_be_written_as_json(served: SavedModel, signature: str) -> None:
    """Padded rows, unknown items and empty answers included: a strict reader refuses -Infinity, and the whole answer with it."""
    batch = requests()[signature]
    if "k" in batch:
        batch["k"] = np.resize(np.array([0, 1, 2 * N_ITEMS], np.int32), ROWS)
    answer = served.run(signature, batch)
    for name, array in answer.items():
        assert array.dtype == object or np.isfinite(array).all(), name
    json.loads(write_outputs(answer, by_row=True), parse_constant=pytest.fail)


def test_what_a_batching_server_widens_is_answered_as_alone(served: SavedModel) -> None:
    """Widened by the rule of the real server: with the first value of each request."""
    long, short = recommend_inputs(
        history=[["i3", "i9", "i4"]], history_action=[["buy", "like", "buy"]], history_age_s=[[900, 60, 5]],
        exclude=[["i1", "i2"]], prior=[Override(["i7", "i8"], np.array([1.5, -9.0], np.float32))], k=[4],
    ), recommend_inputs(history=[["i3"]], allow_tags=[["even"]], k=[4])
    merged = {name: np.concatenate(pad_to_same_shape([long[name], short[name]])) for name in long}
    together = served.run("recommend", merged)
    for row, one in enumerate((long, short)):
        alone = served.run("recommend", dict(one))
        assert_array_equal(together["items"][row], alone["items"][0])
        assert_allclose(together["scores"][row], alone["scores"][0], rtol=1e-4)


def test_these_requests_are_of_every_signature(version: Path) -> None:
    signatures = read_manifest(version).signatures
    assert {name: set(inputs) for name, inputs in requests().items()} == {n: set(s.inputs) for n, s in signatures.items()}


def test_ranked_candidates_have_the_scores_of_recommend(served: SavedModel) -> None:
    asked = request([["i3", "i9"]], query=["red"], prior_items=[["i5"]], prior_log_p=np.array([[2.0]], np.float32))
    found = by_item(served.run("recommend", asked))
    candidates = text_array([["i5", "nobody", "i1", "", "i5", f"i{GONE}"]])
    scores = served.run("rank", only("rank", asked | {"candidates": candidates}))["scores"][0]
    assert_allclose(scores[[0, 2, 4]], [found["i5"], found["i1"], found["i5"]], rtol=1e-5)
    assert scores[[1, 3]].tolist() == [NO_SCORE, NO_SCORE]
    assert np.isfinite(scores[5])  # it cannot be had, but it was asked about


def test_without_chance_explore_is_recommend_and_sure_of_it(served: SavedModel) -> None:
    asked = request([["i3", "i9"], ["i4"]], exclude=[["i1"], [""]], k=np.array([60, 4], np.int32))
    plain = served.run("recommend", asked)
    answer = served.run("explore", only("explore", asked | exploring(2, temperature=[0, 0], epsilon=[0, 0])))
    assert_array_equal(answer["items"], plain["items"])
    assert_allclose(answer["scores"], plain["scores"], atol=1e-5)
    assert_allclose(answer["log_propensities"], np.where(plain["items"] == b"", NO_SCORE, 0.0))


def test_what_is_excluded_or_denied_is_never_drawn(served: SavedModel) -> None:
    asked = request([["i3"]] * 50, deny_tags=[["even"]] * 50, exclude=[["i1", "i3"]] * 50)
    answer = served.run("explore", only("explore", asked | exploring(50, epsilon=np.ones(50))))
    odd = {f"i{n}" for n in range(5, N_ITEMS, 2) if n != GONE}
    assert [set(by_item(answer, row)) for row in range(50)] == [odd] * 50
    assert len({tuple(row) for row in answer["items"].tolist()}) == 50


@pytest.fixture(scope="module")
def client(version: Path) -> Iterator[Client]:
    options = ServeOptions(port=free_port(), host="127.0.0.1", model_name="tfrec", model_base_path=str(version.parent),
                           enable_model_warmup=False)
    server = EmbeddedServer(options, stopping=threading.Event())
    server.start()
    with Client(f"127.0.0.1:{options.port}", model="tfrec", timeout=20.0) as client:
        yield client
    server.stop()


def test_the_client_recommends(client: Client, served: SavedModel) -> None:
    answer, empty = client.recommend(history=[["i3", "i9"], []], query=["red", ""], k=[4, 2], exclude=[["i1"], []])
    expected = by_item(served.run("recommend", request([["i3", "i9"]], query=["red"], exclude=[["i1"]])))
    assert list(answer.items) == list(expected)[:4]
    assert_allclose(answer.scores, list(expected.values())[:4], atol=1e-4)
    assert (len(empty.items), answer.version) == (2, 3)
    assert client.similar(["i4", "nobody"], k=3)[1].items == ()
    last = answer.items[-1]
    moved, still = Override([last, "nobody"], np.array([40.0, 50.0], np.float32)), Override([], np.zeros(0, np.float32))
    first, second = client.recommend(history=[["i3", "i9"]] * 2, k=1, prior=[moved, still])
    assert first.items == (last,)
    assert second.items != (last,)


def test_the_client_explores(client: Client, served: SavedModel) -> None:
    first, second = client.explore(history=[["i3", "i9"], []], seed=[8, 9], k=[3, 2], temperature=[1.0, 0.0], epsilon=0.3,
                                   exclude=[["i1"], []])
    asked = request([["i3", "i9"]], exclude=[["i1"]], k=np.array([3], np.int32)) | exploring(1, seed=[8])
    expected = served.run("explore", only("explore", asked))
    assert list(first.items) == [item.decode() for item in expected["items"][0]]
    assert_allclose(first.scores, expected["scores"][0], rtol=1e-5)
    assert_allclose(first.log_propensities, expected["log_propensities"][0], rtol=1e-5)
    assert (len(second.items), len(second.scores), len(second.log_propensities), second.version) == (2, 2, 2, 3)
    unlike = [client.explore(history=[["i3"]], seed=[seed])[0].items for seed in range(5)]
    assert len(set(unlike)) == 5


def test_the_client_asks_bandits(client: Client) -> None:
    plain = client.recommend(history=[["i3", "i9"], []], k=5)
    for answers in (client.thompson(history=[["i3", "i9"], []], seed=[1, 2], alpha=0.0, k=5),
                    client.linucb(history=[["i3", "i9"], []], alpha=[0.0, 0.0], k=5)):
        assert [answer.items for answer in answers] == [answer.items for answer in plain]
        assert_allclose([answer.scores for answer in answers], [answer.scores for answer in plain], rtol=1e-5)
    drawn = [client.thompson(history=[["i3"]], seed=[seed], alpha=30.0)[0] for seed in (1, 2, 3, 1)]
    assert len({answer.items for answer in drawn}) == 3
    assert drawn[0] == drawn[3]
    assert client.linucb(history=[["i3"]], alpha=3.0)[0].scores[0] > client.recommend(history=[["i3"]])[0].scores[0]
    for wrong in (-1.0, [float("nan")]):
        with pytest.raises(UsageError, match="alpha must be 0 or more"):
            client.linucb(history=[["i3"]], alpha=wrong)


def test_the_client_explains(client: Client) -> None:
    first, second = client.explain(history=[["i3", "i9"], []], query=["z", ""], item=["i5", "nobody"])
    assert (len(first.history), first.query[0][0], len(first.query), first.version) == (2, "z", 1, 3)
    assert first.score == pytest.approx(client.rank(history=[["i3", "i9"]], query=["z"], candidates=[["i5"]])[0][0], rel=1e-5)
    without = client.rank(history=[["i9"]], query=["z"], candidates=[["i5"]])[0][0]
    assert first.history[0] == pytest.approx(first.score - without, abs=1e-4)
    assert (second.score, second.popularity, second.history, second.query) == (-INF, 0.0, (), ())


def test_the_client_ranks(client: Client) -> None:
    moved, still = Override(["i9"], np.array([40.0], np.float32)), Override([], np.zeros(0, np.float32))
    first, second = client.rank(history=[["i3"], []], query=["red", ""], candidates=[["i9"], ["i2", "nobody", "i4"]],
                                prior=[moved, still])
    assert len(first) == 1
    assert first[0] > 20
    assert second[1] == -INF
    assert second[0] == pytest.approx(dict(zip(*_of(client.recommend(history=[[]], k=60)), strict=True))["i2"], rel=1e-5)


def _of(answers: list[Any]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    return answers[0].items, answers[0].scores


def test_the_client_embeds(client: Client, served: SavedModel) -> None:
    vectors = client.embed_query(history=[["i3", "i9"], ["i4"]], query=["", "red"])
    expected = served.run("embed_query", {"history": text_array([["i3", "i9"], ["i4", ""]]), "query": text_array(["", "red"])})
    assert_allclose(vectors, expected["vectors"], atol=1e-5)
    assert_allclose(client.embed_query(history=[["i3", "i9"]]), vectors[:1], atol=1e-5)
    texts = ["a red one", ""]
    assert_allclose(client.embed_item(texts), served.run("embed_item", {"text": text_array(texts)})["vectors"], atol=1e-5)

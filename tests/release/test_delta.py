"""A delta against the version it came from: what is shared, what is new, and that it answers what was foreseen.

A fresh server verifies one in tests/test_shop.py.
"""
import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.graph.tiny_recommender import N_ITEMS, by_item, exporting, request
from tfrec.client.contract import OPTIONAL
from tfrec.client.slate_options import Bounds, bound_inputs
from tfrec.client.warmup import Request, record_probes
from tfrec.config import Config
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.records import Outcome
from tfrec.errors import UsageError
from tfrec.gateway.live_popularity import LivePopularity
from tfrec.graph import index_choice
from tfrec.graph.signatures import Graph
from tfrec.model_server.saved_model import SavedModel
from tfrec.models.recommender import Recommender
from tfrec.models.text_encoder import load_encoder
from tfrec.release import delta, publish
from tfrec.release.delta import publish_delta
from tfrec.release.export import export
from tfrec.release.lineage import Lineage
from tfrec.release.manifest import CHECKPOINT, read_manifest
from tfrec.release.popularity_files import read_columns, read_hidden, read_prior
from tfrec.release.probes import probe_difference
from tfrec.release.publish import newest_dir
from tfrec.training import checkpoint

WINDOW = {"end": {"gateway": 9}}
WEIGHTS = "variables/variables.data-00001-of-00003"


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    class Believing(nullcontext):
        def __enter__(self) -> "Believing":
            return self

        def verify(self, export_dir: Path, *, parent: Path | None = None) -> int:
            return 0

    monkeypatch.setattr(delta, "Verifier", Believing)


@pytest.fixture(scope="module", params=["exact", "lists"])
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model: Recommender, version: Path,
           ) -> Iterator[Config]:
    """A run whose version 1 is published; tests add versions."""
    run = tmp_path_factory.mktemp("delta") / "run"
    config = model.config.model_copy(update={"run": run})
    with pytest.MonkeyPatch.context() as patched:
        if request.param == "lists":
            patched.setattr(index_choice, "INVERTED_FROM", 10)
            with exporting("recommend"):
                made = export(model, run / "export", created_at=5, lineage=Lineage(window=WINDOW, held_back=[["u1", "i2"]]))
        else:
            made = shutil.copytree(version, run / "export")
        assert read_manifest(made).index["kind"] == request.param
        patched.setattr("tfrec.release.publish.verify", lambda export, *, seconds, parent=None: 0)
        publish.publish(made, config.models_dir)
        patched.setattr(index_choice, "INVERTED_FROM", 0 if request.param == "exact" else 10**9)  # a delta keeps the kind
        yield config


@cache
def served(version: Path) -> SavedModel:
    return SavedModel(version)


def without_server(version: Path, query: str) -> list[str]:
    """What a gateway finds by the words of a query while no model server answers."""
    found = LivePopularity(lambda: version, limit=1).search(query, 100, 70, exclude=())
    assert found is not None
    return found.ids


def rows(path: Path, *items: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


@pytest.mark.usefixtures("unverified")
def test_items_come_and_go_without_an_export(tmp_path: Path, config: Config) -> None:
    old = newest_dir(config.models_dir)
    comes = {"id": "new", "text": "zebra jazz quiz", "tags": ["even"], "numeric.year": 2030, "numeric.price": 9.5}
    goes = {"id": "i4", "text": "the loud red 4", "tags": ["even"], "available": False}
    version = publish_delta(config, items=rows(tmp_path / "items.jsonl", comes, goes), now=50)
    new = config.models_dir / str(version)
    found = by_item(served(new).run("recommend", request([[]], query=["zebra jazz quiz"], k=np.array([70], np.int32))))
    assert "new" in found
    assert "i4" not in found
    assert len(found) == N_ITEMS - 1  # one more, and two that are not available
    assert "new" in by_item(served(new).run("recommend", request([["new"]], allow_tags=[["even"]])))
    assert "i4" in by_item(served(old).run("recommend", request([[]])))
    bounds: list[Bounds] = [{"year": (2009.0, None)}, {"price": (None, 9.5)}, {"price": (None, 9.49)}]  # a column that is new
    bounded = served(new).run("recommend", request([[]] * 3) | bound_inputs(bounds, 3))
    assert [by_item(bounded, row).keys() for row in range(3)] == [{"i59", "new"}, {"new"}, set()]
    assert (read_columns(old), read_columns(new)) == (("year",), ("price", "year"))
    for shared in ("saved_model.pb", WEIGHTS, "assets.extra/tf_serving_warmup_requests", "checkpoint/weights.index"):
        assert (old / shared).samefile(new / shared)
    assert (read_hidden(old), read_hidden(new)) == (["i7"], ["i4", "i7"])  # for the gateway, when no server answers
    by_words = {(at, query): without_server(at, query) for at in (old, new) for query in ("zebra jazz quiz", "the loud red 4")}
    assert by_words[new, "zebra jazz quiz"][0] == "new"
    assert by_words[old, "the loud red 4"][0] == "i4"
    assert "i4" not in by_words[new, "the loud red 4"]
    assert {*by_words[new, "the loud red 4"]} == found.keys()
    manifest, before = read_manifest(new), read_manifest(old)
    assert (manifest.version, manifest.parent, manifest.created_at, manifest.window) == (version, version - 1, 50, WINDOW)
    assert manifest.index["kind"] == before.index["kind"]
    assert manifest.catalogue_digest != before.catalogue_digest
    assert {probe.signature for probe in manifest.probes} == {"recommend"}
    assert len(manifest.probes) == 1 + sum(probe.signature == "recommend" for probe in before.probes)
    assert manifest.probes[-1].inputs["query"] == ["zebra jazz quiz"]
    assert [probe_difference(served(new).run, manifest, probe) for probe in manifest.probes] == [""] * len(manifest.probes)
    loaded, meta = checkpoint.load(new / CHECKPOINT, config)
    assert len(loaded.catalogue) == len(loaded.slot) == N_ITEMS + 1
    assert meta["held_back"] == [["u1", "i2"]]
    assert read_prior(new)[1][-1] == "new"


def test_a_delta_of_a_version_that_lacks_inputs_asks_it_as_before(version: Path, model: Recommender) -> None:
    asked = [Request("recommend", {name: value for name, value in request([["i3"]]).items() if name not in OPTIONAL})]
    graph = Graph(model, load_encoder(model.config.text))
    functions = {"recommend": delta.taking_older_requests("recommend", graph.recommend)}
    (probe,) = record_probes(functions, asked)
    assert probe.inputs.keys() == asked[0].inputs.keys()
    assert probe.outputs["items"][0] == list(by_item(served(version).run("recommend", request([["i3"]])))) + [""]


@pytest.mark.usefixtures("unverified")
def test_only_outcomes_since_the_version_move_its_popularity(config: Config) -> None:
    old = newest_dir(config.models_dir)
    prior, ids = read_prior(old)
    clock, before = prior.clock, prior.log_p()
    when = {"i5": clock, "i6": clock + 9_000, "nobody": clock + 1}  # counted already, of a clock that is fast, not an item
    events = [(item, time) for item, time in when.items() for _ in range(40)]
    outcomes = [Outcome(event_id=f"known{n}", user=f"u{n}", item="i1", action="hover", time=clock - 90_000) for n in range(120)]
    outcomes += [Outcome(event_id=str(n), user=f"u{n}", item=item, action="click", time=time)
                for n, (item, time) in enumerate(events)]
    # neither counts: what she took already, and what is worth nothing
    outcomes += [outcomes[120].model_copy(update={"event_id": "again", "time": clock + 5}),
                 outcomes[120].model_copy(update={"event_id": "seen", "action": "hover", "user": "v", "time": clock + 5})]
    happened = [(seq, outcome.model_dump_json()) for seq, outcome in enumerate(outcomes, 1)]
    FeedbackLog(config.log_dir).append("outcomes", happened, writer="w")
    new = config.models_dir / str(publish_delta(config, prior=True, now=clock + 10))
    assert (old / WEIGHTS).samefile(new / WEIGHTS)
    after = read_prior(new)[0]
    assert after.clock == clock + 10
    moved = (after.log_p() - before)[[5, 6]]
    assert moved[0] < 0 < 1 < moved[1]
    scores = [by_item(served(version).run("recommend", request([[]]))) for version in (old, new)]
    gain = [scores[1][item] - scores[0][item] for item in ("i5", "i6")]
    np.testing.assert_allclose(gain, 0.8 * moved, atol=1e-4)  # beta is 0.8


def test_a_version_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no version is published whose items could change"):
        publish_delta(Config(run=tmp_path), prior=True, now=1)

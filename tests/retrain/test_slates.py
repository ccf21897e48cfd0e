"""The retrain job on what was shown: it reads what was served, learns by an objective, teaches the bandits, and goes on."""
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.eagerly import eagerly
from tests.graph import tiny_recommender as tiny
from tests.logged_slates import LENGTHS, LIVE, NOW, REQUESTS, log, logged_run, reward_of, short_lists
from tfrec.client.tensors import text_array
from tfrec.config import Config, DataConfig, Objective, RankerConfig, RetrainConfig
from tfrec.data.examples.slates import matured_slates
from tfrec.data.feedback_log.log import FeedbackLog
from tfrec.data.labels.label_rule import LabelRule
from tfrec.data.records import Outcome
from tfrec.data.settled.examples import SettledExamples
from tfrec.data.settled.settle import settle
from tfrec.errors import ServingError
from tfrec.model_server.saved_model import SavedModel
from tfrec.models.prior_timeline import PriorTimeline
from tfrec.models.ranking.item_rates import ItemRates
from tfrec.models.recommender import Recommender
from tfrec.release.consistency import check_artefacts
from tfrec.release.lineage import slates_until
from tfrec.release.manifest import CHECKPOINT, read_manifest
from tfrec.retrain import PROMOTED, REJECTED, WAITING, retrain
from tfrec.training import checkpoint
from tfrec.training.slates.trainer import PolicyScorer
from tfrec.training.slates.window import window_arrays

DAY = 86_400
VERIFY = ("tfrec.retrain.session.Verifier", "tfrec.release.publish.verify")


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: str,
           shared: Path) -> Iterator[tuple[Config, Recommender]]:
    with short_lists():
        yield logged_run(tmp_path_factory.mktemp("slates") / "run", tiny_checkpoint, shared, unknown=lambda row: row % 7 == 3)


def test_training_reads_what_was_served(logged: tuple[Config, Recommender], tmp_path: Path) -> None:
    """The policy, computed from the log by the towers in training, is the one that the graph said when it drew."""
    config, made = logged
    settled, rule = SettledExamples(tmp_path / "examples"), LabelRule.of(config, made.catalogue)
    part = settle(FeedbackLog(config.log_dir), settled, rule, now=NOW, quarantine=None)
    slates, left_out = matured_slates(settled, upto=part.number, items=rule.catalogue_ids, after=0,
                                      until=NOW - rule.attribution_seconds, most=10**6)
    assert (len(slates), left_out) == (REQUESTS, {})
    inter = tiny.interactions(made.catalogue)
    timeline = PriorTimeline.of(inter.slice(0, len(inter) // 2), weights=made.prior.weights)
    arrays, log_p = window_arrays(made, slates, timeline, now=NOW)
    assert len(arrays) == REQUESTS
    found = PolicyScorer(made, log_p)(arrays)
    assert sorted(set(arrays.shown.sum(1))) == list(LENGTHS)
    assert found.candidates.shortlist.shape[1] < len(made.catalogue)
    assert (arrays.live_item.lengths == len(LIVE)).sum() == REQUESTS // 5
    known = arrays.shown & arrays.drawn[:, None]
    assert known.any(1).sum() == sum(row % 7 != 3 for row in range(REQUESTS))
    assert_allclose(found.log_pi[known], arrays.log_propensity[known], atol=5e-3)
    assert_allclose(arrays.reward[arrays.shown], [reward_of(f"i{item}") for item in arrays.item[arrays.shown]])


def test_it_learns_teaches_and_goes_on(logged: tuple[Config, Recommender], tmp_path: Path) -> None:
    objective: dict[Objective, float] = {"softmax": 1.0, "reinforce": 0.5}
    config = copied(logged[0], tmp_path).model_copy(update={"retrain": RetrainConfig(
        objective=objective, epochs=1, gate_margin=1.0, forget_margin=1.0, value_margin=10.0, pair_margin=1.0,
        learning_rate=2e-4)})
    with mock.patch(VERIFY[0]), mock.patch(VERIFY[1]), tiny.exporting("recommend"), eagerly():
        result = retrain(config, now=NOW)
        assert result.outcome == PROMOTED, result.reason
        assert result.figures["value"]["slates"] > 50
        assert result.figures["value"]["gain"] is not None, result.figures["value"]
        assert result.figures["pairs"]["slates"] > 50
        version = config.models_dir / "2"
        # two thirds of the requests have no tags; the newest part of them judged
        assert NOW - 500_000 < slates_until(version) < NOW - 500_000 + 60 * REQUESTS
        taught, _ = checkpoint.load(version / CHECKPOINT, config)
        assert np.abs(taught.head.mean.numpy() - 1).max() > 0.01
        # what judged is news to the next run, and what was learnt is not
        again = retrain(config, now=NOW + 1)
        assert (again.outcome, again.events) == (PROMOTED, result.events - result.learnt)
        assert slates_until(config.models_dir / "3") > slates_until(version)


def test_the_second_stage_learns_each_slate_once_and_is_published(logged: tuple[Config, Recommender], tmp_path: Path) -> None:
    """The version that is live has none: heads that are declared later begin to learn with the next run."""
    heads = RankerConfig(heads={"click": 1.0, "dismiss": -1.0}, min_slates=50, epochs=8, learning_rate=0.01)
    config = copied(logged[0], tmp_path).model_copy(update={"ranker": heads, "retrain": RetrainConfig(
        objective="pointwise", epochs=1, gate_margin=1.0, forget_margin=1.0, value_margin=10.0, pair_margin=1.0)})
    with mock.patch(VERIFY[0]), mock.patch(VERIFY[1]), tiny.exporting("recommend", "rank"), eagerly():
        result = retrain(config, now=NOW)
        assert result.outcome == PROMOTED, result.reason
        version = config.models_dir / "2"
        taught, _ = checkpoint.load(version / CHECKPOINT, config)
        assert taught.ranker is not None
        first = taught.rates.slates
        assert float(taught.ranker.learnt) == first > 50
        assert result.figures["pairs"]["challenger"] > result.figures["pairs"]["champion"]
        with mock.patch("tfrec.release.consistency.difference", return_value=""):  # two signatures are enough here
            check_artefacts(version, read_manifest(version), sample=8)
            rates, others = version / CHECKPOINT / "rates.npz", ItemRates(len(taught.catalogue), taught.rates.actions)
            kept = rates.read_bytes()
            others.save(rates)
            with pytest.raises(ServingError, match=r"the graph's rates of 'i\d+' are not the checkpoint's"):
                check_artefacts(version, read_manifest(version), sample=8)
            rates.write_bytes(kept)
        again = retrain(config, now=NOW + 1)  # learns what judged
        assert again.outcome == PROMOTED, again.reason
        after, _ = checkpoint.load(config.models_dir / "3" / CHECKPOINT, config)
    assert first < after.rates.slates < REQUESTS
    candidates = text_array([["i6", "i9", "i5", "i12", "i26"]])  # liked, liked, dismissed, liked, dismissed
    found = SavedModel(version).run("rank", tiny.only("rank", tiny.request([["i3"]], candidates=candidates)))
    click, dismiss = found["head_scores"][0].T
    assert min(click[[0, 1, 3]]) > 0.5 > max(click[[2, 4]])
    assert max(dismiss[[0, 1, 3]]) < 0.5 < min(dismiss[[2, 4]])


def test_without_a_matured_slate_it_waits_and_says_so(logged: tuple[Config, Recommender], tmp_path: Path) -> None:
    config = copied(logged[0], tmp_path, with_log=False).model_copy(update={"retrain": RetrainConfig(objective="reinforce")})
    log(config, "outcomes", [Outcome(event_id=f"e{n}", user=f"u{n % 7}", item=f"i{n}", action="view", time=2_000_000 + 60 * n)
                             for n in range(40)])
    result = retrain(config, now=NOW)
    assert result.outcome == WAITING
    assert result.reason == "no slate has matured since the last run, and reinforce learns from slates"


def test_without_a_slate_a_mixture_learns_behaviour_alone(logged: tuple[Config, Recommender], tmp_path: Path) -> None:
    objective: dict[Objective, float] = {"softmax": 1.0, "pointwise": 1.0}
    settings = RetrainConfig(objective=objective, epochs=1)
    config = copied(logged[0], tmp_path, with_log=False).model_copy(update={"retrain": settings})
    log(config, "outcomes", [Outcome(event_id=f"e{n}", user=f"u{n % 7}", item=f"i{n}", action="view", time=2_000_000 + 60 * n)
                             for n in range(40)])
    with mock.patch(VERIFY[0]), mock.patch(VERIFY[1]), tiny.exporting("recommend"), eagerly():
        result = retrain(config, now=NOW)
    assert result.outcome != WAITING, result.reason
    assert result.learnt > 20


def copied(config: Config, run: Path, *, with_log: bool = True) -> Config:
    """The run with the same versions, the behaviour that they knew and, by default, the same log."""
    shutil.copytree(config.run, run / "run", ignore=None if with_log else shutil.ignore_patterns("log"))
    known = tiny.interactions(tiny.catalogue()).slice(0, 150)  # whose popularity the version was made with
    rows = zip(known.user.tolist(), known.item.tolist(), known.time.tolist(), strict=True)
    (run / "base.csv").write_text("user,item,time\n" + "".join(f"{known.users[u]},{known.items[i]},{t}\n" for u, i, t in rows))
    return config.model_copy(update={"run": run / "run", "data": DataConfig(interactions=run / "base.csv", attribution_hours=1)})


def test_a_challenger_that_learnt_nonsense_is_held_by_the_slates(logged: tuple[Config, Recommender], tmp_path: Path) -> None:
    """All other margins are open. It is not told by HR@10, as all that people did was in slates."""
    config = copied(logged[0], tmp_path).model_copy(update={"retrain": RetrainConfig(
        gate_floor=0.0, search_margin=1.0, forget_margin=1.0, value_margin=100.0)})

    def nonsense(config: Config, challenger: Recommender, *_: object, **__: object) -> None:
        challenger.model.beta.assign(-5.0)  # what nobody likes comes first

    with (mock.patch(VERIFY[0]), mock.patch(VERIFY[1]), mock.patch("tfrec.retrain.job.learn", nonsense), eagerly()):
        result = retrain(config, now=NOW)
    assert result.outcome == REJECTED, result.figures
    assert result.reason.startswith(("it is less often right about what people chose", "it moves too far at once")), result.reason

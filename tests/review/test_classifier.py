"""The classifier of a review: from which decisions on it flags, by what, and that no chance is in it."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tfrec.config import Config
from tfrec.data.records import Item
from tfrec.review.classifier import logistic
from tfrec.review.decide import decide
from tfrec.review.scan import scan
from tfrec.review.standing import ReviewState

BAD, FINE, OTHER = "a casino at night", "a night at the opera", "a garden"
WORDS = ("casino", "opera", "garden", "night", "poker", "lamp", "free")


class Encoder:
    """In place of the text encoder: a number for each word, and a count of the texts that were read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, config: Config, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.read += texts
        rows = np.array([[word in text.split() for word in WORDS] for text in texts], np.float32).reshape(len(texts), len(WORDS))
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    encoder = Encoder()
    monkeypatch.setattr("tfrec.models.recommender.encode_catalogue", encoder)
    monkeypatch.setattr("tfrec.models.text_encoder.identity", lambda _: "by words")
    return encoder


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "terms.toml").write_text('spam = ["free"]\n')
    return Config.model_validate({"run": tmp_path / "run", "review": {
        "terms": tmp_path / "terms.toml", "least": 4, "threshold": 0.5}})


def catalogue(n: int = 6) -> list[Item]:
    """Half of what the list flags is bad; two that it does not flag are, and others are not."""
    return [*(Item(id=f"bad{k}", text=f"free {BAD} {k}") for k in range(n)),
            *(Item(id=f"fine{k}", text=f"free {FINE} {k}") for k in range(n)),
            Item(id="hidden", text="casino poker night"), Item(id="opera", text=FINE), Item(id="empty", text=""),
            *(Item(id=f"other{k}", text=f"{OTHER} lamp {k}") for k in range(20))]


def teach(config: Config, n: int, *, label: str = "") -> None:
    state = ReviewState(config.run)
    for k in range(n):
        for item, verdict in ((f"bad{k}", "reject"), (f"fine{k}", "approve")):
            said: dict[str, Any] = {"label": label} if verdict == "reject" else {}
            decide(state, item, verdict, now=20, labels=config.review.labels, who="a", **said)  # type: ignore[arg-type]


def test_it_begins_with_enough_decisions_of_both_kinds(config: Config, encoder: Encoder) -> None:
    assert scan(config, catalogue(), now=10).classifier == []
    teach(config, 3)
    assert scan(config, catalogue(), now=30).classifier == []
    assert encoder.read == []  # nothing is encoded before
    state = ReviewState(config.run)
    decide(state, "bad3", "reject", now=40, labels=config.review.labels, who="a")
    assert scan(config, catalogue(), now=50).classifier == []  # four rejected, and three approved
    decide(state, "fine3", "approve", now=60, labels=config.review.labels, who="a")
    done = scan(config, catalogue(), now=70)
    assert (done.classifier, done.flagged) == (["spam"], 1)
    (one,) = [one.flag for one in ReviewState.of(config.run).waiting() if one.flag.item == "hidden"]
    assert (one.reasons[0].label, one.reasons[0].by, one.reasons[0].term) == ("spam", "classifier", "")
    assert 0.5 <= (one.reasons[0].score or 0) < 1


def test_a_label_has_its_own_decisions(config: Config, encoder: Encoder) -> None:
    scan(config, catalogue(), now=10)
    teach(config, 4, label="harmful")
    assert scan(config, catalogue(), now=30).classifier == ["harmful"]


def test_what_was_scored_is_not_scored_again_until_something_is_decided(config: Config, encoder: Encoder) -> None:
    scan(config, catalogue(), now=10)
    teach(config, 4)
    scan(config, catalogue(), now=30)
    encoder.read.clear()
    assert scan(config, catalogue(), now=40).judged == 5  # those that wait
    assert set(encoder.read) == {item.text for item in catalogue() if item.id in ("bad4", "bad5", "hidden")}
    new = Item(id="new", text="casino night 99")
    encoder.read.clear()
    assert scan(config, [*catalogue(), new], now=50).flagged == 1
    assert len(encoder.read) == 4
    decide(ReviewState(config.run), "hidden", "approve", now=60, labels=config.review.labels, who="a")
    encoder.read.clear()
    scan(config, catalogue(), now=70)
    assert FINE in encoder.read  # another classifier


def test_it_can_be_switched_off(config: Config, encoder: Encoder) -> None:
    scan(config, catalogue(), now=10)
    teach(config, 4)
    off = config.model_copy(update={"review": config.review.model_copy(update={"classifier": False})})
    assert scan(off, catalogue(), now=30).classifier == []
    assert encoder.read == []


def test_the_same_decisions_give_the_same_classifier(config: Config, encoder: Encoder, tmp_path: Path) -> None:
    weights = []
    for name, items in (("one", catalogue()), ("other", catalogue()[::-1])):
        run = config.model_copy(update={"run": tmp_path / name})
        scan(run, items, now=10)
        teach(run, 4)
        scan(run, items, now=30)
        with np.load(run.run / "review" / "classifier.npz") as file:
            weights.append(file["weights"])
    assert np.array_equal(*weights)


def test_a_damaged_classifier_is_taught_anew(config: Config, encoder: Encoder) -> None:
    scan(config, catalogue(), now=10)
    teach(config, 4)
    for damage in (b"", b"no npz", None):
        scan(config, catalogue(), now=30)
        path = config.run / "review" / "classifier.npz"
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
        assert scan(config, catalogue(), now=40).classifier == ["spam"]
        assert path.read_bytes() == whole


@pytest.mark.parametrize(("n", "width"), [(4, 3), (50, 3), (20, 64)])
def test_the_weights_are_where_the_loss_is_least(n: int, width: int) -> None:
    random = np.random.default_rng(n)
    vectors = random.normal(size=(n, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    wanted, counts = (np.arange(n) % 3 == 0).astype(float), random.uniform(0.1, 1, n)
    found = logistic(vectors, wanted, counts)
    scaled = counts * counts.sum() / (2 * np.where(wanted == 1, counts[wanted == 1].sum(), counts[wanted == 0].sum()))

    def loss(weights: npt.NDArray[np.float64]) -> float:
        z = vectors @ weights[:-1] + weights[-1]
        return float(scaled @ (np.logaddexp(0, z) - wanted * z) + 0.15 * weights[:-1] @ weights[:-1])

    for _ in range(50):
        assert loss(found) <= loss(found + 1e-2 * random.normal(size=width + 1)) + 1e-9


@pytest.mark.parametrize("apart", [True, False])
def test_texts_that_are_alike_or_far_apart_give_finite_weights(apart: bool) -> None:
    vectors = np.zeros((40, 5), np.float32)
    vectors[:20, 0] = 1
    vectors[20:, 1 if apart else 0] = 1
    found = logistic(vectors, np.repeat([1.0, 0.0], 20), np.ones(40))
    assert np.isfinite(found).all()
    assert (found[0] > found[1]) == apart

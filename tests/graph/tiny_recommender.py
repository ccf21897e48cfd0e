"""A recommender of 60 items and random weights, with the text tower of the tiny checkpoint: everything moves an answer."""
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tfrec.client.contract import SIGNATURES
from tfrec.client.slate_options import nothing_asked
from tfrec.client.tensors import text_array
from tfrec.config import Config, FeaturesConfig, ModelConfig, RankerConfig, ServingConfig, TextConfig
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.records import Item
from tfrec.graph.signatures import Graph
from tfrec.models.prior_timeline import PriorTimeline
from tfrec.models.recommender import Recommender
from tfrec.models.text_encoder import TextEncoder
from tfrec.release.recorded_requests import recorded_requests

N_ITEMS = 60
LENGTH = 6  # events of a history that the model reads
ACTIONS = ("view", "buy", "like")
WORDS = ("red", "blue", "tall", "slow", "loud", "round", "new")
GONE = 7  # the item that is not available


def catalogue() -> Catalogue:
    items = [
        Item(
            id=f"i{n}",
            text=f"the {WORDS[n % 7]} {WORDS[n // 7 % 7]} {n}",
            tags=(("even",) if n % 2 == 0 else ()) + (("tens",) if n % 10 == 0 else ()),
            numeric={"year": float(1950 + n)},
            available=n != GONE,
        )
        for n in range(N_ITEMS)
    ]
    return Catalogue(items)


def interactions(items: Catalogue, *, events: int = 300, users: int = 15, seed: int = 1) -> Interactions:
    rng = np.random.default_rng(seed)
    return Interactions.from_columns(
        [f"u{u}" for u in rng.integers(users, size=events)],
        [f"i{i}" for i in rng.integers(N_ITEMS, size=events)],
        np.sort(rng.integers(1_000_000, 2_000_000, size=events)),
        items=items.ids.tolist(),
        action=[ACTIONS[a] for a in rng.integers(len(ACTIONS), size=events)],
    )


def recommender(run: Path, checkpoint: str, *, items: Catalogue | None = None,
                features: FeaturesConfig | None = None, ranker: RankerConfig | None = None) -> Recommender:
    """Untrained, but with weights that are all different from zero, and popularity from the first half of `interactions`.

    A second stage has learnt enough to rank, and knows rates.
    """
    config = Config(
        run=run,
        text=TextConfig(encoder=checkpoint, max_tokens=12),
        model=ModelConfig(dim=8, layers=1, heads=2, history=LENGTH, id_slots=32),
        serving=ServingConfig(max_k=70),
        features=features or FeaturesConfig(),
        ranker=ranker or RankerConfig(),
    )
    items = items or catalogue()
    text = TextEncoder(checkpoint, max_tokens=config.text.max_tokens).encode(items.texts, batch_size=16)
    inter = interactions(items)
    made = Recommender.build(config, items, text, actions=inter.actions)
    rng = np.random.default_rng(2)
    for weight in (*made.model.items.trainable_weights, *made.model.queries.trainable_weights, made.model.mean_query):
        weight.assign_add(rng.normal(0, 0.2, weight.shape).astype(np.float32))
    if made.model.context is not None:
        made.model.context.table.assign(rng.normal(0, 5.0, made.model.context.table.shape))
        made.model.context.mean.assign(rng.normal(0, 0.1, made.model.context.mean.shape))
    if made.ranker is not None:
        for weight in made.ranker.trainable_weights:
            weight.assign_add(rng.normal(0, 0.3, weight.shape).astype(np.float32))
        made.ranker.learnt.assign(config.ranker.min_slates)
        shown = rng.integers(N_ITEMS, size=900)
        made.rates.update(shown, np.arange(900) * 600, rng.random((900, len(config.ranker.names))) < 0.1 + shown[:, None] / 200,
                          looked_at=np.ones(900), slates=config.ranker.min_slates)
    made.model.beta.assign(0.8)
    half = len(inter) // 2
    made.prior.update(inter.item[:half], inter.time[:half])
    made.timeline = PriorTimeline.of(inter.slice(0, half), weights=made.prior.weights)
    made.give_slots(inter.item[:half], np.arange(len(items)))
    return made


@contextmanager
def exporting(*signatures: str) -> Iterator[None]:
    """Exports have these signatures alone: to trace all ten is most of their time, and tests/release/test_export.py holds all."""
    class Few(Graph):
        def __init__(self, *words: Any, **named: Any) -> None:
            super().__init__(*words, **named)
            self.functions = {name: self.functions[name] for name in signatures}

    def requests(made: Recommender) -> list[Any]:
        return [one for one in recorded_requests(made) if one.signature in signatures]

    with mock.patch("tfrec.release.export.Graph", Few), mock.patch("tfrec.release.export.recorded_requests", requests):
        yield


def request(history: list[list[str]], **more: Any) -> dict[str, np.ndarray]:
    """Inputs of `recommend`: no action, no age, no query, no wishes, all items, unless `more` says otherwise."""
    rows, width = len(history), max(map(len, history))
    none = np.zeros([rows, 0], object)
    given: dict[str, Any] = {
        "history": text_array([["", *row] if len(row) < width else row for row in history]) if width else none,
        "history_action": np.full([rows, width], b"", object),
        "history_age_s": np.full([rows, width], -1, np.int64),
        "query": text_array([""] * rows),
        "k": np.full(rows, N_ITEMS, np.int32),
        **dict.fromkeys(("exclude", "allow_tags", "deny_tags", "prior_items"), none),
        "prior_log_p": np.zeros([rows, 0], np.float32),
        **nothing_asked(rows),
    }
    return given | {name: value if isinstance(value, np.ndarray) else text_array(value) for name, value in more.items()}


def only(signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of the inputs that a signature takes."""
    return {name: inputs[name] for name in SIGNATURES[signature][0]}


def by_item(answer: dict[str, np.ndarray], row: int = 0) -> dict[str, float]:
    return {item.decode(): float(score) for item, score in zip(answer["items"][row], answer["scores"][row], strict=True) if item}

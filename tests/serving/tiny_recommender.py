"""A recommender of 60 items and random weights, with the text tower of the tiny checkpoint: everything moves an answer."""
from pathlib import Path

import numpy as np

from tfrec.config import Config, ModelConfig, ServingConfig, TextConfig
from tfrec.data.catalogue import Catalogue
from tfrec.data.interactions import Interactions
from tfrec.data.records import Item
from tfrec.models.recommender import Recommender
from tfrec.models.text_encoder import TextEncoder

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


def recommender(run: Path, checkpoint: str, *, items: Catalogue | None = None) -> Recommender:
    """Untrained, but with weights that are all different from zero, and popularity from the first half of `interactions`."""
    config = Config(
        run=run,
        text=TextConfig(encoder=checkpoint, max_tokens=12),
        model=ModelConfig(dim=8, layers=1, heads=2, history=LENGTH, id_slots=32),
        serving=ServingConfig(max_k=70),
    )
    items = items or catalogue()
    text = TextEncoder(checkpoint, max_tokens=config.text.max_tokens).encode(items.texts, batch_size=16)
    inter = interactions(items)
    made = Recommender.build(config, items, text, actions=inter.actions)
    rng = np.random.default_rng(2)
    for weight in (*made.model.items.trainable_weights, *made.model.queries.trainable_weights, made.model.mean_query):
        weight.assign_add(rng.normal(0, 0.2, weight.shape).astype(np.float32))
    made.model.beta.assign(0.8)
    half = len(inter) // 2
    made.prior.update(inter.item[:half], inter.time[:half])
    made.give_slots(inter.item[:half], np.arange(len(items)))
    return made

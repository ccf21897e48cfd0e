"""A small world for tests of what learns: items with text vectors made by hand, users who stay within a cluster; no BERT."""
from pathlib import Path
from typing import Any

import numpy as np

from tfrec.config import Config, ModelConfig, TrainingConfig
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.ragged import Ragged
from tfrec.data.examples.sequences import PAD, windows
from tfrec.data.examples.slate_arrays import SlateArrays
from tfrec.data.items.boosted_items import BoostedItems
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.items.numeric_columns import BoundFilters
from tfrec.data.items.tag_filters import TagFilters, positions_by_tag
from tfrec.data.records import Item
from tfrec.models.prior_snapshots import snapshots
from tfrec.models.recommender import Recommender, text_cache

CLUSTERS = 4
WIDTH = 12  # of text vectors


def config(run: Path, *, training: dict[str, Any] | None = None, **model: Any) -> Config:
    small = {"dim": 8, "layers": 1, "heads": 2, "history": 6, "id_slots": 64}
    steps = {"batch_size": 8, "epochs": 4, "jit_compile": False}
    return Config(run=run, model=ModelConfig(**(small | model)), training=TrainingConfig(**(steps | (training or {}))))


def catalogue(n: int = 40) -> Catalogue:
    return Catalogue([Item(id=f"i{k}", text=f"text {k}", tags=(f"t{k % 3}",), numeric={"year": float(k)}) for k in range(n)])


def text_vectors(n: int = 40, *, seed: int = 0) -> np.ndarray:
    """Unit vectors `[n, WIDTH]` near the axis of their cluster, k % CLUSTERS."""
    found = np.random.default_rng(seed).normal(0, 0.15, (n, WIDTH))
    found[np.arange(n), np.arange(n) % CLUSTERS] += 1
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def interactions(items: Catalogue, *, users: int = 12, each: int = 9, seed: int = 0) -> Interactions:
    """Each user takes items of one cluster, some of them in one second."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        own = np.arange(user % CLUSTERS, len(items), CLUSTERS)
        rows += [(f"u{user}", f"i{i}", int(t)) for i, t in
                 zip(rng.permutation(own)[:each], rng.integers(0, 200, each) * 3600, strict=False)]
    user_ids, item_ids, times = zip(*rows, strict=True)
    actions = [("view", "buy")[n % 2] for n in range(len(rows))]
    return Interactions.from_columns(user_ids, item_ids, times, items=items.ids.tolist(), action=actions)


def recommender(settings: Config, *, n: int = 40, stir: bool = True) -> Recommender:
    """Untrained; with `stir`, all weights differ from where they start."""
    made = Recommender.build(settings, catalogue(n), text_vectors(n), actions=("view", "buy"))
    if stir:
        rng = np.random.default_rng(5)
        for weight in (*made.model.trainable_variables, made.model.mean_query):
            weight.assign_add(rng.normal(0, 0.1, weight.shape).astype(np.float32))
    return made


def keep_vectors(settings: Config, items: Catalogue, vectors: np.ndarray) -> None:
    """Put text vectors into the run's cache, so that no encoder is loaded."""
    text_cache(settings).rows(items.texts, lambda _: vectors)


def batch(made: Recommender, inter: Interactions, *, learn: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """All windows of `inter` as one batch, with eight snapshots of the prior, which the model is given."""
    found = windows(inter, length=made.config.model.history, learn=learn)
    edges = np.linspace(0, len(inter), 8, endpoint=False).astype(np.int64)
    log_p, first_touch = snapshots(inter, weights=made.prior.weights, edges=edges)
    made.model.store.set_prior(log_p, first_touch)
    snapshot = (np.searchsorted(edges, np.arange(len(inter)), side="right") - 1).astype(np.int32)
    codes = made.action_codes(inter.actions)
    return {
        "item": found.item, "action": codes[found.action], "gap": found.gap, "target": found.target, "read_at": found.read_at,
        "weight": found.weight, "snapshot": snapshot[found.event], "log_p": log_p[snapshot, inter.item][found.event],
    }


SLATES, POSITIONS, LIKED = 120, 12, 10  # positions at most; items 0 to 9 are liked by all, 12 others never
ITEMS = 40
LOG_P = np.full((1, ITEMS), np.log(1 / ITEMS), np.float32)


def slates(n: int = SLATES, *, seed: int = 0, longest: int = POSITIONS, **changed: Any) -> SlateArrays:
    """Slates of 1 to 12 of 22 items, of every kind that a gateway logs; what is liked is clicked, and bought each second time.

    In turn: drawn uniformly, drawn with live popularity beside it, answered greedily (certain), by an unknown policy; some with
    a tag denied. Each 7th has a hole where an item left the catalogue, each 11th brought nothing, each 13th a dismissal. What
    stands in positions that are not there is garbage: a loss that reads it is wrong.
    """
    rng = np.random.default_rng(seed)
    row = np.arange(n)
    length = rng.integers(1, longest + 1, n)
    item = np.array([rng.permutation(22)[:longest] for _ in range(n)], np.int32).reshape(n, longest)
    hole = ((row % 7 == 3) & (length > 1))[:, None] & (np.arange(longest) == 0)
    shown = (np.arange(longest) < length[:, None]) & ~hole
    item = np.where(shown, item, PAD)
    reward = np.where(item < LIKED, 1.0, 0.0) * (row % 11 != 5)[:, None]
    reward = np.where((row % 13 == 4)[:, None] & (item >= LIKED), -1.0, reward)
    history = np.where(np.arange(6) < rng.integers(0, 7, n)[:, None], rng.integers(22, ITEMS, (n, 6)), PAD).astype(np.int32)
    log_pi = np.where(row[:, None] % 4 < 2, np.log(1 / (22 - np.arange(longest))), np.where(row[:, None] % 4 == 2, 0, np.nan))
    tags = positions_by_tag([one.tags for one in catalogue(ITEMS).items])
    live = [np.arange(22)[: 3 * (k % 4 == 1)] for k in row]
    made = {
        "user": row.astype(np.int32) % 20, "time": row * 60, "history": history,
        "action": np.zeros((n, 6), np.int32), "gap": np.where(history >= 0, 60, -1),
        "query": np.zeros((n, WIDTH), np.float32), "context": np.zeros((n, 0), np.float32),
        "excluded": Ragged.of([np.arange(22, ITEMS)] * n),
        "tags": TagFilters.of([((), ()) if k % 5 else ((), ("nowhere",)) for k in row], tags),
        "bounds": BoundFilters.of([()] * len(row), {}), "boosts": BoostedItems.of([()] * len(row), (), {}, {}),
        "searched": np.full(len(row), "", object),
        "live_item": Ragged.of(live), "live_log_p": Ragged.of([-3.0 - 0.1 * one for one in live], np.float32),
        "item": item, "log_propensity": np.where(shown, log_pi, np.inf).astype(np.float32),
        "reward": np.where(shown, reward, np.nan).astype(np.float32),
        "converted": np.where(shown, (reward > 0) & (row % 2 == 0)[:, None], True),
        "acted": np.zeros((n, longest, 0), bool), "head_weights": np.zeros((n, 0), np.float32),
        "delay": np.where(shown, 60 * np.maximum(reward, 0), np.inf).astype(np.float32),
        "elapsed": np.full(n, 3600, np.float32), "snapshot": np.zeros(n, np.int32),
    }
    return SlateArrays(**made | changed)

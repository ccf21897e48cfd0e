"""The recommender: everything that is learnt, in one object.

Training makes it from a configuration and a catalogue, checkpoints write and read it, evaluation scores with it, and an export
turns it into a graph. Its catalogue may grow, since an item's row needs only its text and features.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.config import Config, FeaturesConfig
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.behaviour.user_table import UserTable
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.items.item_features import ItemFeatures
from tfrec.models.bayesian_head import BayesianHead
from tfrec.models.context.context_tower import ContextTower
from tfrec.models.context.request_features import RequestFeatures
from tfrec.models.item_tower import ItemTower
from tfrec.models.popularity_prior import PopularityPrior
from tfrec.models.prior_timeline import PriorTimeline
from tfrec.models.query_tower import QueryTower
from tfrec.models.ranking.item_rates import ItemRates
from tfrec.models.ranking.ranker import Ranker
from tfrec.models.residual_slots import assign_slots
from tfrec.models.text_cache import VectorCache
from tfrec.models.text_encoder import identity, load_encoder
from tfrec.models.two_tower import TwoTower

TEXT_VECTORS = "text_vectors.npz"  # in a run directory
_MOMENT = 900  # seconds; offsets of time zones are multiples of it, so hour and weekday change with one
MAX_ACTIONS = 16  # codes that the query tower tells apart; shapes must not depend on how many a log has had so far


@dataclass
class Recommender:
    """A model and what it needs to be used.

    Attributes:
        config: The configuration that it was trained with.
        catalogue: The items that it knows.
        text: `[n_items, text_width]`, their text vectors.
        features: How tags and numbers become features.
        slot: `[n_items]`, residual slots; 0 for an item without feedback.
        actions: The names of the action codes.
        prior: How popular the items are.
        timeline: How popular they were, for the next retrain to go on from.
        model: The towers.
        head: What the bandits know.
        requests: How person and moment become features.
        users: What is known about users, by the names that the behaviour has for them.
        ranker: The second stage; None without heads.
        rates: How often each item was acted on.
    """

    config: Config
    catalogue: Catalogue
    text: npt.NDArray[np.float32]
    features: ItemFeatures
    slot: npt.NDArray[np.int32]
    actions: tuple[str, ...]
    prior: PopularityPrior
    timeline: PriorTimeline
    model: TwoTower
    head: BayesianHead
    requests: RequestFeatures = field(default_factory=lambda: RequestFeatures(FeaturesConfig()))
    users: UserTable = field(default_factory=dict)
    ranker: Ranker | None = None
    rates: ItemRates = field(default_factory=lambda: ItemRates(0, ()))

    @classmethod
    def build(cls, config: Config, catalogue: Catalogue, text: npt.NDArray[np.float32], *,
              actions: Sequence[str], users: UserTable | None = None) -> "Recommender":
        """A model before any training: near texts are near, popularity is uniform, no item has a residual."""
        features, users = ItemFeatures.fit(catalogue.items), users or {}
        model = towers(config, text_width=text.shape[1], feature_width=features.width)
        model.items.start_from(text)
        made = cls(config, catalogue, text, features, np.zeros(len(catalogue), np.int32), tuple(actions),
                   PopularityPrior(len(catalogue)), PriorTimeline.empty(len(catalogue)), model, BayesianHead(config.model.dim),
                   RequestFeatures(config.features).met(users.values()), users, new_ranker(config, features.width),
                   ItemRates(len(catalogue), config.ranker.names))
        made.refresh()
        return made

    def refresh(self) -> None:
        """Give the item arrays to the model, after the catalogue, the texts or the slots have changed."""
        self.model.store.set_catalogue(self.text, self.features.matrix(self.catalogue.items), self.slot)

    def extend(self, catalogue: Catalogue, text: npt.NDArray[np.float32]) -> None:
        """Take a catalogue whose first items are those known so far, with its text vectors `[n_items, text_width]`."""
        grown = len(catalogue) - len(self.catalogue)
        self.catalogue, self.text = catalogue, text
        self.slot = np.concatenate([self.slot, np.zeros(grown, np.int32)])
        self.prior.grow(len(catalogue))
        self.timeline.grow(len(catalogue))
        self.rates.grow(len(catalogue))
        self.refresh()

    def give_slots(self, items: npt.NDArray[np.integer], last_seen: npt.NDArray[np.integer]) -> None:
        """Give residual slots to items with feedback; a slot that changes hands starts at zero, its average too.

        Args:
            items: Positions of the items.
            last_seen: `[n_items]`, time of each item's newest feedback.
        """
        self.slot, cleared = assign_slots(self.slot, items, last_seen, slots=self.config.model.id_slots)
        if len(cleared):
            self.model.clear_residuals(cleared)
        self.refresh()

    def action_codes(self, actions: Sequence[str]) -> npt.NDArray[np.int32]:
        """This model's code of each action name, `[len(actions)]`; a name that it has not met is read as the last code."""
        codes = {name: code for code, name in enumerate(self.actions[: MAX_ACTIONS - 1])}
        return np.array([codes.get(name, MAX_ACTIONS - 1) for name in actions], np.int32)

    def event_context(self, inter: Interactions) -> npt.NDArray[np.float32]:
        """What was known of person and moment at each event, `[len(inter), features]`: the time, and the columns of the user."""
        if not self.requests.width:
            return np.zeros((len(inter), 0), np.float32)
        of_users = self.requests.of([self.users.get(user, {}) for user in inter.users])
        moments, moment = np.unique(inter.time // _MOMENT, return_inverse=True)
        of_moments = self.requests.of([{}] * len(moments), moments * _MOMENT)
        is_moment = np.arange(self.requests.width) < len(self.requests.config.time)
        return np.where(is_moment, of_moments[moment], of_users[inter.user])

    def explored_mass(self) -> npt.NDArray[np.float32]:
        """The mass of each item in the part of exploration that is left to chance, `[n_items]`.

        It is 1 for an item with feedback and 0 for one that is not available. The available items without feedback have
        `serving.newcomer_share` of it together, however many they are; when that is 0, each has a mass of 1.
        """
        available = self.catalogue.available
        mass, share = available.astype(np.float32), self.config.serving.newcomer_share
        new = available & self.prior.untouched
        if share and 0 < new.sum() < available.sum():
            mass[new] = share / (1 - share) * (available.sum() - new.sum()) / new.sum()
        return mass

    def ranker_columns(self) -> npt.NDArray[np.float32]:
        """What the second stage reads of each item of the catalogue, `[n_items, columns]`; no columns without one."""
        if self.ranker is None:
            return np.zeros((len(self.catalogue), 0), np.float32)
        known = self.features.matrix(self.catalogue.items), self.rates.columns()
        found: npt.NDArray[np.float32] = self.ranker.item_columns(*map(tf.constant, known)).numpy()
        return found

    def item_vectors(self) -> npt.NDArray[np.float32]:
        """The vectors of the catalogue, `[n_items, dim]`."""
        vectors: npt.NDArray[np.float32] = self.model.item_vectors().numpy()[: len(self.catalogue)]
        return vectors


def towers(config: Config, *, text_width: int, feature_width: int) -> TwoTower:
    """The untrained towers that `config` describes; initial weights depend on the seed alone.

    Call it inside the scope of the distribution strategy.
    """
    tf.keras.utils.set_random_seed(config.training.seed)
    m = config.model
    items = ItemTower(dim=m.dim, text_width=text_width, feature_width=feature_width, slots=m.id_slots, id_dropout=m.id_dropout,
                      name="items")
    queries = QueryTower(dim=m.dim, layers=m.layers, heads=m.heads, length=m.history, actions=MAX_ACTIONS, rate=m.dropout,
                         name="queries")
    context, rows = None, RequestFeatures(config.features).rows
    if rows:
        context = ContextTower(dim=m.dim, rows=rows, rate=config.features.dropout, name="context")
    return TwoTower(items, queries, temperature=m.temperature, negatives=config.training.negatives, seed=config.training.seed,
                    context=context)


def new_ranker(config: Config, feature_width: int) -> Ranker | None:
    """The untrained second stage that `config` describes; None without heads. Call it inside the scope of the strategy."""
    names = config.ranker.names
    if not names:
        return None
    tf.keras.utils.set_random_seed(config.training.seed)
    chains = [[names.index(one) for one in config.ranker.chain(name)] for name in names]
    made = Ranker(dim=config.model.dim, feature_width=feature_width, context_rows=RequestFeatures(config.features).rows,
                  chains=chains, name="ranker")
    made.configure(config.ranker.min_slates, [config.ranker.heads[name] for name in names])
    return made


def encode_catalogue(
    config: Config, texts: Sequence[str], *, advance: Callable[[int], None] | None = None
) -> npt.NDArray[np.float32]:
    """Text vectors `[len(texts), width]`, from the run's cache where it has them; the encoder is loaded only for new texts.

    Args:
        config: Names the encoder and the run directory that holds the cache.
        texts: Texts of items.
        advance: Told how many texts have been encoded since the last call.
    """
    def encode(missing: Sequence[str]) -> npt.NDArray[np.float32]:
        encoder = load_encoder(config.text)
        return encoder.encode(missing, role="item", batch_size=config.text.batch_size, advance=advance)

    return text_cache(config).rows(texts, encode)


def with_encoder(config: Config, encoder: str) -> Config:
    """`config` with another text encoder."""
    return config.model_copy(update={"text": config.text.model_copy(update={"encoder": encoder})})


def text_cache(config: Config) -> VectorCache:
    """The run's cache of text vectors, for the files of the encoder as they are now."""
    return VectorCache(config.run / TEXT_VECTORS, identity=identity(config.text))

"""Training of the second stage: what was shown, what each item was known for until then, and which actions came of it.

The towers stand still: the second stage reads the vectors that the first one has by now. Each slate is learnt once. Of an item it
reads the rates that were counted before the slate, as serving did. A position that was seldom looked at says little where nothing
came of it (`pointwise.py`), so what is predicted is the chance of an action at the first position.
"""
import logging

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tfrec.data.examples.slate_arrays import SlateArrays
from tfrec.models.dropout import Noise
from tfrec.models.ranking.item_rates import ItemRates
from tfrec.models.ranking.ranker import Ranker, RankerInputs
from tfrec.models.recommender import Recommender
from tfrec.models.two_tower import Batch, TwoTower, sum_over_replicas
from tfrec.training.dataset_from_function import dataset_from_function
from tfrec.training.loop import fit, optimiser
from tfrec.training.progress import bar
from tfrec.training.slates.batches import STATE
from tfrec.training.slates.pointwise import likelihood_loss
from tfrec.training.slates.policy_scorer import PolicyScorer
from tfrec.training.slates.position_bias import fit_position_bias
from tfrec.training.slates.slate_scores import ranker_inputs, shown_mask

log = logging.getLogger(__name__)

keras = tf.keras
Floats = npt.NDArray[np.float32]

_FEWEST, _SHARE = 64, 8  # slates whose rates are read at once: at least so many, at most an eighth of those counted before


def teach_ranker(recommender: Recommender, slates: SlateArrays, scorer: PolicyScorer, *, seed: int) -> int:
    """Teach the second stage the slates that it has not counted yet, and count them; returns how many these were.

    Args:
        recommender: has a second stage, which is changed, and its rates with it.
        slates: in the order of time, with the actions of its heads.
        scorer: of such slates.
        seed: of the order of batches.
    """
    ranker, rates, settings = recommender.ranker, recommender.rates, recommender.config.ranker
    assert ranker is not None
    slates = slates.take(slates.time > rates.clock)
    if not slates.shown.any():
        return 0
    parts, is_first = [found[:3] for _, found in scorer.shown(slates)], rates.slates == 0  # without the features
    scores, popularity, words = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    looked_at = fit_position_bias(scores, slates.reward, slates.shown).position_weights
    before = rates_before(rates, slates, looked_at)
    if is_first:
        ranker.start_from(_first_rates(slates, looked_at, ranker))
    learner = RankerLearner(recommender.model, ranker)
    learner = recommender.model.traced.keep("ranker", learner).begun_as(learner, recommender)
    arrays = {name: getattr(slates, name) for name in (*STATE, "item")} | {
        "log_p": popularity, "words": words, "rates": before, "acted": slates.acted.astype(np.float32),
        "chance": np.broadcast_to(looked_at, slates.shown.shape)}
    rows = min(recommender.config.retrain.slate_batch, 1 << (len(slates) - 1).bit_length())
    steps = -(-len(slates) // rows)
    with bar("training the second stage", total=steps * settings.epochs) as advance:
        fit(learner, learner.own_optimizer, lambda seed, epoch: _batches(arrays, rows, seed, epoch), recommender.config.training,
            epochs=range(seed, seed + settings.epochs), advance=advance)
    ranker.learnt.assign(rates.slates)
    log.info("the second stage has learnt %d slates, %d in all", len(slates), rates.slates)
    _warn_of_unlogged(settings.names, slates)
    return len(slates)


def rates_before(rates: ItemRates, slates: SlateArrays, looked_at: Floats) -> Floats:
    """What was known of each shown item before its slate `[n, K, columns]`; `rates` has counted all slates afterwards.

    Slates are counted some at a time, a small share of all, in the order of time.
    """
    found, start = np.zeros((*slates.shown.shape, rates.width), np.float32), 0
    while start < len(slates):
        part = slice(start, start + max(_FEWEST, rates.slates // _SHARE))
        row, position = np.nonzero(slates.shown[part])
        item = slates.item[part][row, position]
        found[row + start, position] = rates.columns(item)
        rates.update(item, slates.time[part][row], slates.acted[part][row, position], looked_at=looked_at[position],
                     slates=len(slates.item[part]))
        start = part.stop
    return found


class RankerLearner(keras.Model):
    """One training step of the second stage.

    Args:
        towers: Stand still.
        ranker: Is changed.
    """

    def __init__(self, towers: TwoTower, ranker: Ranker) -> None:
        super().__init__()
        self.towers, self.ranker = towers, ranker
        dim = towers.items.sizes["dim"]
        self.table = tf.Variable(tf.zeros([0, dim]), shape=[None, dim], trainable=False)
        self.seed = tf.Variable(0, trainable=False, dtype=tf.int64)
        self.own_optimizer: keras.optimizers.Optimizer

    def begun_as(self, new: "RankerLearner", recommender: Recommender) -> "RankerLearner":
        """Itself, with a new optimiser's state: a step that was traced for `new`'s predecessor goes on with it."""
        config = recommender.config
        optimizer = optimiser(config, learning_rate=config.ranker.learning_rate)
        optimizer.build(self.ranker.trainable_variables)
        if self is new:
            self.own_optimizer = optimizer
        for mine, theirs in zip(self.own_optimizer.variables, optimizer.variables, strict=True):
            mine.assign(theirs)
        self.table.assign(self.towers.item_vectors())
        self.seed.assign(config.training.seed)
        return self

    @property
    def constants(self) -> str:
        """What a traced step has as constants: where it differs, a step must be traced anew."""
        return self.towers.constants

    @tf.autograph.experimental.do_not_convert
    def train_step(self, inputs: Batch) -> dict[str, tf.Tensor]:
        """One step of the optimiser."""
        variables = self.ranker.trainable_variables
        step = tf.cast(tf.stack([self.seed, self.optimizer.iterations]), tf.int32)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        replica = tf.distribute.get_replica_context()
        noise = Noise(tf.random.experimental.stateless_fold_in(step, replica.replica_id_in_sync_group if replica else 0))
        with tf.GradientTape() as tape:
            loss = self._loss(inputs, noise)
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss * replicas}

    def _loss(self, inputs: Batch, noise: Noise) -> tf.Tensor:
        """Mean cross entropy of each shown item, summed over heads."""
        mask = shown_mask(inputs)
        logits = self.ranker(self._pairs(inputs), noise)
        log_p = self.ranker.log_probabilities(logits)
        log_not_p = tf.math.log(-tf.math.expm1(tf.minimum(log_p, -1e-6)))
        loss = tf.add_n([likelihood_loss(log_p[..., head], log_not_p[..., head], inputs["acted"][..., head], inputs["chance"],
                                         tf.ones_like(inputs["chance"]), mask) for head in range(logits.shape[-1])])
        return loss / tf.maximum(sum_over_replicas(tf.reduce_sum(tf.cast(mask, tf.float32))), 1.0)

    def _pairs(self, inputs: Batch) -> RankerInputs:
        item, table = inputs["item"], self.table.value()
        u, _ = self.towers.request_vectors(inputs, lambda rows: tf.gather(table, rows))
        at = tf.maximum(item, 0)
        columns = self.ranker.item_columns(tf.gather(self.towers.store.features, at), inputs["rates"])
        return ranker_inputs(self.towers, inputs, u, item, tf.gather(table, at), log_p=inputs["log_p"], words=inputs["words"],
                             columns=columns)


def _batches(arrays: dict[str, npt.NDArray[np.generic]], rows: int, seed: int, epoch: int) -> tf.data.Dataset:
    """Batches of `rows` slates in an order that is a function of seed and epoch; what fills up the last has weight 0."""
    n = len(arrays["item"])
    order = np.random.default_rng([seed, epoch]).permutation(n)

    def batch(step: int) -> dict[str, np.ndarray]:
        own = order[step * rows : (step + 1) * rows]
        chosen = np.resize(own, rows)
        return {name: array[chosen] for name, array in arrays.items()} | {
            "weight": (np.arange(rows) < len(own)).astype(np.float32)}

    signature = {name: tf.TensorSpec(array.shape, array.dtype) for name, array in batch(0).items()}
    return dataset_from_function(batch, signature, steps=-(-n // rows))


def _first_rates(slates: SlateArrays, looked_at: Floats, ranker: Ranker) -> Floats:
    """How often each action came of what was looked at, `[heads]`; of a head that follows another one, of what that came of."""
    row, position = np.nonzero(slates.shown)
    acted = slates.acted[row, position].sum(0).astype(np.float64)
    shows = float(looked_at[position].sum())
    before = np.array([acted[chain[1]] if len(chain) > 1 else shows for chain in ranker.chains])
    return ((acted + 0.5) / (before + 1.0)).astype(np.float32)


def _warn_of_unlogged(names: tuple[str, ...], slates: SlateArrays) -> None:
    happened = slates.acted[slates.shown].sum(0)
    for name, count in zip(names, happened.tolist(), strict=True):
        if not count:
            log.warning("ranker.heads: no %r came of %d slates, so nothing is learnt of it. Is an action of that name logged?",
                        name, len(slates))

"""The model of the simulation: towers that score, learn from behaviour, and go back to weights that were kept."""
import numpy as np
import tensorflow as tf

from tfrec.config import Config
from tfrec.data.behaviour.interactions import Interactions
from tfrec.data.examples.sequences import PAD
from tfrec.data.items.catalogue import Catalogue
from tfrec.models.recommender import Recommender
from tfrec.training.loop import Trainer, optimiser


class Model:
    """Towers that act and learn; the functions of TensorFlow are traced once a seed."""

    def __init__(self, config: Config, catalogue: Catalogue, text: np.ndarray) -> None:
        self.recommender = Recommender.build(config, catalogue, text, actions=("click",))
        self.model = self.recommender.model
        self.prior_weights = self.recommender.prior.weights
        self.beta = 1.0  # as the towers are trained with
        self.optimizer = optimiser(config, learning_rate=config.training.learning_rate)
        self.optimizer.build(self.model.trainable_variables)
        self.model.optimizer = self.optimizer
        self.model.compile(optimizer=self.optimizer)
        self._train = tf.function(self.model.train_step, reduce_retracing=True)
        self._scores = tf.function(self._all_scores, reduce_retracing=True, autograph=False)

    def _all_scores(self, batch: dict[str, tf.Tensor], log_p: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        table = self.model.item_vectors()[: self.model.store.n_items]
        u, beta = self.model.request_vectors(batch, lambda rows: tf.gather(table, rows))
        return tf.matmul(u, table, transpose_b=True) + beta * log_p, u, table

    def scores(self, state: dict[str, np.ndarray], log_p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores `[n, items]`, -inf for what a person has had; query and item vectors."""
        found = self._scores({name: tf.constant(array) for name, array in state.items()}, tf.constant(log_p, tf.float32))
        scores, u, v = (array.numpy() for array in found)
        scores = scores.astype(np.float64)
        row, at = np.nonzero(state["history"] != PAD)
        scores[row, state["history"][row, at]] = -np.inf
        return scores, u, v

    def weights(self) -> list[np.ndarray]:
        m = self.model
        return [v.numpy() for v in [*m.average.weights, m.beta, m.steps]] + [v.numpy() for v in self.optimizer.variables]

    def restore(self, weights: list[np.ndarray], slot: np.ndarray) -> None:
        m = self.model
        for v, array in zip([*m.average.weights, m.beta, m.steps, *self.optimizer.variables], weights, strict=True):
            v.assign(array)
        self.recommender.slot = slot.copy()
        self.recommender.refresh()

    def learn_behaviour(self, inter: Interactions, targets: np.ndarray, epochs: range, rate: float) -> None:
        self.optimizer.learning_rate = rate
        self.model.average.restart()
        course = Trainer(self.recommender, inter, targets, prior_weights=self.prior_weights, snapshots_at_most=64, one_shape=True)
        for epoch in epochs:
            for batch in course.batches.epoch(0, epoch):
                self._train(batch)
        self.model.average.swap()

"""One step of learning from slates: a batch of requests with what was shown and what came of it in, moved towers out.

The objectives are the pure functions of `policy_gradient`, `q_learning` and `pointwise`; here scores become what each of them
takes. What translates a score for an objective (its gain as a logit, a model of who logged, a conversion's own part) is learnt
beside the towers with a rate of its own, and dropped afterwards: it describes the window, and the served graph stays as it is.
"""
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from tfrec.config import Objective
from tfrec.models.two_tower import SlateScores, TwoTower
from tfrec.training.pointwise import delay_chance, entire_space, observed_cross_entropy
from tfrec.training.policy_gradient import clipped_surrogate, policy, reinforce
from tfrec.training.q_learning import bootstrapped, double_q_value, squared_error
from tfrec.training.slate_reading import SlateReading

keras = tf.keras
Batch = dict[str, tf.Tensor]

_FINITE = -1e4  # a score of a place that is not there, where its square is taken
TRANSLATION_RATE = 0.01  # of Adam: a handful of numbers that must be right within a window


class SlateLearner(keras.Model):
    """Learns by a weighted sum of objectives; `softmax` is the towers' own loss on behaviour.

    A batch is `{"slates": ..., "behaviour": ...}`, the second only with `softmax`.

    Args:
        model: the towers, which are changed.
        objectives: weight of each, by its name.
        reading: of the same slates by the scores before learning.
        temperature, epsilon: of the exploring policy that is improved.
        discount: of the next request's value.
        clip: of PPO.
        cap: of importance weights.
        top_k: whether REINFORCE corrects for slates.
        unknown: whether some slates have no propensities, so that who logged is learnt.
        mean_delay: seconds until a conversion comes in, on average; 0: at once.
        target: other towers that say what the next request is worth; for Q-learning.
    """

    def __init__(
        self, model: TwoTower, objectives: Mapping[Objective, float], reading: SlateReading, *, temperature: float,
        epsilon: float, discount: float, clip: float, cap: float, top_k: bool = True, unknown: bool = False,
        mean_delay: float = 0.0, target: TwoTower | None = None,
    ) -> None:
        super().__init__()
        self.towers, self.target = model, target
        self.objectives = dict(objectives)
        self.places, self.mean_reward = (tf.Variable(a, trainable=False) for a in (reading.places, reading.mean_reward))
        self.mean_score, self.noise = (
            tf.Variable(a, trainable=False, dtype=tf.float32) for a in (reading.mean_score, reading.noise))
        self.temperature, self.epsilon, self.discount = temperature, epsilon, discount
        self.clip, self.cap, self.top_k, self.unknown, self.mean_delay = clip, cap, top_k, unknown, mean_delay
        self.losses_by_name: dict[str, Callable[[Batch, SlateScores], tf.Tensor]] = {
            "pointwise": self._pointwise, "entire_space": self._entire_space, "reinforce": self._reinforce, "ppo": self._ppo,
            "q_learning": self._q_learning, "sarsa": self._sarsa,
        }
        dim = model.items.sizes["dim"]
        constant = keras.initializers.Constant
        one = {"shape": [], "trainable": True}
        self.log_gain = self.add_weight(name="log_gain", initializer=constant(np.log(reading.gain)), **one)  # of a value
        self.intercept = self.add_weight(name="intercept", initializer=constant(reading.intercept), **one)
        chance = float(np.clip(reading.mean_reward[0], 0.01, 0.99))
        self.slope = self.add_weight(name="slope", initializer=constant(1.0), **one)  # of a click's logit
        self.level = self.add_weight(name="level", initializer=constant(np.log(chance / (1 - chance))), **one)
        self.conversion = self.add_weight(name="conversion", shape=[dim, dim], initializer="zeros")
        self.conversion_level = self.add_weight(name="conversion_level", initializer=constant(-2.0), **one)
        self.behaviour = self.add_weight(name="behaviour", shape=[dim, dim], initializer="zeros")
        self.behaviour_heat = self.add_weight(name="behaviour_heat", initializer=constant(1 / max(temperature, 0.05)), **one)
        self._translations = [self.log_gain, self.intercept, self.slope, self.level, self.conversion, self.conversion_level,
                              self.behaviour, self.behaviour_heat]
        self._translation_optimizer = keras.optimizers.Adam(TRANSLATION_RATE)

    def read(self, reading: SlateReading) -> None:
        """Go over to another window's reading; a step that was traced goes on."""
        self.places.assign(reading.places)
        self.mean_reward.assign(reading.mean_reward)
        self.mean_score.assign(reading.mean_score)
        self.noise.assign(reading.noise)
        self.log_gain.assign(np.log(reading.gain))
        self.intercept.assign(reading.intercept)

    def build_optimizers(self) -> None:
        """Make the translations' optimiser variables: inside a step they would have it traced twice."""
        self._translation_optimizer.build(self._translations)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, inputs: dict[str, Batch]) -> dict[str, tf.Tensor]:
        """One step of both optimisers, then the towers' moving average."""
        towers = self.towers.trainable_variables
        with tf.GradientTape() as tape:
            loss = self.compute_losses(inputs)
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
        gradients = tape.gradient(loss, [*towers, *self._translations])
        for optimizer, variables, found in ((self.optimizer, towers, gradients[: len(towers)]),
                                            (self._translation_optimizer, self._translations, gradients[len(towers):])):
            moved = [(g, v) for g, v in zip(found, variables, strict=True) if g is not None]
            if moved:
                optimizer.apply_gradients(moved)
        self.towers.count_step()
        return {"loss": loss * replicas}  # Keras reports the mean over replicas

    def compute_losses(self, inputs: dict[str, Batch]) -> tf.Tensor:
        """The weighted sum, each objective's mean over all replicas' requests."""
        total = tf.zeros([])
        if "behaviour" in inputs:
            total += self.objectives["softmax"] * self.towers.compute_loss(inputs["behaviour"], training=True)
        else:
            total += self.towers.distance()
        batch = inputs["slates"]
        named = {name: weight for name, weight in self.objectives.items() if name != "softmax"}
        scores = self.towers.slate_scores(batch)
        requests = tf.maximum(self.towers.all_replicas(tf.reduce_sum(batch["weight"])), 1e-6)
        for name, weight in named.items():
            total += weight * self.losses_by_name[name](batch, scores) / requests
        return total

    # -- one objective each: summed over the batch

    def _reinforce(self, batch: Batch, scores: SlateScores) -> tf.Tensor:
        log_pi, log_first = self._policy(batch, scores, scores.own / self.temperature, scores.others / self.temperature)
        log_propensity, loss = self._who_logged(batch, scores)
        k = float(batch["item"].shape[1]) if self.top_k else 1.0
        return loss + reinforce(log_first, log_pi, log_propensity, batch["reward"] * self._kept(batch), k=k, cap=self.cap)

    def _ppo(self, batch: Batch, scores: SlateScores) -> tf.Tensor:
        log_pi, _ = self._policy(batch, scores, scores.own / self.temperature, scores.others / self.temperature)
        known = self._kept(batch) * tf.cast(batch["drawn"], tf.float32)[:, None]
        advantage = (batch["reward"] - self.mean_reward) * known
        return clipped_surrogate(log_pi, _or_zero(batch["log_propensity"]), advantage, clip=self.clip)

    def _q_learning(self, batch: Batch, scores: SlateScores) -> tf.Tensor:
        then = self._next(batch)
        online = self.towers.slate_scores(then)
        target = (self.target or self.towers).slate_scores(then)
        following = double_q_value(*(tf.concat([s.own, s.others], axis=1) for s in (online, target)))
        return self._value_loss(batch, scores, self._value(following))

    def _sarsa(self, batch: Batch, scores: SlateScores) -> tf.Tensor:
        following = (self.target or self.towers).slate_scores(self._next(batch)).own[:, 0]
        return self._value_loss(batch, scores, self._value(following))

    def _pointwise(self, batch: Batch, scores: SlateScores) -> tf.Tensor:
        reward = batch["reward"]
        weight = self._kept(batch) * tf.where(reward == 0, 1.0, tf.abs(reward))
        chance = tf.where(reward < 0, 1.0, self.places)  # what was dismissed was seen
        return observed_cross_entropy(self._click(scores), tf.cast(reward > 0, tf.float32), chance, weight)

    def _entire_space(self, batch: Batch, scores: SlateScores) -> tf.Tensor:
        own_part = tf.einsum("bd,de,bke->bk", scores.u, self.conversion, scores.v)
        waited = delay_chance(batch["elapsed"], self.mean_delay)[:, None] if self.mean_delay else tf.ones([1, 1])
        return entire_space(
            self._click(scores), self._click(scores) + own_part + self.conversion_level, tf.cast(batch["reward"] > 0, tf.float32),
            tf.cast(batch["converted"], tf.float32), self.places, waited, self._kept(batch))

    # -- what they have in common

    def _kept(self, batch: Batch) -> tf.Tensor:
        return tf.cast(batch["item"] >= 0, tf.float32) * batch["weight"][:, None]

    def _click(self, scores: SlateScores) -> tf.Tensor:
        return tf.nn.softplus(self.slope) * (tf.maximum(scores.own, _FINITE) - self.mean_score) + self.level

    def _policy(self, batch: Batch, scores: SlateScores, own: tf.Tensor, others: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return policy(own, others, scores.log_q, epsilon=self.epsilon, mass=self.towers.explored_mass(batch))

    def _who_logged(self, batch: Batch, scores: SlateScores) -> tuple[tf.Tensor, tf.Tensor]:
        """ln propensities, where the log has none those of a model of who logged, and that model's loss (Chen et al. 2019)."""
        logged = _or_zero(batch["log_propensity"])
        if not self.unknown:
            return logged, tf.zeros([])
        u, v, own, candidates, others = (tf.stop_gradient(part) for part in (
            scores.u, scores.v, scores.own, scores.candidates, scores.others))
        turned = tf.matmul(u, self.behaviour)  # what the towers' score says beside <u, v> stays: popularity, and what is hidden
        own += tf.einsum("bd,bkd->bk", turned, v)
        others += tf.matmul(turned, candidates, transpose_b=True)
        log_pi, _ = self._policy(batch, scores, self.behaviour_heat * own, self.behaviour_heat * others)
        drawn = tf.cast(batch["drawn"], tf.float32)[:, None]
        loss = -tf.reduce_sum(log_pi * self._kept(batch) * (1 - drawn))
        return tf.where(drawn > 0, logged, tf.stop_gradient(log_pi)), loss

    def _value(self, score: tf.Tensor) -> tf.Tensor:
        return tf.exp(self.log_gain) * score + self.intercept  # a gain below 0 would turn the ranking round

    def _next(self, batch: Batch) -> Batch:
        return {name.removeprefix("next_"): array for name, array in batch.items() if name.startswith("next_")}

    def _value_loss(self, batch: Batch, scores: SlateScores, following: tf.Tensor) -> tf.Tensor:
        value = self.places * self._value(tf.maximum(scores.own, _FINITE))
        goal = bootstrapped(batch["reward"], following, batch["has_next"], discount=self.discount)
        # what follows belongs to the request, not to a place: a lower place is looked at less, and leads on less
        goal = batch["reward"] + self.places * (goal - batch["reward"])
        return squared_error(value, goal, self._kept(batch)) / self.noise**2


def _or_zero(log_propensity: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.math.is_nan(log_propensity), 0.0, log_propensity)



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
from tfrec.training.slates.mask import masked_sum, slate_length
from tfrec.training.slates.pointwise import delay_chance, entire_space, observed_cross_entropy
from tfrec.training.slates.policy_gradient import LogPolicy, clipped_surrogate, policy, reinforce
from tfrec.training.slates.position_bias import PositionBiasModel
from tfrec.training.slates.q_learning import bootstrapped, double_q_value, first_shown, squared_error

keras = tf.keras
Batch = dict[str, tf.Tensor]

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
        self, model: TwoTower, objectives: Mapping[Objective, float], reading: PositionBiasModel, *, temperature: float,
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
        self.behaviour_inverse_temperature = self.add_weight(
            name="behaviour_inverse_temperature", initializer=constant(1 / max(temperature, 0.05)), **one)
        self._translations = [self.log_gain, self.intercept, self.slope, self.level, self.conversion, self.conversion_level,
                              self.behaviour, self.behaviour_inverse_temperature]
        self._translation_optimizer = keras.optimizers.Adam(TRANSLATION_RATE)

    def read(self, reading: PositionBiasModel) -> None:
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

    # -- one objective each: summed over what was shown

    def _reinforce(self, batch: Batch, scores: SlateScores) -> tf.Tensor:
        found, mask = self._policy(batch, scores.own / self.temperature, scores.listed / self.temperature), _shown(batch)
        log_propensity, loss = self._who_logged(batch, scores)
        k = slate_length(mask) if self.top_k else 1.0
        return loss + reinforce(found.log_first, found.log_pi, log_propensity, batch["reward"], mask, k=k, cap=self.cap)

    def _ppo(self, batch: Batch, scores: SlateScores) -> tf.Tensor:
        found = self._policy(batch, scores.own / self.temperature, scores.listed / self.temperature)
        # the value is the served policy's; what chance brought from outside the shortlist moves as if it stood there
        log_pi = tf.stop_gradient(found.log_pi - found.log_listed) + found.log_listed
        advantage, known = batch["reward"] - self.mean_reward, _shown(batch) & batch["drawn"][:, None]
        return clipped_surrogate(log_pi, batch["log_propensity"], advantage, known, clip=self.clip)

    def _q_learning(self, batch: Batch, scores: SlateScores) -> tf.Tensor:
        then = _next(batch)  # both networks are asked about the same items, those of the next request's shortlist
        online, target = (network.slate_scores(then).listed for network in (self.towers, self.target or self.towers))
        best = double_q_value(online, target, then["shortlist"] >= 0)
        return self._value_loss(batch, scores, best, tf.reduce_any(then["shortlist"] >= 0, axis=1))

    def _sarsa(self, batch: Batch, scores: SlateScores) -> tf.Tensor:
        then = _next(batch)
        following = first_shown((self.target or self.towers).slate_scores(then).own, then["item"] >= 0)
        return self._value_loss(batch, scores, following, tf.reduce_any(then["item"] >= 0, axis=1))

    def _pointwise(self, batch: Batch, scores: SlateScores) -> tf.Tensor:
        reward = batch["reward"]
        weight = tf.where(reward == 0, 1.0, tf.abs(reward))
        chance = tf.where(reward < 0, 1.0, self.places)  # what was dismissed was seen
        return observed_cross_entropy(self._click(scores), tf.cast(reward > 0, tf.float32), chance, weight, _shown(batch))

    def _entire_space(self, batch: Batch, scores: SlateScores) -> tf.Tensor:
        own_part = tf.einsum("bd,de,bke->bk", scores.u, self.conversion, scores.v)
        everywhere = tf.ones_like(scores.own)
        waited = delay_chance(batch["elapsed"], self.mean_delay)[:, None] if self.mean_delay else 1.0
        return entire_space(
            self._click(scores), self._click(scores) + own_part + self.conversion_level, tf.cast(batch["reward"] > 0, tf.float32),
            tf.cast(batch["converted"], tf.float32), self.places * everywhere, waited * everywhere, _shown(batch))

    # -- what they have in common

    def _click(self, scores: SlateScores) -> tf.Tensor:
        return tf.nn.softplus(self.slope) * (scores.own - self.mean_score) + self.level

    def _policy(self, batch: Batch, own: tf.Tensor, listed: tf.Tensor) -> LogPolicy:
        same = batch["item"][:, :, None] == batch["shortlist"][:, None, :]
        return policy(own, listed, same, _shown(batch), epsilon=self.epsilon, mass=(batch["mass"], batch["total_mass"]))

    def _who_logged(self, batch: Batch, scores: SlateScores) -> tuple[tf.Tensor, tf.Tensor]:
        """ln propensities, where the log has none those of a model of who logged, and that model's loss (Chen et al. 2019)."""
        if not self.unknown:
            return batch["log_propensity"], tf.zeros([])
        u, v, own, w, listed = (tf.stop_gradient(part) for part in scores)
        turned = tf.matmul(u, self.behaviour)  # what the towers' score says beside <u, v> stays: popularity, and what is hidden
        own += tf.einsum("bd,bkd->bk", turned, v)
        listed += tf.einsum("bd,bsd->bs", turned, w)
        # who logged had a shortlist of their own, on which it was
        inverse = self.behaviour_inverse_temperature
        log_pi = self._policy(batch, inverse * own, inverse * listed).log_listed
        drawn = batch["drawn"][:, None]
        loss = -masked_sum(_shown(batch) & ~drawn, log_pi)
        return tf.where(drawn, batch["log_propensity"], tf.stop_gradient(log_pi)), loss

    def _value(self, score: tf.Tensor) -> tf.Tensor:
        return tf.exp(self.log_gain) * score + self.intercept  # a gain below 0 would turn the ranking round

    def _value_loss(self, batch: Batch, scores: SlateScores, following: tf.Tensor, is_known: tf.Tensor) -> tf.Tensor:
        """Of the score `following` `[batch]` at the next request, where there was one and it `is_known`."""
        value = self.places * self._value(scores.own)
        goal = bootstrapped(batch["reward"], self._value(following), batch["has_next"] & is_known, discount=self.discount)
        # what follows belongs to the request, not to a place: a lower place is looked at less, and leads on less
        goal = batch["reward"] + self.places * (goal - batch["reward"])
        return squared_error(value, goal, _shown(batch)) / self.noise**2


def _shown(batch: Batch) -> tf.Tensor:
    """`[batch, K]`: where an item was shown, and the request is none that fills up a batch."""
    return (batch["item"] >= 0) & (batch["weight"] > 0)[:, None]


def _next(batch: Batch) -> Batch:
    return {name.removeprefix("next_"): array for name, array in batch.items() if name.startswith("next_")}

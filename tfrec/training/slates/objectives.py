"""The objectives of learning from slates: what each makes of a batch. A new objective is added here.

An objective is a function from a `SlateStep` to a loss that is summed over what was shown. To add one, write its maths as a pure
function in a file of its own (as `pointwise.py`), call it from a function here, enter that in `OBJECTIVES`, and add its name to
`tfrec.config.Objective`. `softmax` is not among them: it is the towers' own loss on behaviour.
"""
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from tfrec.config import Objective
from tfrec.models.two_tower import Batch, TwoTower
from tfrec.training.slates.auxiliary_heads import AuxiliaryHeads
from tfrec.training.slates.logging_policy import LoggingPolicy
from tfrec.training.slates.mask import slate_length
from tfrec.training.slates.pointwise import delay_chance, entire_space, observed_cross_entropy
from tfrec.training.slates.policy_gradient import LogPolicy, clipped_surrogate, reinforce
from tfrec.training.slates.q_learning import bootstrapped, double_q_value, first_shown, squared_error
from tfrec.training.slates.slate_scores import SlateScores, exploring_policy, shown_mask, slate_scores


@dataclass(frozen=True)
class ObjectiveSettings:
    """The numbers that objectives depend on.

    Attributes:
        temperature: Temperature of the exploring policy that is improved.
        epsilon: Share of that policy that is left to chance.
        discount: Of the next request's value; value learning.
        clip: How far PPO moves a probability.
        cap: Largest importance weight of REINFORCE.
        corrects_for_slates: Whether REINFORCE corrects for slates of K items.
        learns_logging_policy: Whether some slates have no propensities, so that the policy that logged is learnt.
        mean_delay: Seconds until a conversion comes in, on average; 0 for at once.
    """

    temperature: float
    epsilon: float
    discount: float
    clip: float
    cap: float
    corrects_for_slates: bool = True
    learns_logging_policy: bool = False
    mean_delay: float = 0.0


class SlateStep(NamedTuple):
    """What an objective reads in one step."""

    batch: Batch  # of `SlateBatches`
    scores: SlateScores
    towers: TwoTower
    target: TwoTower  # says what the next request is worth; the towers themselves where there is no target network
    heads: AuxiliaryHeads
    logging_policy: LoggingPolicy | None
    settings: ObjectiveSettings

    @property
    def mask(self) -> tf.Tensor:
        """`[batch, K]`, where an item was shown."""
        return shown_mask(self.batch)

    @property
    def next_request(self) -> Batch:
        """The same users' next requests, as a batch."""
        return {name.removeprefix("next_"): array for name, array in self.batch.items() if name.startswith("next_")}

    def policy(self) -> LogPolicy:
        """The exploring policy that is improved."""
        temperature = self.settings.temperature
        own, listed = self.scores.own + self.batch["boost"], self.scores.listed + self.batch["shortlist_boost"]
        return exploring_policy(self.batch, own / temperature, listed / temperature, epsilon=self.settings.epsilon)


def _pointwise(step: SlateStep) -> tf.Tensor:
    reward = step.batch["reward"]
    weight = tf.where(reward == 0, 1.0, tf.abs(reward))
    chance = tf.where(reward < 0, 1.0, step.heads.position_weights)  # what was dismissed was seen
    return observed_cross_entropy(step.heads.click(step.scores), tf.cast(reward > 0, tf.float32), chance, weight, step.mask)


def _entire_space(step: SlateStep) -> tf.Tensor:
    batch, heads, mean_delay = step.batch, step.heads, step.settings.mean_delay
    everywhere = tf.ones_like(step.scores.own)
    waited = delay_chance(batch["elapsed"], mean_delay)[:, None] if mean_delay else 1.0
    return entire_space(
        heads.click(step.scores), heads.conversion_after_click(step.scores), tf.cast(batch["reward"] > 0, tf.float32),
        tf.cast(batch["converted"], tf.float32), heads.position_weights * everywhere, waited * everywhere, step.mask)


def _reinforce(step: SlateStep) -> tf.Tensor:
    found, mask, log_propensity, loss = step.policy(), step.mask, step.batch["log_propensity"], tf.zeros([])
    if step.logging_policy is not None:
        log_propensity, loss = step.logging_policy.fill_in(step.batch, step.scores)
    k = slate_length(mask) if step.settings.corrects_for_slates else 1.0
    return loss + reinforce(found.log_first, found.log_pi, log_propensity, step.batch["reward"], mask, k=k, cap=step.settings.cap)


def _ppo(step: SlateStep) -> tf.Tensor:
    found = step.policy()
    # the value is the served policy's; what chance brought from outside the shortlist moves as if it stood there
    log_pi = tf.stop_gradient(found.log_pi - found.log_listed) + found.log_listed
    advantage, known = step.batch["reward"] - step.heads.mean_reward, step.mask & step.batch["drawn"][:, None]
    return clipped_surrogate(log_pi, step.batch["log_propensity"], advantage, known, clip=step.settings.clip)


def _q_learning(step: SlateStep) -> tf.Tensor:
    then = step.next_request
    exists = then["shortlist"] >= 0
    # both networks are asked about the same items, those of the next request's shortlist
    online, target = (slate_scores(network, then).listed for network in (step.towers, step.target))
    return _value_loss(step, double_q_value(online, target, exists), tf.reduce_any(exists, axis=1))


def _sarsa(step: SlateStep) -> tf.Tensor:
    then = step.next_request
    exists = then["item"] >= 0
    following = first_shown(slate_scores(step.target, then).own, exists)
    return _value_loss(step, following, tf.reduce_any(exists, axis=1))


def _value_loss(step: SlateStep, following: tf.Tensor, is_known: tf.Tensor) -> tf.Tensor:
    """Of the score `following` `[batch]` at the next request, where there was one and the score `is_known`."""
    batch, heads = step.batch, step.heads
    value = heads.position_weights * heads.value(step.scores.own)
    has_next = batch["has_next"] & is_known
    goal = bootstrapped(batch["reward"], heads.value(following), has_next, discount=step.settings.discount)
    # what follows belongs to the request, not to a position: a lower position is looked at less, and leads on less
    goal = batch["reward"] + heads.position_weights * (goal - batch["reward"])
    return squared_error(value, goal, step.mask) / heads.noise**2


OBJECTIVES: Mapping[Objective, Callable[[SlateStep], tf.Tensor]] = {
    "pointwise": _pointwise,
    "entire_space": _entire_space,
    "reinforce": _reinforce,
    "ppo": _ppo,
    "q_learning": _q_learning,
    "sarsa": _sarsa,
}
LOOKS_AHEAD: frozenset[Objective] = frozenset({"q_learning", "sarsa"})  # these read the next request
READS_SHORTLIST: frozenset[Objective] = frozenset({"reinforce", "ppo", "q_learning"})  # these read what could have come

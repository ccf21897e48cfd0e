"""One training step on slates: a weighted sum of objectives moves the towers, and the auxiliary heads beside them."""
from collections.abc import Mapping

import tensorflow as tf

from tfrec.config import Objective
from tfrec.models.two_tower import Batch, TwoTower, sum_over_replicas
from tfrec.training.slates.auxiliary_heads import AuxiliaryHeads
from tfrec.training.slates.logging_policy import LoggingPolicy
from tfrec.training.slates.objectives import OBJECTIVES, ObjectiveSettings, SlateStep
from tfrec.training.slates.position_bias import PositionBiasModel
from tfrec.training.slates.slate_scores import slate_scores

keras = tf.keras

AUXILIARY_RATE = 0.01  # of Adam: a handful of numbers that must be right within a window


class SlateLearner(keras.Model):
    """Learns by a weighted sum of objectives; `softmax` is the towers' own loss on behaviour.

    A batch is `{"slates": ..., "behaviour": ...}`, the second only with `softmax`.

    Args:
        towers: The model, which is changed.
        objectives: The weight of each objective, by its name.
        bias: The position bias of the same slates, by the scores before learning.
        settings: What the objectives depend on.
        target: Other towers that say what the next request is worth; for Q-learning.
    """

    def __init__(self, towers: TwoTower, objectives: Mapping[Objective, float], bias: PositionBiasModel, *,
                 settings: ObjectiveSettings, target: TwoTower | None = None) -> None:
        super().__init__()
        self.towers, self.target = towers, target
        self.objectives, self.settings = dict(objectives), settings
        dim = towers.items.sizes["dim"]
        self.heads = AuxiliaryHeads(dim, bias)
        self.logging_policy = None
        if settings.learns_logging_policy:
            self.logging_policy = LoggingPolicy(dim, temperature=settings.temperature, epsilon=settings.epsilon)
        self.auxiliary_optimizer = keras.optimizers.Adam(AUXILIARY_RATE)

    @property
    def constants(self) -> str:
        """What a traced step has as constants: where it differs, a step must be traced anew."""
        return self.towers.constants

    @property
    def auxiliary_variables(self) -> list[tf.Variable]:
        """What is learnt beside the towers."""
        policy = self.logging_policy
        return [*self.heads.trainable_variables, *(policy.trainable_variables if policy is not None else ())]

    def start_as(self, new: "SlateLearner") -> None:
        """Take over the state of a new learner of the same objectives and settings: a step that was traced goes on with it."""
        for mine, theirs in zip(self.state, new.state, strict=True):
            mine.assign(theirs)

    @property
    def state(self) -> list[tf.Variable]:
        """Everything that a window of slates leaves behind, besides the towers."""
        policy = self.logging_policy
        return [*self.heads.variables, *(policy.variables if policy is not None else ()), *self.auxiliary_optimizer.variables]

    def build_optimizers(self) -> None:
        """Make the auxiliary optimiser's variables: inside a step they would have it traced twice."""
        self.auxiliary_optimizer.build(self.auxiliary_variables)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, inputs: dict[str, Batch]) -> dict[str, tf.Tensor]:
        """One step of both optimisers, then the towers' moving average."""
        towers, auxiliary = self.towers.trainable_variables, self.auxiliary_variables
        with tf.GradientTape() as tape:
            loss = self.compute_losses(inputs)
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
        gradients = tape.gradient(loss, [*towers, *auxiliary])
        for optimizer, variables, found in ((self.optimizer, towers, gradients[: len(towers)]),
                                            (self.auxiliary_optimizer, auxiliary, gradients[len(towers):])):
            moved = [(g, v) for g, v in zip(found, variables, strict=True) if g is not None]
            if moved:
                optimizer.apply_gradients(moved)
        self.towers.count_step()
        return {"loss": loss * replicas}  # Keras reports the mean over replicas

    def compute_losses(self, inputs: dict[str, Batch]) -> tf.Tensor:
        """The weighted sum, each objective's mean over all replicas' requests."""
        if "behaviour" in inputs:
            total = self.objectives["softmax"] * self.towers.compute_loss(inputs["behaviour"], training=True)
        else:
            total = self.towers.anchor.penalty()
        batch = inputs["slates"]
        requests = tf.maximum(sum_over_replicas(tf.reduce_sum(batch["weight"])), 1e-6)
        step = self.slate_step(batch)
        for name, weight in self.objectives.items():
            if name != "softmax":
                total += weight * OBJECTIVES[name](step) / requests
        return total

    def slate_step(self, batch: Batch) -> SlateStep:
        """What the objectives read of a batch."""
        target = self.towers if self.target is None else self.target
        return SlateStep(batch, slate_scores(self.towers, batch), self.towers, target, self.heads, self.logging_policy,
                         self.settings)

"""The settings of a retrain and of the gate."""
from typing import Annotated, Literal

from pydantic import Field

from tfrec.config.section import Positive, Section

Objective = Literal["softmax", "pointwise", "entire_space", "reinforce", "ppo", "q_learning", "sarsa"]


class RetrainConfig(Section):
    """How `tfrec retrain` trains a challenger, and what the gate asks of it."""

    objective: Objective | Annotated[dict[Objective, Positive], Field(min_length=1)] = {  # One, or several with a weight.
        "softmax": 1.0, "pointwise": 1.0}
    discount: float = Field(0.3, ge=0, lt=1)  # How much the user's next request counts, for q_learning and sarsa.
    clip: float = Field(0.2, gt=0, lt=1)  # How far ppo lets the ratio of two probabilities move from 1 in one run.
    weight_cap: float = Field(10.0, ge=1)  # The largest importance weight, for reinforce.
    slate_batch: int = Field(256, ge=1)  # Requests in a step, over all replicas.
    max_slates: int = Field(100_000, ge=1)  # The most slates that a run reads. If there are more, it reads a sample.
    bandit_decay: float = Field(0.95, gt=0, le=1)  # Each run multiplies the bandits' evidence by it. 1: all is kept.
    replay: float = Field(1.0, ge=0)  # Old events that are learnt again for each new one.
    evenness: float = Field(0.0, ge=0, le=1)  # Of samples over time, items and users. 0: as the log is; 1: all parts are equal.
    max_events: int | None = Field(None, ge=1)  # About the most new events that a run learns. Of more, it learns a sample.
    l2_sp: float = Field(0.0, ge=0)  # Weight of the L2 penalty on the distance from the parent's weights.
    epochs: int = Field(2, ge=1)  # Epochs of a run.
    learning_rate: float = Field(2e-3, gt=0)  # Of AdamW.
    min_events: int = Field(20, ge=1)  # A window with fewer new positive events is left for the next run.
    gate_margin: float = Field(0.005, ge=0)  # HR@10 that the challenger may lose to the champion on new events.
    gate_share: float = Field(0.3, gt=0, lt=1)  # The share of new events that judge, the newest. The next run learns them.
    gate_sample: int = Field(2000, ge=1)  # The most new events on which both models are compared, and the most earlier ones.
    gate_floor: float = Field(0.25, ge=0, le=1)  # The share of the HR@10 at the champion's own gate that a challenger must reach.
    search_margin: float = Field(0.05, ge=0)  # HR@10 that the challenger may lose to the champion on searches.
    forget_margin: float = Field(0.03, ge=0)  # HR@10 that the challenger may lose to the champion on earlier events.
    keep_share: float = Field(0.5, ge=0, le=1)  # Where slates judge, the share of the champion's HR@10 to keep on new events.
    pair_margin: float = Field(0.02, ge=0)  # Share of pairs in slates in which the challenger may be less often right.
    value_margin: float = Field(0.1, ge=0)  # The share of the logged reward that its policy may earn less.

    @property
    def objectives(self) -> dict[Objective, float]:
        """The weight of each objective."""
        return {self.objective: 1.0} if isinstance(self.objective, str) else dict(self.objective)

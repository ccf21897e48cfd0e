"""The settings of the model and of its training."""
from typing import Literal

from pydantic import Field

from tfrec.config.section import Section

Device = Literal["auto", "tpu", "gpu", "cpu"]
TextTraining = Literal["frozen", "lora", "full"]


class ModelConfig(Section):
    """The two-tower model."""

    dim: int = Field(64, ge=2)  # The length of the vectors of queries and items.
    layers: int = Field(1, ge=0)  # Layers of causal attention over a user's history.
    heads: int = Field(2, ge=1)  # Attention heads of a layer.
    history: int = Field(25, ge=1)  # Events of a user that are read, the newest ones.
    dropout: float = Field(0.2, ge=0, lt=1)  # The dropout rate of the towers.
    id_slots: int = Field(16384, ge=2)  # Items with a vector of their own. If there are more, the longest unused lose theirs.
    id_dropout: float = Field(0.5, ge=0, lt=1)  # The share of items whose own vector is hidden in a step, so that text is learnt.
    temperature: float = Field(0.1, gt=0)  # The initial value of the learnt temperature.


class TrainingConfig(Section):
    """How `tfrec train` trains the model."""

    epochs: int = Field(30, ge=1)  # The most epochs. Early stopping may end it sooner.
    patience: int = Field(2, ge=1)  # Epochs without a better validation score before training stops with the best weights.
    batch_size: int = Field(64, ge=1)  # Windows of `model.history` events, over all replicas.
    negatives: int = Field(4096, ge=1)  # Items that are sampled in a step. A catalogue of up to four times as many is used whole.
    learning_rate: float = Field(4e-3, gt=0)  # Of AdamW.
    weight_decay: float = Field(0.05, ge=0)  # Of AdamW.
    validation_share: float = Field(0.1, gt=0, lt=0.5)  # The share of events that validate, the newest ones.
    device: Device = "auto"  # Where to train and retrain. auto: the best device that exists. A named device must exist.
    jit_compile: bool | None = None  # Compile with XLA. None: on a TPU, and text encoders on a GPU.
    seed: int = 0  # Of initial weights and the order of batches.
    text: TextTraining = "frozen"  # What of the text encoder is trained with the towers. `tuning` has its rates and sizes.
    texts: int = Field(256, ge=1)  # Items of a step whose texts train the encoder. All others have the vectors of the last epoch.

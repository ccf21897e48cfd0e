"""The label rule: what a logged outcome is worth, for which items, and for how long it counts.

It is built once from the configuration and the catalogue (`LabelRule.of`) and passed whole, so every command that joins the log
or reads a file of interactions applies the settings `reward` and `data.attribution_hours` in the same way.
"""
import hashlib
import json
from dataclasses import dataclass

from tfrec.config import Config, RewardConfig
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.labels.rewards import Lengths, item_lengths
from tfrec.errors import UsageError


@dataclass(frozen=True, eq=False)
class LabelRule:
    """How outcomes become labels.

    Args:
        catalogue_ids: the items that examples may name; rows of other items are counted and left out.
        attribution_seconds: an outcome counts for an impression that is at most this old.
        reward: the reward rule.
        lengths: of items, by action, for the actions of `reward.lengths`.

    Raises:
        UsageError: `reward` asks for lengths of items, and none are given.
    """

    catalogue_ids: tuple[str, ...]
    attribution_seconds: int
    reward: RewardConfig
    lengths: Lengths

    def __post_init__(self) -> None:
        if missing := sorted(set(self.reward.lengths) - set(self.lengths)):
            raise UsageError(f"LabelRule: reward.lengths names a column of the catalogue for {missing[0]!r}, but no lengths are "
                             "given. Pass the catalogue.")

    @property
    def digest(self) -> str:
        """Equal for rules that give equal rewards: of the settings, not of the catalogue, which grows."""
        settings = self.reward.model_dump(mode="json", exclude={"preset", "user_share"})
        return hashlib.sha256(json.dumps([self.attribution_seconds, settings], sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def of(cls, config: Config, catalogue: Catalogue) -> "LabelRule":
        """The rule of a configuration for a catalogue.

        Raises:
            DataError: `reward.lengths` names a column that is a number above 0 for no item.
        """
        return cls.of_rewards(config.reward, catalogue, attribution_seconds=config.data.attribution_seconds)

    @classmethod
    def of_rewards(cls, reward: RewardConfig, catalogue: Catalogue | None, *, attribution_seconds: int = 0) -> "LabelRule":
        """The rule of a reward section alone. It is enough for a file of interactions, which holds no impressions.

        Raises:
            DataError: `reward.lengths` names a column that is a number above 0 for no item.
            UsageError: `reward` asks for lengths of items, and there is no catalogue.
        """
        items = () if catalogue is None else catalogue.items
        known = {} if catalogue is None else item_lengths(reward, items)
        return cls(tuple(item.id for item in items), attribution_seconds, reward, known)

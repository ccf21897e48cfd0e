"""Warns of logged actions that have no weight, and of configured actions that nobody logged, each with the nearest name.

Without a warning, `Click` beside `click`, a name with a trailing space or a word of another system would silently count nothing.
"""
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from tfrec import config_file
from tfrec.config import RewardConfig
from tfrec.data.labels.rewards import rules
from tfrec.nearest import nearest

log = logging.getLogger(__name__)
_MOST = 5  # names in a message


def warn_of_actions(counts: Mapping[str, int], reward: RewardConfig, *, where: str | Path, whole: bool = True) -> None:
    """Log a warning where the names of actions do not match the reward rule.

    Args:
        counts: the number of events of each action.
        reward: the reward rule.
        where: the source of the events, for the message.
        whole: these are all events there are, so also warn of configured actions that none of them has.
    """
    weighted = {rule.action for rule in rules(reward)}
    idle = {action: n for action, n in counts.items() if action not in weighted}
    if idle:
        most = sorted(idle, key=lambda action: (-idle[action], action))
        told = [f"{idle[action]} of {action!r}{nearest(action, weighted)}" for action in most[:_MOST]]
        rest = f" and {len(most) - _MOST} others" if len(most) > _MOST else ""
        log.warning("%s: %d of %d events count nothing, as reward.weights does not name their action: %s%s. Give those that "
                    "matter a weight, and the others the weight 0.", where, sum(idle.values()), sum(counts.values()),
                    ", ".join(told), rest)
    if whole and counts:
        of_preset = _names(_preset(reward.preset))  # a preset names more actions than most logs have
        for action, settings in _names(reward).items():
            near = nearest(action, idle)
            if action not in counts and (near or action not in of_preset):
                log.warning("%s: %s names the action %r, which no event has%s. Correct the name or remove it.", where,
                            " and ".join(f"reward.{name}" for name in settings), action, near)


def _names(reward: RewardConfig) -> dict[str, list[str]]:
    """Every action that the reward rule names, with the settings that name it."""
    found: dict[str, list[str]] = {}
    of_settings: dict[str, Iterable[str]] = {
        "weights": reward.weights, "valued": reward.valued, "completed": reward.completed, "lengths": reward.lengths,
        "rated": reward.rated, "half_life_hours": reward.half_life_hours, "conversions": reward.conversions,
        "changes": dict.fromkeys(action for change in reward.changes for action in change.weights),
    }
    for setting, actions in of_settings.items():
        for action in actions:
            found.setdefault(action, []).append(setting)
    return found


def _preset(name: str | None) -> RewardConfig:
    if name is None:
        return RewardConfig()
    return RewardConfig.model_validate(config_file.over_preset({"reward": {"preset": name}})["reward"])

"""What `tfrec experiment status` prints."""
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from tfrec.config import Config
from tfrec.data import durable_files
from tfrec.data.readers.quarantine import Quarantine
from tfrec.errors import UsageError
from tfrec.experiments.report import Compared, described, judged, settled_now
from tfrec.experiments.state import StateFile
from tfrec.nearest import nearest
from tfrec.terminal import utc

OVERVIEW = "overview.json"  # beside the state, for those who cannot look themselves


def overview(config: Config, name: str | None, *, now: int, quarantine: Quarantine | None) -> dict[str, Any]:
    """The figures of the experiments that run, or of the newest one of a name, and which others there were; also kept in a file.

    Raises:
        UsageError: no experiment has this name.
    """
    state = StateFile(config.run).read()
    known = [*state.ended, *state.running]
    wanted = list(state.running)
    if name is not None:
        wanted = [one for one in known if name in (one.name, one.id)][-1:]
        if not wanted:
            names = sorted({one.name for one in known})
            raise UsageError(f"no experiment {name!r} was started yet{nearest(name, names)}. "
                             f"Known are {', '.join(names) or 'none'}.")
    figures: list[Compared] = []
    if wanted:
        settled = settled_now(config, now=now, quarantine=quarantine)
        figures = [judged(one, settled, past_days=config.experiment.past_days) for one in wanted]
    rest = [described(one) for one in known if one not in wanted]
    not_started = sorted(set(config.experiment.trials) - {one.name for one in state.running})
    told = {"running": len(state.running), "can_be_started": not_started, "experiments": [one.of_all for one in figures],
            "arms": [arm for one in figures for arm in one.arms], "others": rest[-20:]}
    kept = StateFile(config.run).path.with_name(OVERVIEW)
    if kept.parent.is_dir():  # nothing was ever started where there is none
        with suppress(PermissionError):  # of somebody who may only look
            durable_files.replace(kept, json.dumps({"looked_at": now} | told).encode())
    return told


def read_overview(run: Path) -> tuple[str | None, list[dict[str, Any]]]:
    """When `overview` looked last, in UTC, and each experiment that there is now, with the arms that it saw then."""
    state = StateFile(run).read()
    try:
        seen = json.loads(StateFile(run).path.with_name(OVERVIEW).read_bytes())
        looked_at = utc(seen["looked_at"])
        figures = {one["experiment"]: one for one in seen["experiments"]}
        arms = seen["arms"]
    except (OSError, ValueError, KeyError, TypeError):  # nobody has looked yet
        looked_at, figures, arms = None, {}, []
    found = []
    for one in [*state.running, *reversed(state.ended)]:
        declared = [{"arm": name, "share": arm.share} for name, arm in one.trial.arms.items()]
        own = [arm for arm in arms if arm["experiment"] == one.id]
        found.append(figures.get(one.id, {}) | described(one) | {"arms": own or declared})
    return looked_at, found

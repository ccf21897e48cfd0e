"""What `tfrec experiment status` prints."""
from typing import Any

from tfrec.config import Config
from tfrec.data.readers.quarantine import Quarantine
from tfrec.errors import UsageError
from tfrec.experiments.report import Compared, described, judged, settled_now
from tfrec.experiments.state import StateFile
from tfrec.nearest import nearest


def overview(config: Config, name: str | None, *, now: int, quarantine: Quarantine | None) -> dict[str, Any]:
    """The figures of the experiments that run, or of the newest one of a name, and which others there were.

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
    return {"running": len(state.running), "can_be_started": not_started, "experiments": [one.of_all for one in figures],
            "arms": [arm for one in figures for arm in one.arms], "others": rest[-20:]}

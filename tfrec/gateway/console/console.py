"""The verbs that only the console calls: items, runs, experiments and monitors. They read files of the run and change nothing."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfrec.config import Config
from tfrec.errors import ServingError
from tfrec.experiments.overview import read_overview
from tfrec.gateway.console.bodies import (
    ExperimentsAnswer,
    ExperimentsRequest,
    ItemsAnswer,
    ItemsRequest,
    KnownItem,
    MonitorsAnswer,
    MonitorsRequest,
    RetrainRun,
    RunsAnswer,
    RunsRequest,
    VersionLine,
)
from tfrec.gateway.console.item_lines import ItemLines
from tfrec.gateway.console.reviews import Reviews
from tfrec.gateway.run_metrics import newest_results
from tfrec.monitors.latest import read_latest
from tfrec.release.manifest import Manifest, read_manifest
from tfrec.release.publish import newest_dir, versions
from tfrec.terminal import utc


class Console:
    """Answers the console of a run. Safe to share between threads.

    Args:
        config: names the run.
    """

    def __init__(self, config: Config) -> None:
        self._run, self._models_dir = config.run, config.models_dir
        self._lines = ItemLines(lambda: newest_dir(config.models_dir))
        self.review = Reviews(config)

    def items(self, bodies: Sequence[ItemsRequest]) -> list[ItemsAnswer]:
        """What the catalogue of the newest version says of items. Ids that it does not have are left out."""
        return [ItemsAnswer(items=[
            KnownItem(id=item.id, text=item.text if isinstance(item.text, dict) else {"text": item.text}, tags=list(item.tags),
                      numeric=item.numeric, available=item.available)
            for item in self._lines.read(body.ids)]) for body in bodies]

    def runs(self, bodies: Sequence[RunsRequest]) -> list[RunsAnswer]:
        """The newest runs of the retrain job with the figures of their gates, and the versions in the run directory."""
        return [RunsAnswer(retrains=[_retrain(*one) for one in newest_results(self._run, body.limit)],
                           versions=[_version(self._models_dir, number)
                                     for number in reversed(versions(self._models_dir)[-body.limit :])]) for body in bodies]

    def experiments(self, bodies: Sequence[ExperimentsRequest]) -> list[ExperimentsAnswer]:
        """Experiments, as `tfrec experiment status` saw them when it looked last."""
        looked_at, found = read_overview(self._run)
        return [ExperimentsAnswer(looked_at=looked_at, experiments=found) for _ in bodies]

    def monitors(self, bodies: Sequence[MonitorsRequest]) -> list[MonitorsAnswer]:
        """What the monitors found when they looked last."""
        found = read_latest(self._run)
        looked_at = utc(found["looked_at"]) if found else None
        rows = [{"monitor": name} | one for name, one in found.get("monitors", {}).items()]
        rows.sort(key=lambda one: ("alarm", "ok", "unknown").index(one["state"]))
        return [MonitorsAnswer(looked_at=looked_at, monitors=rows, parts=found.get("parts", {})) for _ in bodies]


def _retrain(ended: float, found: dict[str, Any]) -> RetrainRun:
    return RetrainRun(ended_at=utc(ended), outcome=str(found["outcome"]), reason=str(found.get("reason", "")),
                      version=found.get("version"), learnt=found.get("learnt"), figures=found.get("figures") or {},
                      seconds=found.get("seconds") or {})


def _version(models_dir: Path, number: int) -> VersionLine:
    try:
        found: Manifest = read_manifest(models_dir / str(number))
    except ServingError as error:
        return VersionLine(version=number, error=str(error))
    return VersionLine(version=number, created_at=utc(found.created_at), parent=found.parent, copy_of=found.copy_of,
                       rolled_back_from=found.rolled_back_from)

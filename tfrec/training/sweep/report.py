"""What a sweep found: the best settings, what they gain over the present ones, and which settings mattered."""
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
import tomli_w
from optuna.trial import FrozenTrial, TrialState
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tfrec.training.sweep.search import GIVEN_UP, ended

LISTED = 10  # trials, the best ones
FEW = 12  # trials below which nothing is said about what mattered
TOP = 0.25  # share of the trials that what mattered is read from


@dataclass(frozen=True)
class TrialResult:
    """One trial that was not pruned."""

    score: float  # mean log-likelihood of the validation events
    epochs: int
    seconds: float
    present: bool  # whether these are the settings of the configuration
    settings: dict[str, Any]


@dataclass(frozen=True)
class SweepReport:
    """The result of `tfrec sweep`."""

    trials: int  # that have ended
    pruned: int
    given_up: int
    best: TrialResult | None  # None: all trials were pruned
    present: TrialResult | None  # None: the present settings are not in the space, or were pruned
    importance: dict[str, float]  # share of each setting, the largest first; empty after few trials
    top: list[TrialResult]

    @property
    def toml(self) -> str:
        """The best settings, to be pasted into a configuration file."""
        tables: dict[str, dict[str, Any]] = {}
        for name, value in (self.best.settings if self.best else {}).items():
            section, _, last = name.partition(".")
            tables.setdefault(section, {})[last] = value
        return tomli_w.dumps(tables).strip()

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "toml": self.toml}

    def __rich__(self) -> RenderableType:
        said = f"{self.trials} trials, of which {self.pruned} were pruned and {self.given_up} given up"
        if self.best is None:
            return Text(f"{said}. None is complete: widen the ranges, or run more trials.")
        lines = [Text(f"{said}. The best score is {self.best.score:.4f}{self._gain()}, after {self.best.epochs} epochs.")]
        if self.importance:
            lines.append(Text("What mattered, by share: " + ", ".join(f"{n} {v:.0%}" for n, v in self.importance.items()) + "."))
        else:
            lines.append(Text(f"What mattered cannot be said from fewer than {FEW} trials."))
        return Group(*lines, _table(self.top), Text("\nThe best settings, for the configuration file:\n"), Text(self.toml))

    def _gain(self) -> str:
        if self.present is None:
            return ""
        if self.best == self.present:
            return ", that of the present settings"
        gain = self.best.score - self.present.score if self.best else 0.0
        return f", {gain:.4f} above that of the present settings"


def report(trials: Sequence[FrozenTrial]) -> SweepReport:
    """Sum up the trials that `sweep` returned."""
    over = ended(trials)
    complete = sorted((t for t in over if t.state == TrialState.COMPLETE), key=lambda t: -_score(t))
    results = [TrialResult(_score(t), t.user_attrs["epochs"], round(t.user_attrs["seconds"], 1), t.user_attrs["present"],
                           t.user_attrs["values"]) for t in complete]
    return SweepReport(
        trials=len(over), pruned=sum(t.state == TrialState.PRUNED for t in over),
        given_up=sum(GIVEN_UP in t.user_attrs for t in over), best=results[0] if results else None,
        present=next((result for result in results if result.present), None), importance=_importance(over), top=results[:LISTED])


def _score(trial: FrozenTrial) -> float:
    """A trial's best score so far; minus infinity without one."""
    return max([*trial.intermediate_values.values(), *(trial.values or ())], default=-math.inf)


def _importance(trials: list[FrozenTrial]) -> dict[str, float]:
    """How much each setting distinguishes the best trials from all, as a share of 1 (PED-ANOVA, arXiv:2304.10255).

    Pruned trials count with the score they had: that they are not among the best is all that is asked of them.
    """
    known = [t for t in trials if math.isfinite(_score(t)) and t.params]
    if len(known) < FEW:
        return {}
    plain = optuna.create_study(direction="maximize")
    for t in known:
        plain.add_trial(optuna.create_trial(params=t.params, distributions=t.distributions, value=_score(t)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=TOP)
    found: Mapping[str, float] = optuna.importance.get_param_importances(plain, evaluator=evaluator)
    return {name: round(share, 4) for name, share in found.items()}


def _table(results: list[TrialResult]) -> Table:
    table = Table(title=Text(f"\nThe best {len(results)}"), title_justify="left", box=None, pad_edge=False)
    names = list(results[0].settings)
    for heading in ("score", "epochs", "seconds", *(name.partition(".")[2] for name in names)):
        table.add_column(heading)
    for result in results:
        values = [f"{result.settings[name]:.3g}" if isinstance(result.settings[name], float) else str(result.settings[name])
                  for name in names]
        score = f"{result.score:.4f}" + (" (present)" if result.present else "")
        table.add_row(score, str(result.epochs), f"{result.seconds:.0f}", *values)
    return table

"""Which experiments run, in a file of the run directory that gateways read and that survives a kill at any instant.

A start takes the arms over from the configuration, so that what runs does not change with it. Each start has a number of its own
and assigns users anew: what an earlier start did to its users is then no difference between the arms.
"""
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from tfrec.config.experiment import Trial
from tfrec.data import durable_files
from tfrec.data.file_lock import held
from tfrec.errors import DataError

_KEPT = 200  # experiments that have ended


class Started(BaseModel):
    """An experiment that runs, or that has ended.

    Attributes:
        name: of the trial.
        number: of the start, over all experiments of the run.
        trial: the arms.
        level: as configured when it began.
        effect: as configured when it began.
        since: seconds since 1970.
        until: seconds since 1970; None while it runs.
        verdict: why it ended, or is about to.
        version: of a canary, what is tried.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    number: int
    trial: Trial
    level: float
    effect: float
    since: int
    until: int | None = None
    verdict: str = ""
    version: int | None = None

    @property
    def id(self) -> str:
        """By which the log names it."""
        return f"{self.name}.{self.number}"

    def ended(self, until: int, verdict: str) -> "Started":
        """The same experiment, ended."""
        return self.model_copy(update={"until": until, "verdict": verdict})


class ExperimentState(BaseModel):
    """All experiments of a run, in the order of their starts, and what labels denote where the job moves them."""

    model_config = ConfigDict(frozen=True)

    labels: dict[str, int] = {}  # versions

    last: int = 0  # the number of the newest start
    running: tuple[Started, ...] = ()
    ended: tuple[Started, ...] = ()

    def find(self, name: str) -> Started | None:
        """The experiment of this name that runs."""
        return next((one for one in self.running if one.name == name), None)

    def with_started(self, one: Started) -> "ExperimentState":
        """With one more that runs."""
        return self.model_copy(update={"last": one.number, "running": (*self.running, one)})

    def with_decided(self, one: Started, verdict: str) -> "ExperimentState":
        """With the reason for which a running experiment is about to end."""
        decided = one.model_copy(update={"verdict": verdict})
        running = tuple(decided if other.number == one.number else other for other in self.running)
        return self.model_copy(update={"running": running})

    def with_ended(self, one: Started) -> "ExperimentState":
        """With a running experiment in its ended form."""
        running = tuple(other for other in self.running if other.number != one.number)
        return self.model_copy(update={"running": running, "ended": (*self.ended, one)[-_KEPT:]})


class StateFile:
    """`<run>/experiments/state.json`."""

    def __init__(self, run: Path) -> None:
        self.path = run / "experiments" / "state.json"

    def read(self) -> ExperimentState:
        """What the file says; nothing runs where there is none.

        Raises:
            DataError: it is something else.
        """
        try:
            return ExperimentState.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return ExperimentState()
        except (ValidationError, OSError) as error:
            why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            raise DataError(f"{self.path}: expected the experiments of a run, which tfrec experiment wrote; got something else "
                            f"({why}). Restore it from a backup, or remove it: then no experiment runs.") from error

    def change(self, changed: Callable[[ExperimentState], ExperimentState]) -> ExperimentState:
        """Replace what the file says, while nobody else does; returns what it says then. A kill leaves the old or the new."""
        durable_files.make_directory(self.path.parent)
        with held(self.path.with_name("lock"), wait=True):
            for left in self.path.parent.glob(".state.json.*"):  # by a process that was killed
                left.unlink(missing_ok=True)
            state = self.read()
            found = changed(state)
            if found != state:
                durable_files.replace(self.path, found.model_dump_json(indent=1, exclude_none=True).encode())
            return found

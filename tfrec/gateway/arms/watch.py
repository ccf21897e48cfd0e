"""Lets a gateway take up experiments that are started and stopped, by looking at the run's file of them."""
import logging
import threading
from types import TracebackType

from tfrec.errors import DataError
from tfrec.experiments.state import StateFile
from tfrec.gateway.arms.assigned import Experiments

LOOK_SECONDS = 1.0
log = logging.getLogger(__name__)


class ExperimentWatch:
    """A thread, for as long as the block runs.

    Args:
        file: says which experiments run.
        experiments: those of the gateway.
        seconds: between two looks.
    """

    def __init__(self, file: StateFile, experiments: Experiments, *, seconds: float = LOOK_SECONDS) -> None:
        self._file, self._experiments, self._seconds = file, experiments, seconds
        self._seen: tuple[int, int] | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="experiments", daemon=True)

    def __enter__(self) -> "ExperimentWatch":
        self.look()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(self._seconds):
            self.look()

    def look(self) -> None:
        """Take up what has changed. A file that cannot be read changes nothing, and is warned of once."""
        try:
            there = self._file.path.stat()
            seen = (there.st_ino, there.st_mtime_ns)
        except OSError:
            seen = (0, 0)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            running = self._file.read().running
        except DataError as error:
            log.warning("the experiments go on as they are: %s", error)
            return
        self._experiments.run(running)
        log.info("experiments: %s", ", ".join(one.id for one in running) or "none")

"""All models of a server: the thread that polls them, and the way from a request's model name to a version."""
import logging
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from grpc import StatusCode

from tfrec.errors import ServingError
from tfrec.serving.refusal import Refusal, invalid
from tfrec.serving.saved_model import SavedModel
from tfrec.serving.versions import ModelVersions, State, not_found

log = logging.getLogger(__name__)
Status = tuple[int, State, Refusal | None]


class Registry:
    """The models that are served. `start` returns once every one of them answers."""

    def __init__(self, models: Sequence[ModelVersions], *, poll_seconds: float, stopping: threading.Event) -> None:
        self._models = {model.name: model for model in models}
        self._poll_seconds = poll_seconds  # 0: look once, at the start
        self._stopping = stopping  # ends the polling, and a start that still waits
        self._thread = threading.Thread(target=self._keep_polling, name="versions", daemon=True)

    def start(self) -> None:
        """Load every model, waiting for base paths that are not there yet; `ServingError` when a model cannot be loaded."""
        waiting = list(self._models.values())
        while waiting and not self._stopping.is_set():
            for model in waiting:
                model.poll(time.monotonic())
            waiting = [model for model in waiting if not _is_up(model)]
            if waiting:
                log.warning("waiting for %s", ", ".join(f"{model.name} at {model.base_path}" for model in waiting))
                self._stopping.wait(self._poll_seconds or 1.0)
        if self._poll_seconds > 0:
            self._thread.start()

    def stop(self) -> None:
        """End the polling and unload; call it when no request runs any more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for model in self._models.values():
            model.close()

    def use(self, name: str, number: int | None, label: str) -> AbstractContextManager[tuple[int, SavedModel]]:
        """Hold the version that a request names, the newest one when it names none; see `ModelVersions.use`."""
        if not name:
            raise invalid("ModelSpec has no name specified.")
        model = self._models.get(name)
        if model is None:
            raise not_found(name, number)
        return model.use(number, label)

    def status(self, name: str, number: int | None) -> list[Status]:
        """The state of one version or of all, the newest first."""
        model = self._models.get(name)
        found = [] if model is None else model.status()
        if number is not None:
            found = [status for status in found if status[0] == number]
        if not found:
            what = "any versions" if number is None else f"version {number}"
            raise Refusal(StatusCode.NOT_FOUND, f"Could not find {what} of model {name}")
        return found

    def _keep_polling(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            for model in self._models.values():
                model.poll(time.monotonic())


def _is_up(model: ModelVersions) -> bool:
    states = model.status()
    if any(state is State.AVAILABLE for _, state, _ in states):
        return True
    failures = [f"version {number}: {failure}" for number, state, failure in states if failure and state is State.END]
    if failures and len(failures) == len(states):
        raise ServingError(f"{model.name}: no version under {model.base_path} could be loaded. {'; '.join(failures)}")
    return False

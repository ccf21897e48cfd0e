"""All models of a server: their configuration, the thread that loads and unloads versions, and look-up by name."""
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from grpc import StatusCode

from tfrec.errors import ServingError
from tfrec.model_server.grpc_status import StatusError, invalid
from tfrec.model_server.model_configs import NOTHING, ServedModelConfig
from tfrec.model_server.saved_model import SavedModel
from tfrec.model_server.versions import ModelVersions, State, not_found

log = logging.getLogger(__name__)
Status = tuple[int, State, StatusError | None]


class Registry:
    """The models that are served. `start` and `reload` return once every one of them answers."""

    def __init__(self, make: Callable[[ServedModelConfig], ModelVersions], *, poll_seconds: float, labels_ahead: bool,
                 stopping: threading.Event) -> None:
        """Args:
            make: builds a model that is new.
            poll_seconds: between two looks at the base paths; 0: only when the configuration has changed.
            labels_ahead: whether a new label may name a version that is not available yet.
            stopping: ends the polling, and a start that still waits.
        """
        self._make = make
        self._poll_seconds = poll_seconds
        self._labels_ahead = labels_ahead
        self._stopping = stopping
        self._models: dict[str, ModelVersions] = {}  # replaced whole, so that requests read it without a lock
        self._reloading = threading.Lock()
        self._changed = threading.Event()
        self._stepped = threading.Condition()
        self._thread = threading.Thread(target=self._keep_polling, name="versions", daemon=True)

    def start(self, configs: Sequence[ServedModelConfig]) -> None:
        """Load every model, waiting for base paths that do not exist yet. Raises `ServingError` when a model cannot be loaded."""
        waiting = self._take(configs)
        told = 0
        while waiting and not self._stopping.is_set():
            for model in waiting:
                model.poll(time.monotonic())
            waiting = [model for model in waiting if not model.up()]
            if waiting:
                if len(waiting) != told:
                    log.warning("waiting for %s", ", ".join(f"{model.name} at {model.config.base_path}" for model in waiting))
                told = len(waiting)
                self._stopping.wait(self._poll_seconds or 1.0)
        self._thread.start()

    def reload(self, configs: Sequence[ServedModelConfig], *, wanted: Callable[[], bool] = lambda: True) -> None:
        """Serve these models and no others; returns once the new ones answer, or once `wanted` says that nobody waits for it.

        Raises:
            StatusError: a label may not be assigned, in which case nothing is changed, or a new model cannot be loaded.
        """
        with self._reloading:
            waiting = self._take(configs)
            self._changed.set()
            with self._stepped:
                while waiting and wanted() and not self._stopping.is_set():
                    self._stepped.wait(1.0)
                    try:
                        waiting = [model for model in waiting if not model.up()]
                    except ServingError as error:
                        raise StatusError(StatusCode.UNKNOWN, f"1 model(s) did not become available: {{{error}}}") from error

    def stop(self) -> None:
        """End the polling and unload. Call it when no request runs any more."""
        self._stopping.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join()
        for model in self._models.values():
            model.close()

    def use(self, name: str, number: int | None, label: str | None) -> AbstractContextManager[tuple[int, SavedModel]]:
        """Hold the version that a request names, the newest one when it names none; see `ModelVersions.use`."""
        number = self._version(name, number, label)
        model = self._models.get(name)
        if model is None:
            raise not_found(name, number)
        return model.use(number)

    def _version(self, name: str, number: int | None, label: str | None) -> int | None:
        """The version number that a request names, directly or by label; None for the newest."""
        if not name:
            raise invalid("ModelSpec has no name specified.")
        if label is None:
            return number
        model = self._models.get(name)
        if model is None or label not in model.config.labels:
            raise invalid(f"Unrecognized servable version label: {label}")
        return model.config.labels[label]

    def status(self, name: str, number: int | None) -> list[Status]:
        """The state of one version or of all, the newest first."""
        model = self._models.get(name)
        found = [] if model is None else model.status()
        if number is not None:
            found = [status for status in found if status[0] == number]
        if not found:
            what = "any versions" if number is None else f"version {number}"
            raise StatusError(StatusCode.NOT_FOUND, f"Could not find {what} of model {name}")
        return found

    def _take(self, configs: Sequence[ServedModelConfig]) -> list[ModelVersions]:
        """Adopt `configs`, checking labels first as the real server does; returns the models that are new."""
        for config in configs:
            self._check_labels(config)
        models = dict(self._models)
        new = []
        for config in configs:
            model = models.get(config.name)
            if model is None:
                model = models[config.name] = self._make(config)
                new.append(model)
            elif model.config.policy == NOTHING:
                new.append(model)
            model.config = config
        for name in models.keys() - {config.name for config in configs}:
            models[name].config = replace(models[name].config, policy=NOTHING, labels={})
        self._models = models
        return new

    def _check_labels(self, config: ServedModelConfig) -> None:
        model = self._models.get(config.name)
        for label, number in config.labels.items():
            moved = model is not None and model.config.labels.get(label, number) != number
            if self._labels_ahead and not moved:
                continue
            if model is None or not model.available(number):
                raise StatusError(
                    StatusCode.FAILED_PRECONDITION,
                    f"Request to assign label to version {number} of model {config.name}, which is not currently available for "
                    "inference",
                )

    def _keep_polling(self) -> None:
        while not self._stopping.is_set():
            self._changed.wait(self._poll_seconds or None)
            self._changed.clear()
            for model in list(self._models.values()):
                model.poll(time.monotonic())
            with self._stepped:
                self._stepped.notify_all()

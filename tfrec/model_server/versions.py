"""The versions of one model under its base path: found by polling, loaded, warmed up, swapped and unloaded.

`poll` takes one step and runs in one thread; requests come in any other. The rules are the real server's. A wanted version is
loaded before an unwanted one is unloaded. A version that fails to load is tried again and then ends with its error, and what
served before goes on. A missing base path changes nothing; an empty one unloads everything. A version is unloaded once the last
request that holds it has ended. The last one that was unloaded is kept aside: if the next version has the same graph, it becomes
that one, in a tenth of the time of a load. It costs the memory of one more version.
"""
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar

import tensorflow as tf
from grpc import StatusCode

from tfrec.errors import ServingError
from tfrec.model_server.grpc_status import StatusError, status_error_of
from tfrec.model_server.model_configs import NOTHING, ServedModelConfig
from tfrec.model_server.saved_model import SavedModel

log = logging.getLogger(__name__)
T = TypeVar("T")
_MAX_INT64 = (1 << 63) - 1


class State(Enum):
    """The states of the real server, with the numbers of its proto."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass
class Version:
    """One version and its state."""

    number: int
    path: Path
    state: State = State.START
    failure: StatusError | None = None
    model: SavedModel | None = None
    in_flight: int = 0
    attempts: int = 0
    next_attempt: float = 0.0
    left: bool = False  # it is no longer wanted; once it has ended it is loaded anew if it comes back


@dataclass
class ModelVersions:
    """All versions of a model. Its `config` says which are wanted, and may be replaced between two steps."""

    config: ServedModelConfig
    max_load_retries: int = 5
    load_retry_seconds: float = 60.0
    warm_up: bool = True
    load: Callable[[Path], SavedModel] = SavedModel
    _versions: dict[int, Version] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _spare: SavedModel | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.name

    def poll(self, now: float) -> None:
        """Take one step towards the wanted versions; `now` is a monotonic time in seconds."""
        wanted = self._wanted()
        if wanted is not None:
            for number in sorted(wanted):
                version = self._versions.get(number)
                if version is None or (version.state is State.END and version.left):
                    with self._lock:
                        version = self._versions[number] = Version(number, wanted[number])
                version.left = False
                if version.state in (State.START, State.LOADING) and now >= version.next_attempt:
                    self._try_to_load(version, now)
            self._drop_unwanted(wanted)
        self._close_idle()

    @contextmanager
    def use(self, number: int | None = None) -> Iterator[tuple[int, SavedModel]]:
        """Hold a version for one request: the given one, else the newest that is available."""
        with self._lock:
            able = {n: version for n, version in self._versions.items() if version.state is State.AVAILABLE}
            version = able.get(max(able, default=-1) if number is None else number)
            if version is None:
                raise not_found(self.name, number)
            version.in_flight += 1
        try:
            assert version.model is not None
            yield version.number, version.model
        finally:
            with self._lock:
                version.in_flight -= 1

    def status(self) -> list[tuple[int, State, StatusError | None]]:
        """(number, state, why it failed) of every version ever seen, the newest first."""
        with self._lock:
            return [(n, v.state, v.failure) for n, v in sorted(self._versions.items(), reverse=True)]

    def available(self, number: int) -> bool:
        """Whether version `number` answers."""
        with self._lock:
            return number in self._versions and self._versions[number].state is State.AVAILABLE

    def up(self) -> bool:
        """Whether any version answers. Raises `ServingError` when none does and all wanted ones have failed for good."""
        with self._lock:
            versions = list(self._versions.values())
        if any(version.state is State.AVAILABLE for version in versions):
            return True
        ended = [version for version in versions if not version.left]
        if ended and all(version.state is State.END for version in ended):
            failures = "; ".join(f"version {version.number}: {version.failure}" for version in ended)
            raise ServingError(f"{self.name}: no version under {self.config.base_path} could be loaded. {failures}")
        return False

    def close(self) -> None:
        """Unload everything. The caller waits for requests that still run."""
        self._drop_unwanted(())
        self._close_idle()
        self._keep_aside(None)

    def _wanted(self) -> dict[int, Path] | None:
        config = self.config
        if config.policy == NOTHING:
            return {}
        try:
            entries = [
                entry
                for entry in config.base_path.iterdir()
                if re.fullmatch(r"[0-9]{1,19}", entry.name) and entry.is_dir()
            ]
        except OSError as error:
            log.warning("%s: cannot list the base path, keeping what is served: %s", self.name, error)
            return None
        found = {int(entry.name): entry for entry in entries if int(entry.name) <= _MAX_INT64}
        return {number: found[number] for number in config.policy.wanted(set(found))}

    def _try_to_load(self, version: Version, now: float) -> None:
        with self._lock:
            version.state = State.LOADING
        try:
            model, requests = self._load(version.path)
        except Exception as error:  # a version may be broken in any way; the server must outlive it
            log.error("%s version %d: loading failed: %s", self.name, version.number, error)
            with self._lock:
                version.attempts += 1
                version.failure = status_error_of(error)
                version.next_attempt = now + self.load_retry_seconds
                if version.attempts > self.max_load_retries:
                    version.state = State.END
            return
        with self._lock:
            version.model, version.failure, version.state = model, None, State.AVAILABLE
        log.info("%s version %d: available after %d warm-up requests", self.name, version.number, requests)

    def _load(self, path: Path) -> tuple[SavedModel, int]:
        with self._lock:
            serving = any(version.state is State.AVAILABLE for version in self._versions.values())
        spare = _behind_requests(lambda: self._become(path)) if serving and self._spare is not None else self._become(path)
        model = spare or self.load(path)
        try:
            if not self.warm_up:
                return model, 0
            return model, _behind_requests(model.warm_up) if serving else model.warm_up()
        except BaseException:
            model.close()
            raise

    def _become(self, path: Path) -> SavedModel | None:
        """The version that is kept aside, as the one in `path`; None when it cannot be that."""
        spare, self._spare = self._spare, None
        try:
            if spare is not None and spare.become(path):
                return spare
        except (OSError, tf.errors.OpError) as error:  # a load will say what is wrong with the version
            log.warning("%s: %s is loaded anew: %s", self.name, path, error)
        if spare is not None:
            spare.close()
        return None

    def _keep_aside(self, model: SavedModel | None) -> None:
        if self._spare is not None:
            self._spare.close()
        self._spare = model

    def _drop_unwanted(self, wanted: Collection[int]) -> None:
        with self._lock:
            serving = any(v.state is State.AVAILABLE for n, v in self._versions.items() if n in wanted)
            for number, version in self._versions.items():
                if number in wanted:
                    continue
                if version.state is State.AVAILABLE and (serving or not wanted):
                    version.state = State.UNLOADING
                elif version.state in (State.START, State.LOADING):
                    version.state = State.END
                version.left = True

    def _close_idle(self) -> None:
        with self._lock:
            idle = [v for v in self._versions.values() if v.state is State.UNLOADING and not v.in_flight]
        for version in idle:
            assert version.model is not None
            model = version.model
            with self._lock:
                version.model, version.state = None, State.END
            if model.can_become and self.config.policy != NOTHING:
                self._keep_aside(model)
            else:
                model.close()
            log.info("%s version %d: unloaded", self.name, version.number)


def _behind_requests(work: Callable[[], T]) -> T:
    """Do `work`, such as seconds of optimising graphs, in a thread of low priority.

    10 steps of niceness are 1/9 of the weight of requests. Only what is outside of Python runs so. The rest of a load holds
    Python's lock for 50 ms at a time, and a thread that yields the processor while it holds the lock delays every other one. The
    thread is a new one because only root may lower niceness again.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="warm-up", initializer=_lower_priority) as pool:
        return pool.submit(work).result()


def _lower_priority() -> None:
    if sys.platform == "linux":  # elsewhere a priority is a process's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + 10)


def not_found(name: str, number: int | None) -> StatusError:
    """No such model, or no such version of it."""
    which = f"Latest({name})" if number is None else f"Specific({name}, {number})"
    return StatusError(StatusCode.NOT_FOUND, f"Servable not found for request: {which}")

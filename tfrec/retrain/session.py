"""What the runs of one process share: the model with its traced steps, and the server that verifies.

To trace the graphs of a training step, and to start a server, takes longer than to learn from a few thousand events. So a process
that runs every few seconds loads each parent's weights into the variables that it has, and keeps its server. Nothing that a run
depends on is here: it comes to the same weights and the same verdict as in a process of its own.
"""
import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import tensorflow as tf

from tfrec.config import Config, Device
from tfrec.data.behaviour.user_table import UserTable, read_users
from tfrec.data.items.catalogue import Catalogue
from tfrec.data.people.erasures import load_people
from tfrec.data.readers.files import contents_digest
from tfrec.data.readers.quarantine import Quarantine
from tfrec.models.recommender import Recommender
from tfrec.release.verify import Verifier
from tfrec.training import checkpoint
from tfrec.training.devices import choose_strategy
from tfrec.training.loop import optimiser


class Stopped(BaseException):
    """A run was told to stop, and did so between two of its steps; the next run takes it up, as after a kill."""


class Session:
    """A context manager; leaving it ends the server.

        with Session() as session:
            while True:
                retrain(config, now=..., session=session)

    Attributes:
        stopping: set it to stop a run at its next step.
    """

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._held = ExitStack()
        self._verifier: Verifier | None = None
        self._model: tuple[Recommender, Any] | None = None
        self._known_users: tuple[str, UserTable] | None = None
        self._strategies: dict[Device, tf.distribute.Strategy] = {}

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.forget()

    def forget(self) -> None:
        """Keep nothing: after an error nobody knows in which state it is."""
        self._verifier = self._model = None
        self._held.close()

    def check(self) -> None:
        """Raise `Stopped` when the run shall stop."""
        if self.stopping.is_set():
            raise Stopped

    def strategy(self, device: Device) -> tf.distribute.Strategy:
        """The strategy for a kind of device; variables belong to one strategy, so it is the same one for all runs."""
        if device not in self._strategies:
            self._strategies[device] = choose_strategy(device)
        return self._strategies[device]

    def load(self, directory: Path, config: Config, catalogue: Catalogue) -> tuple[Recommender, Any]:
        """The recommender of a checkpoint and its optimiser, in the variables of the run before where their shapes allow it.

        Call it inside the scope of the strategy. What an earlier call returned must not be used any more.
        """
        before, self._model = self._model, None  # should this fail, nothing half loaded is used again
        if before is not None and checkpoint.fits(directory, config, before[0], catalogue):
            onto, optimizer = before
        else:
            onto, optimizer = None, optimiser(config, learning_rate=config.retrain.learning_rate)
        recommender, _ = checkpoint.load(directory, config, catalogue=catalogue, optimizer=optimizer, onto=onto)
        optimizer.learning_rate = config.retrain.learning_rate  # and not the parent's
        recommender.users = self._users(config)
        self._model = recommender, optimizer
        return recommender, optimizer

    def _users(self, config: Config) -> UserTable:
        """What is known about users, by the names that the log has for them; read again when the file has changed."""
        file = config.features.users
        if file is None:
            return {}
        people = load_people(config)
        digest = contents_digest(file) + people.digest
        if self._known_users is None or self._known_users[0] != digest:
            quarantine = Quarantine(config.run / "retrain" / "quarantine-users.jsonl")
            self._known_users = digest, read_users(config.features, key=people.of, quarantine=quarantine, people=people)
        return self._known_users[1]

    def verifier(self) -> Verifier:
        """The verifier, which gets ready from the first call on."""
        if self._verifier is None:
            self._verifier = self._held.enter_context(Verifier())
        return self._verifier
